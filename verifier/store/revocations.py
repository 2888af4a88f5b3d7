"""The list of revocations: in memory for every decision, in a log of Redis for every replica.

The log is the list. Each replica reads on from where it was, several times a second, so that a lost connection
loses nothing. Entries that are over are taken out of the log. A Redis that comes back without its log, or with an
older one, gets the missing entries from whoever holds them.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic, time
from typing import Protocol

from verifier.core import strict_json
from verifier.core.revocation import Revocation, Revocations, pack, unpack
from verifier.ports import SourceUnavailable, Unreachable
from verifier.store.redis import LOG_START, LogEntry, LogState, RedisStore

POLL = 0.25
"""Seconds between two looks at the log."""

PAGE = 200
"""Entries read at once: few enough to be read within Redis' time limit."""

RESTORE_FOR = 5.0
"""Seconds for which one replica alone puts lost entries back."""

_LOG = "revocations"


class RevocationsFull(Exception):  # noqa: N818 - reads as what it says
    """The list holds as many entries as it may."""


class RevocationObserver(Protocol):
    """Told how the list fares."""

    def revocation_arrived(self, seconds: float) -> None: ...

    def revocations_unread(self, detail: str) -> None: ...

    def revocations_read_again(self) -> None: ...

    def revocations_restored(self, number: int) -> None: ...


class LocalList:
    """The list of one process, which ends with it."""

    shared = False

    def __init__(self, max_entries: int) -> None:
        self.held = Revocations()
        self._max_entries = max_entries

    def outage(self) -> SourceUnavailable | None:
        return None

    def unread_for(self) -> float:
        """Seconds since the list was known to be complete."""
        return 0.0

    async def start(self) -> None:
        """Nothing to read."""

    async def stop(self) -> None:
        """Nothing to end."""

    async def revoke(self, revocation: Revocation) -> None:
        """Raises ``RevocationsFull``."""
        self._make_room()
        self.held.add(revocation)

    async def lift(self, revocation_id: str) -> bool:
        """Whether there was one of this id."""
        return self.held.lift(revocation_id) is not None

    def _make_room(self) -> None:
        for revocation_id in self.held.ended(time()):
            self.held.lift(revocation_id)
        if len(self.held) >= self._max_entries:
            raise RevocationsFull


class SharedList(LocalList):
    """The list of all replicas. ``grace``: seconds that the log may go unread before decisions may not be made on
    what is known of it; None where they always may."""

    shared = True

    def __init__(
        self,
        store: RedisStore,
        *,
        max_entries: int,
        grace: float | None,
        observer: RevocationObserver,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(max_entries)
        self._store = store
        self._grace = grace
        self._observer = observer
        self._clock = clock
        self._position = LOG_START
        self._ends: dict[str, float] = {}  # position in the log → when the entry there is over
        self._read_at: float | None = None
        self._started_at = clock()
        self._restoring = False
        self._failing = False
        self._follower: asyncio.Task[None] | None = None

    def outage(self) -> SourceUnavailable | None:
        if self._grace is None or self.unread_for() <= (self._grace if self._read_at is not None else 0.0):
            return None
        return SourceUnavailable("the list of revocations cannot be read")

    def unread_for(self) -> float:
        since = self._started_at if self._read_at is None else self._read_at
        return self._clock() - since

    async def start(self) -> None:
        """Read the list once, if Redis answers, and follow it until ``stop``."""
        await self._look()
        self._follower = asyncio.create_task(self._follow(), name="revocations")

    async def stop(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower

    async def revoke(self, revocation: Revocation) -> None:
        """Raises ``RevocationsFull``, and ``SourceUnavailable`` where no other replica would hear of it."""
        self._make_room()
        try:
            (position,) = await self._store.append(_LOG, [(pack(revocation), revocation.expires_at)])
        except Unreachable as error:
            raise SourceUnavailable(str(error)) from None
        self._ends[position] = revocation.expires_at
        self.held.add(revocation)

    async def lift(self, revocation_id: str) -> bool:
        """Raises ``SourceUnavailable``."""
        revocation = self.held.get(revocation_id)
        if revocation is None:
            return False
        try:
            await self._store.append(_LOG, [(_lifting(revocation), revocation.expires_at)])
        except Unreachable as error:
            raise SourceUnavailable(str(error)) from None
        self.held.lift(revocation_id)
        return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            await self._look()

    async def _look(self) -> None:
        try:
            await self._catch_up()
            self._read_at = self._clock()
            await self._forget_the_ended()
        except Exception as error:  # noqa: BLE001 - whatever it was, the list must go on being read
            if not self._failing:
                self._observer.revocations_unread(str(error) or type(error).__name__)
            self._failing = True
            return
        if self._failing:
            self._observer.revocations_read_again()
        self._failing = False

    async def _catch_up(self) -> None:
        state = await self._store.log_state(_LOG)
        if self._restoring or self._lost_entries(state):
            await self._restore()
        else:
            await self._read_on()

    def _lost_entries(self, state: LogState) -> bool:
        """Whether the log is not the one that was read before, or a copy of it that was behind."""
        if _order(state.last) < _order(self._position):
            return True
        return state.length < len(self._ends) and state.length < sum(end > time() + 1.0 for end in self._ends.values())

    async def _read_on(self) -> set[str]:
        """Read to the end of the log. Returns the ids of the revocations that were found."""
        known: set[str] = set()
        while True:
            entries = await self._store.read(_LOG, self._position, PAGE)
            for entry in entries:
                known |= self._apply(entry)
                self._position = entry.position
            if len(entries) < PAGE:
                return known

    def _apply(self, entry: LogEntry) -> set[str]:
        """Take in one entry. Returns the id of the revocation in it."""
        if entry.content is None:
            if entry.is_over:  # not so where it does not open: another replica may have the key
                self._ends[entry.position] = 0.0
            return set()
        try:
            lifting = _lifted(entry.content)
            if lifting is not None:
                lifted_id, self._ends[entry.position] = lifting
                self.held.lift(lifted_id)
                return set()
            revocation = unpack(entry.content)
        except ValueError:
            return set()
        self._ends[entry.position] = revocation.expires_at
        if revocation.id not in self.held:
            if self._read_at is not None:
                self._observer.revocation_arrived(max(0.0, time() - revocation.made_at))
            self.held.add(revocation)
        return {revocation.id}

    async def _restore(self) -> None:
        """Redis lost entries. Read what it has from the beginning, and put back what it has not."""
        self._restoring = True
        before = tuple(self.held)
        self._position, self._ends = LOG_START, {}
        present = await self._read_on()
        missing = [revocation for revocation in before if revocation.id not in present]
        if missing and not await self._store.claim("restore", b"", RESTORE_FOR):
            return  # look again until it has put them back
        if missing:
            await self._store.append(_LOG, [(pack(revocation), revocation.expires_at) for revocation in missing])
            self._observer.revocations_restored(len(missing))
        self._restoring = False

    async def _forget_the_ended(self) -> None:
        now = time()
        for revocation_id in self.held.ended(now):
            self.held.lift(revocation_id)
        over = [position for position, end in self._ends.items() if now >= end]
        await self._store.remove(_LOG, over)
        for position in over:
            del self._ends[position]


def _lifting(revocation: Revocation) -> bytes:
    return json.dumps({"lift": revocation.id, "expires_at": revocation.expires_at}).encode()


def _lifted(entry: bytes) -> tuple[str, float] | None:
    """The id that the entry lifts and when that is over, or None where it lifts none. Raises ``ValueError``."""
    packed = strict_json.parse_object(entry)
    if "lift" not in packed:
        return None
    lifted, end = packed["lift"], packed.get("expires_at")
    if not isinstance(lifted, str) or not isinstance(end, int | float):
        raise ValueError("lifts nothing")
    return lifted, end


def _order(position: str) -> tuple[int, ...]:
    return tuple(int(part) for part in position.split("-"))


def by_age(revocations: Iterable[Revocation]) -> list[Revocation]:
    """Newest first."""
    return sorted(revocations, key=lambda revocation: revocation.made_at, reverse=True)
