"""Redis as a place that may fail, lie or be slow, and never harms: whatever goes wrong is a miss.

Rules of this module:

* Nothing waits for Redis longer than ``timeout``, connecting and waiting for a connection included, and nothing
  is tried twice. redis-py's own retries, which can take a minute, are off.
* Whoever does not answer is not asked: after some failures in a row a breaker opens, and only a probe of our
  own, in the background, closes it.
* What is stored is sealed (``core/sealing.py``). What does not open is counted, and a miss.
* Look-ups and writes of one turn of the event loop travel together.
* Commands are tasks of the store: a client that hangs up cancels none, so no reply can be left for the next one.
  (And a cancellation can get lost in redis-py, as in ``asyncio.wait_for`` before Python 3.12.)
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, time
from typing import Any, Protocol, TypeVar

from redis.asyncio import RedisCluster
from redis.exceptions import ClusterError, NoPermissionError, RedisError, ResponseError

from verifier.core.breaker import Breaker
from verifier.core.sealing import ENTROPY_BYTES, Refusal, Refused, Sealer
from verifier.ports import Forbidden, Unreachable
from verifier.store.clients import Client

PROBE_PAUSE = 0.25
"""Seconds between two probes while the breaker is open."""

BATCH = 256
"""Most entries in one command."""

LOG_START = "0-0"
"""Before the first entry of a log."""

_FIELD = b"e"

MAX_WRITES = 4_096
"""Writes that may wait; more are dropped, as they are only there to save work."""

Result = TypeVar("Result")
Item = TypeVar("Item")
Write = tuple[bytes, int]
"""An entry, and the milliseconds for which it is kept."""


class StoreObserver(Protocol):
    """Told how Redis fares."""

    def redis_took(self, command: str, seconds: float) -> None: ...

    def redis_failed(self, command: str, error: Exception, seconds: float) -> None: ...

    def redis_breaker(self, *, is_open: bool, cause: str = "") -> None: ...

    def entry_refused(self, cause: str) -> None: ...

    def write_dropped(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a log, with its place there. ``content`` is None where it does not open, or not any more.
    ``is_lasting`` where it will still open when only the first of our keys is left."""

    position: str
    content: bytes | None
    is_over: bool = False
    is_lasting: bool = True


@dataclass(frozen=True, slots=True)
class LogState:
    """The position that was given last, and how many entries there are."""

    last: str
    length: int


class RedisStore:
    """Sealed entries under ``prefix``. ``timeout`` in seconds."""

    def __init__(
        self,
        client: Client,
        *,
        sealer: Sealer,
        prefix: str,
        timeout: float,
        connections: int,
        observer: StoreObserver,
    ) -> None:
        self._client = client
        self._sealer = sealer
        self._prefix = prefix
        self._timeout = timeout
        self._turns = asyncio.Semaphore(connections)
        self._observer = observer
        self._breaker = Breaker()
        self._lookups: dict[str, asyncio.Future[bytes | None]] = {}
        self._gathered: list[str] = []
        self._writes: list[tuple[str, Write | None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._prober: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def breaker_is_open(self) -> bool:
        return self._breaker.is_open

    async def stop(self) -> None:
        """Let what is under way end, which takes no longer than ``timeout``, and close the connections."""
        self._stopped = True
        self._send_writes()
        if self._prober is not None:
            self._prober.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(RedisError, OSError):
            await self._client.aclose()

    async def get(self, name: str) -> bytes | None:
        """The content of the entry, or None. Many who ask for one name ask Redis once. Raises ``Unreachable``."""
        if self._breaker.is_open:
            raise Unreachable("the breaker is open")
        lookup = self._lookups.get(name)
        if lookup is None:
            loop = asyncio.get_running_loop()
            lookup = self._lookups[name] = loop.create_future()
            if not self._gathered:
                loop.call_soon(self._send_lookups)
            self._gathered.append(name)
        return await asyncio.shield(lookup)

    def put(self, name: str, content: bytes, seconds: float) -> None:
        """Store an entry for ``seconds``, without waiting for it."""
        if seconds > 0:
            place = self._place(name)
            self._write_soon(place, (self._seal(place, content, seconds), _milliseconds(seconds)))

    async def claim(self, name: str, content: bytes, seconds: float) -> bool:
        """Take ``name`` for ``seconds``, if nobody has it. Raises ``Unreachable``."""
        place = self._place(name)
        entry = self._seal(place, content, seconds)
        taken = await self._shielded(
            "claim", lambda client: client.set(place, entry, nx=True, px=_milliseconds(seconds))
        )
        return bool(taken)

    def drop(self, name: str) -> None:
        """Delete an entry, after what was written before, without waiting for it."""
        self._write_soon(self._place(name), None)

    def secret_name(self, digest: bytes) -> str:
        """A name for what ``digest`` stands for, which tells nothing to those without the key."""
        return self._sealer.name(digest)

    async def append(self, log: str, contents: Sequence[tuple[bytes, float]]) -> list[str]:
        """Add entries, each with its end in seconds since 1970; returns their positions. Raises ``Unreachable``."""
        place = self._place(log)
        positions: list[str] = []
        for batch in _batches(contents):

            async def send(client: Client, batch: Sequence[tuple[bytes, float]] = batch) -> list[bytes]:
                pipeline = client.pipeline(transaction=False)
                for content, expires_at in batch:
                    pipeline.xadd(place, {_FIELD: self._sealer.seal(place, content, expires_at, _entropy())})
                added: list[bytes] = await pipeline.execute()
                return added

            positions += [position.decode() for position in await self._shielded("xadd", send)]
        return positions

    async def read(self, log: str, after: str, count: int) -> list[LogEntry]:
        """The next entries of a log. Raises ``Unreachable``."""
        place = self._place(log)
        found = await self._shielded("xread", lambda client: client.xread({place: after}, count=count))
        entries = found[0][1] if found else []
        return [self._log_entry(place, position.decode(), fields.get(_FIELD, b"")) for position, fields in entries]

    async def log_state(self, log: str) -> LogState:
        """Raises ``Unreachable``."""
        place = self._place(log)
        if not await self._shielded("exists", lambda client: client.exists(place)):
            return LogState(LOG_START, 0)
        about = await self._shielded("xinfo", lambda client: client.xinfo_stream(place))
        return LogState(about["last-generated-id"].decode(), int(about["length"]))

    async def remove_log(self, log: str) -> None:
        """Raises ``Unreachable``."""
        place = self._place(log)
        await self._shielded("del", lambda client: client.delete(place))

    async def remove(self, log: str, positions: Sequence[str]) -> None:
        """Take entries out of a log. Raises ``Unreachable``."""
        for batch in _batches(positions):
            await self._shielded("xdel", partial(_xdel, place=self._place(log), positions=batch))

    def _place(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _seal(self, place: str, content: bytes, seconds: float) -> bytes:
        return self._sealer.seal(place, content, time() + seconds, _entropy())

    def _open(self, place: str, entry: bytes | None) -> bytes | None:
        if entry is None:
            return None
        try:
            return self._sealer.open(place, entry, time())
        except Refused as refusal:
            self._observer.entry_refused(refusal.cause)
            return None

    def _log_entry(self, place: str, position: str, entry: bytes) -> LogEntry:
        try:
            content = self._sealer.open(place, entry, time())
            return LogEntry(position, content, is_lasting=self._sealer.is_own(entry))
        except Refused as refusal:
            if refusal.cause is Refusal.EXPIRED:
                return LogEntry(position, None, is_over=True)
            self._observer.entry_refused(refusal.cause)
            return LogEntry(position, None)

    def _send_lookups(self) -> None:
        names, self._gathered = self._gathered, []
        for batch in _batches(names):
            self._start(self._look_up(batch))

    async def _look_up(self, names: Sequence[str]) -> None:
        places = [self._place(name) for name in names]
        lookups = [self._lookups[name] for name in names]
        try:
            found: Sequence[bytes | None] = await self._run("mget", lambda client: _mget(client)(places))
            contents = [self._open(place, entry) for place, entry in zip(places, found, strict=True)]
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may be left waiting
            for lookup in lookups:
                lookup.set_exception(Unreachable(str(error)))
                lookup.exception()  # seen: everybody may have given up
        else:
            for lookup, content in zip(lookups, contents, strict=True):
                lookup.set_result(content)
        finally:
            for name in names:
                del self._lookups[name]

    def _write_soon(self, place: str, write: "Write | None") -> None:
        if self._breaker.is_open:
            return
        if len(self._writes) >= MAX_WRITES:
            self._observer.write_dropped()
            return
        if not self._writes:
            asyncio.get_running_loop().call_soon(self._send_writes)
        self._writes.append((place, write))

    def _send_writes(self) -> None:
        writes, self._writes = self._writes, []
        for batch in _batches(writes):
            self._start(self._write(batch))

    async def _write(self, writes: Sequence[tuple[str, "Write | None"]]) -> None:
        async def send(client: Client) -> None:
            pipeline = client.pipeline(transaction=False)
            for place, write in writes:
                if write is None:
                    pipeline.delete(place)
                else:
                    entry, milliseconds = write
                    pipeline.set(place, entry, px=milliseconds)
            await pipeline.execute()

        with suppress(Unreachable):
            await self._run("write", send)

    async def _shielded(self, command: str, operation: Callable[[Client], Awaitable[Result]]) -> Result:
        """As ``_run``; a caller that gives up does not end it."""
        return await asyncio.shield(self._start(self._run(command, operation)))

    async def _run(self, command: str, operation: Callable[[Client], Awaitable[Result]]) -> Result:
        """Raises ``Unreachable``, for whatever goes wrong and when Redis is not asked at all."""
        if self._breaker.is_open:
            raise Unreachable("the breaker is open")
        return await self._attempt(command, operation)

    async def _attempt(self, command: str, operation: Callable[[Client], Awaitable[Result]]) -> Result:
        began = monotonic()
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                result = await operation(self._client)
        except Exception as error:  # noqa: BLE001 - rule: every failure of Redis is a miss
            self._observer.redis_failed(command, error, monotonic() - began)
            if _is_about_health(error):
                self._fail(_describe(error))
            refused = Forbidden if isinstance(error, NoPermissionError) else Unreachable
            raise refused(f"{command}: {type(error).__name__}") from None
        self._observer.redis_took(command, monotonic() - began)
        self._breaker.succeeded()
        return result

    def _fail(self, cause: str) -> None:
        was_open = self._breaker.is_open
        self._breaker.failed(monotonic())
        if self._breaker.is_open and not was_open:
            self._observer.redis_breaker(is_open=True, cause=cause)
            self._prober = self._start(self._probe())

    async def _probe(self) -> None:
        """Until Redis answers again."""
        while self._breaker.is_open and not self._stopped:
            await asyncio.sleep(PROBE_PAUSE)
            with suppress(Unreachable):
                await self._attempt("probe", lambda client: client.exists(self._place("probe")))
        if not self._breaker.is_open:
            self._observer.redis_breaker(is_open=False)

    def _start(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.create_task(work, name="redis")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: whoever asked may have given up


def _mget(client: Client) -> Callable[[list[str]], Awaitable[list[bytes | None]]]:
    """A Cluster takes one command a slot."""
    return client.mget_nonatomic if isinstance(client, RedisCluster) else client.mget


def _is_about_health(error: Exception) -> bool:
    """An error about one command (wrong type, no memory for a write, read-only, no permission) says nothing about
    the next; everything else does."""
    return not isinstance(error, ResponseError) or isinstance(error, ClusterError)


async def _xdel(client: Client, *, place: str, positions: Sequence[str]) -> None:
    await client.xdel(place, *positions)


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _entropy() -> bytes:
    return os.urandom(ENTROPY_BYTES)


def _describe(error: Exception) -> str:
    """For an operator to read. redis-py's texts name addresses, and no credentials."""
    return "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"


def _milliseconds(seconds: float) -> int:
    return max(1, min(int(seconds * 1000), 2**53))
