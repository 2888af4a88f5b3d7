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
"""Most entries read at once. Fewer where so many do not come within Redis' time limit."""

FORGET = 2.0
"""Seconds between two looks for what is over; until then it does no harm."""

TURN = 5.0
"""Seconds for which one replica alone writes what all of them miss; then the others do it too."""

START = 5.0
"""Seconds that a start waits for the list."""

_LOG = "revocations"
_LAST_TIME = 2**63
"""A log whose last entry is from later than this takes no more: somebody chose its position."""


class RevocationsFull(Exception):  # noqa: N818 - reads as what it says
    """The list holds as many entries as it may."""


class RevocationObserver(Protocol):
    """Told how the list fares."""

    def revocation_arrived(self, seconds: float) -> None: ...

    def revocations_unread(self, detail: str) -> None: ...

    def revocations_read_again(self) -> None: ...

    def revocations_restored(self, number: int) -> None: ...

    def revocations_refused(self, number: int) -> None: ...


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

    def settled(self) -> bool:
        """Whether the list was read, or there was time enough to."""
        return True

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
    """The list of all replicas. ``grace``: seconds that the log may go unread, or never have been read; ``deny``
    says whether decisions may not be made on what is known of it after that, or not before."""

    shared = True

    def __init__(
        self,
        store: RedisStore,
        *,
        max_entries: int,
        grace: float,
        deny: bool,
        observer: RevocationObserver,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(max_entries)
        self._store = store
        self._grace = grace
        self._deny = deny
        self._observer = observer
        self._clock = clock
        self._position = LOG_START
        self._ends: dict[str, float] = {}  # position in the log → when the entry there is over
        self._refused = 0  # entries in the log that do not open
        self._fading: dict[str, tuple[bytes, float]] = {}  # what only another key than our own opens, and its end
        self._lasting: dict[str, float] = {}  # what our own key opens, and its end
        self._page = PAGE
        self._most = 4 * max_entries + PAGE  # positions to remember, and to read at once: lifts and copies included
        self._read_at: float | None = None
        self._started_at = clock()
        self._restoring_since: float | None = None
        self._failing = False
        self._forget_at = 0.0
        self._stopped = False
        self._follower: asyncio.Task[None] | None = None

    def outage(self) -> SourceUnavailable | None:
        if not self._deny or self.unread_for() <= (self._grace if self._read_at is not None else 0.0):
            return None
        return SourceUnavailable("the list of revocations cannot be read")

    def settled(self) -> bool:
        return self._read_at is not None or self.unread_for() > self._grace

    def unread_for(self) -> float:
        since = self._started_at if self._read_at is None else self._read_at
        return self._clock() - since

    async def start(self) -> None:
        """Read the list once, if Redis answers in time, and follow it until ``stop``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START):
                await self._look()
        self._follower = asyncio.create_task(self._follow(), name="revocations")

    async def stop(self) -> None:
        self._stopped = True
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
        while not self._stopped:
            await asyncio.sleep(POLL)
            await self._look()

    async def _look(self) -> None:
        refused = self._refused
        try:
            await self._catch_up()
            self._read_at = self._clock()
            if self._refused > refused:
                self._observer.revocations_refused(self._refused - refused)
            await self._forget_the_ended()
            await self._reseal()
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
        if _order(state.last)[0] > _LAST_TIME:
            await self._store.remove_log(_LOG)
            state = LogState(LOG_START, 0)
        if self._restoring_since is not None or self._lost_entries(state):
            await self._restore()
        else:
            await self._read_to(state.last)

    def _lost_entries(self, state: LogState) -> bool:
        """Whether the log is not the one that was read before, or a copy of it that was behind, or lacks some."""
        if _order(state.last) < _order(self._position):
            return True
        if state.length >= self._refused + len(self._ends):
            return False
        return state.length < self._refused + sum(end > time() + 1.0 for end in self._ends.values())

    async def _read_to(self, last: str) -> set[str]:
        """Read the log up to ``last``. Returns the ids of the revocations that were found."""
        known: set[str] = set()
        entries_read = 0
        while _order(self._position) < _order(last):
            entries = await self._next_page()
            for entry in entries:
                if _order(entry.position) <= _order(self._position):
                    raise Unreachable("the log does not go on")
                known |= self._apply(entry)
                self._position = entry.position
            entries_read += len(entries)
            if not entries:
                break
            if entries_read > self._most:
                raise Unreachable("the log is longer than it can be")  # go on another time, and say so
        return known

    async def _next_page(self) -> list[LogEntry]:
        try:
            entries = await self._store.read(_LOG, self._position, self._page)
        except Unreachable:
            self._page = max(1, self._page // 2)
            raise
        self._page = min(PAGE, self._page * 2)
        return entries

    def _apply(self, entry: LogEntry) -> set[str]:
        """Take in one entry. Returns the id of the revocation in it."""
        if entry.content is None and entry.is_over:
            self._remember(entry.position, 0.0)
        if entry.content is None:
            self._refused += not entry.is_over  # and leave it there: another replica may have the key
            return set()
        try:
            lifting = _lifted(entry.content)
            revocation = None if lifting is not None else unpack(entry.content)
        except ValueError:
            self._refused += 1
            return set()
        if lifting is not None:
            lifted_id, end = lifting
            self._remember(entry.position, end)
            self._fade(f"lift {lifted_id}", entry, end)
            self._fading.pop(lifted_id, None)
            self.held.lift(lifted_id)
        return set() if revocation is None else self._take_in(entry, revocation)

    def _remember(self, position: str, end: float) -> None:
        if len(self._ends) < self._most:
            self._ends[position] = end
        else:
            self._refused += 1

    def _fade(self, name: str, entry: LogEntry, end: float) -> None:
        """Note what would not open any more if our own key were the only one."""
        if entry.is_lasting:
            self._lasting[name] = end
            self._fading.pop(name, None)
        elif entry.content is not None and name not in self._lasting:
            self._fading[name] = (entry.content, end)

    def _take_in(self, entry: LogEntry, revocation: Revocation) -> set[str]:
        self._remember(entry.position, revocation.expires_at)
        self._fade(revocation.id, entry, revocation.expires_at)
        if revocation.id not in self.held:
            if self._read_at is not None:
                self._observer.revocation_arrived(max(0.0, time() - revocation.made_at))
            self.held.add(revocation)
        return {revocation.id}

    async def _restore(self) -> None:
        """Redis lost entries. Read what it has from the beginning, and put back what it has not."""
        if self._restoring_since is None:
            self._restoring_since = self._clock()
        before = tuple(self.held)
        self._position, self._refused = LOG_START, 0
        self._ends, self._fading, self._lasting = {}, {}, {}
        present = await self._read_to((await self._store.log_state(_LOG)).last)
        missing = [revocation for revocation in before if revocation.id in self.held and revocation.id not in present]
        waited = self._clock() - self._restoring_since
        if missing and waited < TURN and not await self._store.claim("restore", b"", TURN):
            return  # look again until it has put them back
        if missing:
            await self._store.append(_LOG, [(pack(revocation), revocation.expires_at) for revocation in missing])
            self._observer.revocations_restored(len(missing))
        self._restoring_since = None

    async def _reseal(self) -> None:
        """While the sealing key is exchanged: make copies that will open when the other key is gone."""
        lasting = [(content, end) for content, end in self._fading.values() if end > time()]
        if lasting and await self._store.claim("reseal", b"", TURN):
            await self._store.append(_LOG, lasting)

    async def _forget_the_ended(self) -> None:
        now = time()
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET
        for revocation_id in self.held.ended(now):
            self.held.lift(revocation_id)
        over = [position for position, end in self._ends.items() if now >= end]
        await self._store.remove(_LOG, over)
        for position in over:
            del self._ends[position]
        self._lasting = {name: end for name, end in self._lasting.items() if now < end}


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
