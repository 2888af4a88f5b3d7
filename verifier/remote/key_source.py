"""An issuer's keys over time: fetched once for everybody, refreshed ahead, kept through an outage.

Rules of this module:

* One fetch at a time. Whoever needs it joins it, and may give up without ending it for the others.
* Once keys are known, two fetches begin at least ``cooldown`` apart, whoever asks: that is what a flood of
  forged ``kid``s can cause, and how soon a genuine rotation is noticed during one. An issuer that asks to be
  left alone for longer (``Retry-After``) is.
* While no keys are known, requests cause no fetch at all; they wait for the one under way or are told when
  the next one is due.
* A key set is what the issuer said last. A key that left it is gone with the next fetch. An issuer that says
  nothing, or nonsense, keeps its last set for ``max_stale``, and not a second longer.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, time
from typing import Protocol

from verifier.core.keys import KeySet
from verifier.ports import SourceUnavailable
from verifier.remote.http import describe
from verifier.remote.origins import Fetched, Origin

FIRST_RETRY = 1.0
MAX_RETRY = 60.0
SHORTEST_REFRESH = 60.0
SHORTEST_PAUSE = 0.01

_RANDOM = random.SystemRandom()  # replicas that were seeded alike would all fetch at once


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds. ``refresh``: the longest time between looks; ``max_stale``: how old keys may get in an outage;
    ``cooldown``: the shortest time between fetches, once keys are known; ``deadline``: the longest time for one,
    discovery included."""

    refresh: float = 600.0
    max_stale: float = 86_400.0
    cooldown: float = 10.0
    deadline: float = 5.0


class KeyObserver(Protocol):
    """Told what becomes of the keys."""

    def keys_fetched(self, issuer: str, keys: KeySet, *, changed: bool, shared: bool) -> None: ...

    def keys_failed(self, issuer: str, detail: str, *, usable: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """For people and probes. ``age`` in seconds; ``fetched_at`` in seconds since 1970. ``stale``: a look is overdue, as
    the last one failed, and the keys in hand serve on. ``next_look``: seconds until keys are looked for again, 0 while
    they are."""

    keys: int
    age: float | None
    fetched_at: float | None
    last_error: str | None
    attempted: bool
    stale: bool
    next_look: float
    freshness: Freshness


def refresh_delay(freshness: Freshness, max_age: float | None, jitter: float) -> float:
    """Seconds to the next look after a success: ahead of the end, and not all replicas at once.

    ``max_age`` of the answer can only shorten it, and not below a minute (or ``refresh`` where that is
    shorter). ``jitter`` is in [0, 1).
    """
    interval = freshness.refresh
    if max_age is not None:
        interval = min(interval, max(max_age, min(SHORTEST_REFRESH, interval)))
    return interval * (1.0 - 0.2 * jitter)


def retry_delay(freshness: Freshness, failures: int, retry_after: float, jitter: float, *, known: bool) -> float:
    """Seconds to the next attempt after ``failures`` in a row: doubling, up to a minute.

    Without any keys the first retries are quick, as every request waits for them.
    """
    first = max(freshness.cooldown, FIRST_RETRY) if known else FIRST_RETRY
    longest = max(min(MAX_RETRY, freshness.refresh), first) if known else min(MAX_RETRY, freshness.cooldown)
    doubled = min(first * 2.0 ** min(failures - 1, 16), longest)
    return max(doubled * (1.0 + 0.2 * jitter), retry_after)


class RefreshingKeys:
    """The keys of one issuer, from one origin (the engine's ``KeySource``)."""

    def __init__(
        self,
        *,
        issuer: str,
        origin: Origin,
        freshness: Freshness,
        observer: KeyObserver,
        on_change: Callable[[str, KeySet], None],
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._issuer = issuer
        self._origin = origin
        self._freshness = freshness
        self._observer = observer
        self._on_change = on_change
        self._clock = clock
        self._jitter = jitter
        self._fetched: Fetched | None = None
        self._fetched_at = 0.0
        self._attempted_at: float | None = None
        self._not_before = 0.0
        self._due = 0.0
        self._due_moved = asyncio.Event()
        self._failures = 0
        self._failure: str | None = None
        self._flight: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fetch, and go on until ``stop``."""
        self._opening = asyncio.create_task(self._begin_with_the_last_known(), name=f"last keys of {self._issuer}")
        self._keeper = asyncio.create_task(self._keep_fresh(), name=f"keys of {self._issuer}")

    def begin_with(self, other: "RefreshingKeys") -> None:
        """With what ``other`` knows, before ``start``. It is looked after from then on as it is here."""
        self._fetched, self._fetched_at = other._fetched, other._fetched_at

    async def stop(self) -> None:
        for task in (self._opening, self._keeper, self._flight):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, SourceUnavailable):
                    await task

    def current(self) -> KeySet | None:
        if self._fetched is None or self._clock() - self._fetched_at > self._freshness.max_stale:
            return None
        return self._fetched.keys

    def may_refresh(self) -> bool:
        if self._flight is not None or self._is_opening:
            return True
        if self._fetched is None or self._attempted_at is None:
            return False
        return self._clock() >= max(self._attempted_at + self._freshness.cooldown, self._not_before)

    async def refresh(self) -> None:
        if self._opening is not None and not self._opening.done():
            await asyncio.shield(self._opening)
            if self._fetched is not None:
                return
        if self._flight is None:
            self._flight = asyncio.create_task(self._fetch(), name=f"fetch of {self._issuer}")
            self._flight.add_done_callback(self._landed)
        await asyncio.shield(self._flight)

    def shortfall(self) -> SourceUnavailable | None:
        """A failure counts only when a look is overdue: until then the set in hand is what the issuer said
        last, and a ``kid`` that is not in it is unknown and not undecided."""
        if self._fetched is None or self._is_overdue:
            return SourceUnavailable(self._failure or "not fetched yet", self._due - self._clock())
        return None

    def status(self) -> KeyStatus:
        keys = self.current()
        return KeyStatus(
            keys=len(keys.keys) if keys else 0,
            age=None if self._fetched is None else self._clock() - self._fetched_at,
            fetched_at=None if self._fetched is None else self._fetched.fetched_at,
            last_error=self._failure,
            attempted=self._fetched is not None or self._failures > 0,
            stale=keys is not None and self._is_overdue,
            next_look=0.0 if self._flight is not None else max(0.0, self._due - self._clock()),
            freshness=self._freshness,
        )

    async def _keep_fresh(self) -> None:
        if self._opening is not None:
            await asyncio.shield(self._opening)
        while True:
            with suppress(Exception):  # whatever it was, keys must not stop being fetched
                await self.refresh()
            await asyncio.sleep(SHORTEST_PAUSE)
            while (wait := self._due - self._clock()) > 0:
                self._due_moved.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._due_moved.wait()

    @property
    def _is_overdue(self) -> bool:
        """Whether the issuer did not answer when it was time to look again."""
        return self._failures > 0 and self._clock() - self._fetched_at > self._freshness.refresh

    @property
    def _is_opening(self) -> bool:
        return self._opening is not None and not self._opening.done()

    async def _begin_with_the_last_known(self) -> None:
        """What the other replicas have is better than nothing while the issuer is down."""
        with suppress(Exception):
            known = await self._origin.last_known()
            if known is not None and time() - known.fetched_at <= self._freshness.max_stale:
                self._adopt(known)

    async def _fetch(self) -> None:
        self._attempted_at = self._clock()
        try:
            async with asyncio.timeout(self._freshness.deadline):
                fetched = await self._origin.fetch(self._fetched)
            self._succeed(fetched)
        except Exception as error:  # noqa: BLE001 - whatever an origin raises, the keys in hand stay
            failure = error if isinstance(error, SourceUnavailable) else SourceUnavailable(describe(error))
            self._fail(failure)
            raise failure from None

    def _succeed(self, fetched: Fetched) -> None:
        self._failures, self._failure = 0, None
        changed = self._adopt(fetched)
        began = self._attempted_at if self._attempted_at is not None else self._clock()
        due = self._fetched_at + refresh_delay(self._freshness, fetched.max_age, self._jitter())
        self._due = max(due, began + self._freshness.cooldown)  # a shared set may have been due when it came
        self._due_moved.set()
        self._observer.keys_fetched(self._issuer, fetched.keys, changed=changed, shared=fetched.shared)

    def _adopt(self, fetched: Fetched) -> bool:
        """Trust ``fetched`` from now on. Returns whether it differs from what was trusted before."""
        if fetched.shared and self._fetched is not None and fetched.fetched_at < self._fetched.fetched_at:
            return False  # put back by somebody, or by a clock; keys may have been withdrawn since
        changed = self._fetched is None or self._fetched.keys != fetched.keys
        self._fetched = fetched
        age = max(0.0, time() - fetched.fetched_at) if fetched.shared else 0.0
        self._fetched_at = self._clock() - age
        if changed:
            self._on_change(self._issuer, fetched.keys)
        return changed

    def _fail(self, failure: SourceUnavailable) -> None:
        self._failures += 1
        self._failure = failure.detail
        self._not_before = self._clock() + failure.retry_after
        self._due_moved.set()
        self._due = self._clock() + retry_delay(
            self._freshness,
            self._failures,
            failure.retry_after,
            self._jitter(),
            known=self._fetched is not None,
        )
        self._observer.keys_failed(self._issuer, failure.detail, usable=self.current() is not None)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # seen: nobody may be waiting
