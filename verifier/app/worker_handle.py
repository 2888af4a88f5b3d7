"""One worker, as its supervisor sees it: a process that was started, and what is said over its channel."""

import asyncio
from asyncio.subprocess import Process
from time import monotonic
from typing import Any

from verifier.app.channel import (
    Ask,
    Channel,
    Explain,
    ExplainReply,
    Failed,
    Order,
    Prepare,
    Prepared,
    Report,
    Said,
    Serving,
)
from verifier.config import Problem, Settings
from verifier.engine import Question
from verifier.server.status.explaining import Explained

LAST_WORDS = 1.0
"""Seconds in which all that a process said is read after its end."""


class WorkerHandle:
    """``last`` is its latest report."""

    def __init__(self, number: int, process: Process, channel: Channel) -> None:
        self.number = number
        self.last = Report(0)
        self.failed: Failed | None = None
        self.serving_since: float | None = None
        self.begun = asyncio.Event()  # it serves, or never will
        self._prepared: dict[int, asyncio.Future[tuple[Problem, ...]]] = {}
        self._process = process
        self._channel = channel
        self._asked = 0
        self._unanswered: dict[int, tuple[asyncio.Future[None], float]] = {}  # by number, the first one first
        self._explaining: dict[int, asyncio.Future[Explained | None]] = {}  # by number
        self._reading = asyncio.create_task(self._read())

    def tell(self, order: Order) -> None:
        self._channel.send(order)

    async def prepare(self, number: int, settings: Settings, within: float) -> tuple[Problem, ...]:
        """Have it get ready for other settings, in so many seconds; what keeps it from that. It may be gone then."""
        told: asyncio.Future[tuple[Problem, ...]] = asyncio.get_running_loop().create_future()
        self._prepared[number] = told
        self._channel.send(Prepare(number, settings))
        waiting: set[asyncio.Future[Any]] = {told, self._reading}
        await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        del self._prepared[number]
        if told.done():
            return told.result()
        return () if self._reading.done() else (Problem("", f"worker {self.number} did not get ready for it in time"),)

    async def ask(self, within: float) -> bool:
        """Whether it has taken all orders before this question and said how it fares, in so many seconds; or is gone,
        and will take none."""
        if self._reading.done():
            return True
        self._asked += 1
        answered = asyncio.get_running_loop().create_future()
        self._unanswered[self._asked] = answered, monotonic()
        self._channel.send(Ask(self._asked))
        await asyncio.wait({answered}, timeout=within)
        return answered.done()

    async def explain(self, question: Question, within: float) -> Explained | None:
        """What it makes of the question; None where it does not say so in so many seconds."""
        if self._reading.done():
            return None
        self._asked += 1
        number = self._asked
        told = self._explaining[number] = asyncio.get_running_loop().create_future()
        self._channel.send(Explain(number, question))
        await asyncio.wait({told}, timeout=within)
        self._explaining.pop(number, None)
        return told.result() if told.done() else None

    @property
    def pid(self) -> int:
        return self._process.pid

    def owes(self, seconds: float) -> bool:
        """Whether it owes an answer for longer than so many seconds."""
        return any(monotonic() - asked > seconds for _, asked in self._unanswered.values())

    def stop(self) -> None:
        """Ask it to end when what it has begun is done."""
        if self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> int:
        """Its exit code, negative for a signal, once all that it said was read."""
        code = await self._process.wait()
        await asyncio.wait({self._reading}, timeout=LAST_WORDS)
        self._reading.cancel()
        await self._channel.close()
        return code

    async def lasts(self, seconds: float) -> bool:
        """Whether it lives that long from now on."""
        done, _ = await asyncio.wait({self._reading}, timeout=seconds)
        return not done

    async def _read(self) -> None:
        try:
            while (message := await self._channel.receive()) is not None:
                self._take(message)
        except Exception:  # noqa: BLE001 - whatever it was, nobody could tell it of a revocation any more
            self.kill()
        finally:
            self.begun.set()
            self._answered(self._asked)
            for number in [*self._explaining]:
                self._told(number, None)

    def _take(self, message: Said) -> None:
        match message:
            case Report(answers=number):
                self.last = message
                self._answered(number)
            case ExplainReply(number, explained):
                self._told(number, explained)
            case Serving():
                self.serving_since = monotonic()
                self.begun.set()
            case Failed():
                self.failed = message
            case Prepared(number, problems) if number in self._prepared:
                self._prepared[number].set_result(problems)

    def _told(self, number: int, explained: Explained | None) -> None:
        waiting = self._explaining.pop(number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(explained)

    def _answered(self, number: int) -> None:
        for asked in [asked for asked in self._unanswered if asked <= number]:
            waiting, _ = self._unanswered.pop(asked)
            if not waiting.done():
                waiting.set_result(None)
