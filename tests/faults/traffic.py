"""Sends requests at a fixed rate whatever becomes of them, over connections that are kept (a process of its own).

Run with a JSON object (``Order``) as its argument. Says so in a line when it begins. Ends after ``seconds``, or sooner
on SIGTERM, and then writes what came of each request to a file: four doubles, which are the number of the stream, the
status or an ``End``, when it was due (seconds of the machine's monotonic clock), and how long it took from then.
"""

import asyncio
import gc
import json
import random
import secrets
import signal
import sys
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks.suite.asking import is_whole, request
from verifier.core import base64url

TICK = 0.001
"""Seconds between two looks at what is due."""


class End(IntEnum):
    """What came of a request that got no answer, or not its own."""

    LOST = 0  # the connection ended
    LATE = 1  # given up after ``timeout``
    UNSENT = 2  # no connection was free in time
    CANCELLED = 3  # given up on purpose
    MIXED_UP = 4  # 200, and the answer is about another token


@dataclass(frozen=True, slots=True)
class Stream:
    """``rate`` in requests per second. ``allowed``: whether 200 is right. ``tokens``: a file with one a line, and the
    subject that each speaks for. ``forge``: what is new in each of them, ``signature``, ``kid`` or ``opaque``.
    ``cancelled``: the share of requests that are given up within 30 ms."""

    name: str
    rate: float
    allowed: bool
    tokens: str
    forge: str = ""
    path: str = "/verify"
    cancelled: float = 0.0


@dataclass(frozen=True, slots=True)
class Order:
    """``connections``: at most so many. ``timeout``: seconds for an answer; ``patience``: for a connection before."""

    port: int
    seconds: float
    connections: int
    timeout: float
    patience: float
    streams: tuple[Stream, ...]
    results: str
    seed: int = 0


@dataclass(slots=True)
class Asked:
    """A request that is due, or on its way."""

    stream: int
    due: float
    message: bytes
    subject: bytes
    cancelled: bool
    sent: float = 0.0


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._received = b""
        self.transport: asyncio.Transport | None = None
        self.asked: Asked | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if self.asked is None or not is_whole(self._received):
            return
        answer, self._received = self._received, b""
        asked, self.asked = self.asked, None
        status = int(answer[9:12])
        if status == 200 and asked.subject and asked.subject not in answer:
            status = End.MIXED_UP
        self._run.note(asked, status)
        if b"\r\nconnection: close\r\n" in answer[: answer.index(b"\r\n\r\n") + 2].lower():
            self.abandon()
        else:
            self._run.idle.append(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        asked, self.asked = self.asked, None
        if asked is not None:
            self._run.note(asked, End.CANCELLED if asked.cancelled else End.LOST)
        if self.transport is not None:
            self.transport = None
            self._run.gone(self)

    def abandon(self) -> None:
        if self.transport is not None:
            self.transport.abort()


@dataclass
class Run:
    """One order, carried out."""

    order: Order
    idle: deque[Connection] = field(default_factory=deque)
    _waiting: deque[Asked] = field(default_factory=deque)
    _under_way: deque[tuple[Connection, Asked]] = field(default_factory=deque)
    _results: "array[float]" = field(default_factory=lambda: array("d"))
    _open: int = 0
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def carry_out(self) -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        self._chance = random.Random(self.order.seed)
        makers = [cycle(messages(stream, self.order.seconds)) for stream in self.order.streams]
        gc.freeze()
        print("begins", flush=True)
        began = time.monotonic()
        sent = [0] * len(makers)
        elapsed = 0.0
        while not stopped.is_set() and elapsed < self.order.seconds:
            now = time.monotonic()
            elapsed = min(now - began, self.order.seconds)
            for number, stream in enumerate(self.order.streams):
                while sent[number] < elapsed * stream.rate:
                    message, subject = next(makers[number])
                    cancelled = bool(stream.cancelled) and self._chance.random() < stream.cancelled
                    due = began + sent[number] / stream.rate
                    self._waiting.append(Asked(number, due, message, subject, cancelled))
                    sent[number] += 1
            self._turn(now)
            await asyncio.sleep(TICK)
        while self._waiting or self._under_way:
            self._turn(time.monotonic())
            await asyncio.sleep(TICK)
        with Path(self.order.results).open("wb") as file:
            self._results.tofile(file)

    def note(self, asked: Asked, status: int) -> None:
        self._results.extend((asked.stream, status, asked.due, time.monotonic() - asked.due))

    def gone(self, connection: Connection) -> None:
        self._open -= 1
        if connection in self.idle:
            self.idle.remove(connection)

    def _turn(self, now: float) -> None:
        """Give up what is late, and send what can be sent."""
        while self._under_way and (
            self._under_way[0][1].sent < now - self.order.timeout or self._is_over(*self._under_way[0])
        ):
            connection, asked = self._under_way.popleft()
            if not self._is_over(connection, asked):
                connection.asked = None
                self.note(asked, End.LATE)
                connection.abandon()
        while self._waiting and self._waiting[0].due < now - self.order.patience:
            self.note(self._waiting.popleft(), End.UNSENT)
        while self._waiting and self.idle:
            self._send(self.idle.popleft(), self._waiting.popleft())
        wanted = min(len(self._waiting), self.order.connections - self._open)
        for _ in range(wanted):
            self._open += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _is_over(connection: Connection, asked: Asked) -> bool:
        return connection.asked is not asked

    def _send(self, connection: Connection, asked: Asked) -> None:
        if connection.transport is None:
            self._waiting.appendleft(asked)
            return
        connection.asked, asked.sent = asked, time.monotonic()
        connection.transport.write(asked.message)
        self._under_way.append((connection, asked))
        if asked.cancelled:
            delay = self._chance.random() * 0.03
            asyncio.get_running_loop().call_later(delay, partial(self._cancel, connection, asked))

    @staticmethod
    def _cancel(connection: Connection, asked: Asked) -> None:
        if connection.asked is asked:
            connection.abandon()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.order.timeout):
                _, made = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.order.port)
        except OSError:  # a time limit is one too
            await asyncio.sleep(0.02)
            self._open -= 1
        else:
            self.idle.append(made)


def messages(stream: Stream, seconds: float) -> list[tuple[bytes, bytes]]:
    """Requests, each with the subject that an allow must name. What is forged is made now, once for each request, as it
    takes longer than to send it."""
    lines = [line.split() for line in Path(stream.tokens).read_text().splitlines()] if stream.tokens else [[""]]
    if stream.forge:
        number = int(stream.rate * seconds) + 1
        return [(request(forged(stream.forge, secrets.choice(lines)[0]), stream.path), b"") for _ in range(number)]
    known = ((line[0], line[1] if len(line) > 1 else "") for line in lines)
    return [(request(text, stream.path), subject.encode()) for text, subject in known]


def forged(what: str, genuine: str) -> str:
    """A token like ``genuine`` that was never sent before, and is good for nothing."""
    if what == "opaque":
        return secrets.token_urlsafe(32)
    header, payload, signature = genuine.split(".")
    if what == "kid":
        members: dict[str, Any] = json.loads(base64url.decode(header))
        header = base64url.encode(json.dumps({**members, "kid": secrets.token_hex(8)}).encode())
    else:
        signature = secrets.token_urlsafe(len(signature) * 3 // 4)
    return f"{header}.{payload}.{signature}"


def main() -> None:
    said = json.loads(sys.argv[1])
    said["streams"] = tuple(Stream(**stream) for stream in said["streams"])
    uvloop.run(Run(Order(**said)).carry_out())


if __name__ == "__main__":
    main()
