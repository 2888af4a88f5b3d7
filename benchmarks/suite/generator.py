"""Sends requests at a fixed rate, whatever becomes of them, or as fast as its connections allow (a process of its own).

The time of an answer counts from when its request was to be sent, so that a server that stalls is charged for those
who would have come meanwhile. The loop never sleeps: its clock is as exact as the processor is its own. Run with a
JSON object (``Order``) as its argument; answers with one on standard output, and writes the times to a file.
"""

import asyncio
import gc
import json
import sys
import time
from array import array
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.suite.asking import is_whole, request

LATE = 0.001
PATIENCE = 10.0
"""Seconds without any answer after which the rest is given up."""


@dataclass(frozen=True, slots=True)
class Order:
    """``rate`` in requests per second, 0 for as fast as possible. ``times``: the file for each answer's seconds."""

    port: int
    path: str
    tokens: str
    first: int
    step: int
    requests: int
    rate: float
    connections: int
    times: str


@dataclass(slots=True)
class Outcome:
    """``late``: requests that the generator itself sent more than 1 ms after their time. ``waited``: how often no
    connection was free for a request that was due."""

    good: int = 0
    other: int = 0
    late: int = 0
    waited: int = 0
    seconds: float = 0.0


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._transport: asyncio.Transport
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def send(self, message: bytes, due: float) -> None:
        self._due = due
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if is_whole(self._received):
            good = self._received[9:10] == b"2"
            self._received = b""
            self._run.answered(self, time.perf_counter() - self._due, good=good)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost()


class Run:
    """One order, carried out."""

    def __init__(self, order: Order) -> None:
        self.outcome = Outcome()
        self.times = array("d")
        self._order = order
        lines = Path(order.tokens).read_text().split()
        self._messages = [request(line, order.path) for line in lines[order.first :: order.step]]
        self._idle: deque[Connection] = deque()
        self._sent = 0
        self._behind = False  # because no connection was free, which is no fault of the generator
        self._over = False

    async def carry_out(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._order.connections):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._order.port)
            self._idle.append(connection)
        gc.collect()
        gc.disable()
        self._interval = 1 / self._order.rate if self._order.rate else 0.0
        self._began = self._last = time.perf_counter()
        self._done = loop.create_future()
        self._turn()
        await self._done
        self._over = True
        self.outcome.seconds = self._last - self._began

    def _turn(self) -> None:
        """Send what is due; then again, without a pause."""
        now = time.perf_counter()
        while self._sent < self._order.requests and (due := self._began + self._sent * self._interval) <= now:
            if not self._idle:
                self.outcome.waited += not self._behind
                self._behind = True
                break
            self.outcome.late += not self._behind and now - due > LATE
            self._idle.popleft().send(self._messages[self._sent % len(self._messages)], due)
            self._sent += 1
        else:
            self._behind = False
        if len(self.times) == self._order.requests or now - self._last > PATIENCE:
            self._done.set_result(None)
        else:
            asyncio.get_running_loop().call_soon(self._turn)

    def answered(self, connection: Connection, took: float, *, good: bool) -> None:
        self._last = time.perf_counter()
        self.times.append(took)
        if good:
            self.outcome.good += 1
        else:
            self.outcome.other += 1
        self._idle.append(connection)

    def lost(self) -> None:
        if not self._over:
            self.outcome.other += 1


def main() -> None:
    order = Order(**json.loads(sys.argv[1]))
    run = Run(order)
    uvloop.run(run.carry_out())
    with Path(order.times).open("wb") as file:
        run.times.tofile(file)
    print(json.dumps(asdict(run.outcome)))


if __name__ == "__main__":
    main()
