"""One of several processes that answer gateways. It obeys its supervisor, and ends with it."""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from time import time
from typing import Any

from verifier.app.assembly import Assembly, assemble, observing, open_ports
from verifier.app.channel import (
    Ask,
    Channel,
    Discard,
    Drain,
    Explain,
    ExplainReply,
    Failed,
    Order,
    Prepare,
    Prepared,
    Report,
    Serving,
    Start,
    Switch,
)
from verifier.app.generation import Generation
from verifier.app.tracing import open_tracing
from verifier.config import ConfigError, Settings
from verifier.core.revocation import Lift, Revocation, Revocations
from verifier.observability.log import Logger


async def work(start: Start, end: socket.socket, log: Logger, lines_dropped: Callable[[], int]) -> bool:
    """Answer gateways until SIGTERM, or until nobody is at the other ``end``. Whether it came to that."""
    worker = _Worker(start, await Channel.of(end), log, lines_dropped)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stopping.set)
    try:
        await worker.serve()
    except ConfigError as error:
        worker.channel.send(Failed(problems=error.problems))
    except OSError as error:
        worker.channel.send(Failed(error=error))
    else:
        worker.report()
    finally:
        await worker.end()
    return worker.served


class _Worker:
    def __init__(self, start: Start, channel: Channel, log: Logger, lines_dropped: Callable[[], int]) -> None:
        self.channel = channel
        self.stopping = asyncio.Event()
        self.served = False
        self._start = start
        self._log = log
        self._lines_dropped = lines_dropped
        self._held = Revocations(start.revocations)
        self._made: Assembly | None = None
        self._next: tuple[int, Generation] | None = None
        self._changing: asyncio.Task[None] | None = None
        self._asked = 0
        self._obeying = asyncio.create_task(self._obey())

    async def serve(self) -> None:
        """Raises ``ConfigError`` and ``OSError`` where it cannot be."""
        settings = self._start.settings
        sockets = [socket.socket(fileno=number) for number in self._start.sockets]
        async with AsyncExitStack() as stack:
            tracing = open_tracing(stack, self._log, self._start.number)
            observer = observing(settings, self._log, self._lines_dropped, tracing)
            self._made = await assemble(settings, observer, stack, self._held)
            stack.push_async_callback(self._stop_changing)
            await open_ports(stack, self._made, sockets)
            self.report()
            self.channel.send(Serving())
            self.served = True
            await self.stopping.wait()

    def report(self) -> None:
        if self._made is None:
            self.channel.send(Report(self._asked))
        else:
            made, noted = self._made, self._made.observer.recent.noted()
            self.channel.send(Report(self._asked, made.gauges.families(), made.readiness.state(), noted))

    def _explain(self, order: Explain) -> None:
        explained = None
        if self._made is not None:
            try:
                explained = self._made.explainer.explain(order.question)
            except Exception as error:  # noqa: BLE001 - whatever was posted, the supervisor must still be obeyed
                self._made.observer.defect(error)
        self.channel.send(ExplainReply(order.number, explained))

    async def end(self) -> None:
        self._obeying.cancel()
        await asyncio.wait({self._obeying})
        await self.channel.close()

    async def _obey(self) -> None:
        try:
            while (order := await self.channel.receive()) is not None:
                self._take(order)
        finally:  # the supervisor is gone, or cannot be understood
            self.stopping.set()

    def _take(self, order: Order) -> None:
        match order:
            case Ask(number):
                self._asked = number
                self.report()
            case Explain():
                self._explain(order)
            case Revocation():
                self._held.remove_ended(time())
                self._held.add(order)
            case Lift(revocation_id):
                self._held.remove(revocation_id)
            case Prepare(number, settings):
                self._in_turn(self._prepare(number, settings))
            case Discard():
                self._in_turn(self._discard())
            case Switch(number) if self._made is not None and self._next is not None and self._next[0] == number:
                self._made.switch(self._next[1])
                self._next = None
            case Drain() if self._made is not None:
                self._made.drain()

    def _in_turn(self, work: Coroutine[Any, Any, None]) -> None:
        """After what was begun before: the supervisor may have given up on that."""

        async def run(before: asyncio.Task[None] | None) -> None:
            if before is not None:
                await asyncio.wait({before})
            await work

        self._changing = asyncio.create_task(run(self._changing))

    async def _prepare(self, number: int, settings: Settings) -> None:
        await self._discard()
        if self._made is None:
            return
        try:
            self._next = number, await self._made.prepare(settings)
        except ConfigError as error:
            self.channel.send(Prepared(number, error.problems))
        else:
            self.channel.send(Prepared(number))

    async def _discard(self) -> None:
        unused, self._next = self._next, None
        if self._made is not None and unused is not None:
            await self._made.discard(unused[1])

    async def _stop_changing(self) -> None:
        if self._changing is not None:
            self._changing.cancel()
            await asyncio.wait({self._changing})
        await self._discard()
