"""The list of revocations: in memory for every decision, in a log of Redis for every replica.

The log is the list. Each replica reads on from where it was, several times a second, so that a lost connection
loses nothing. Entries that are over are taken out of the log. A Redis that comes back without its log, or with an
older one, gets the missing entries from whoever holds them.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Protocol

from verifier.core.revocation import Lift, Revocation, Revocations, pack, unpack
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


class RevocationList(Protocol):
    """The revocations that this process knows, and how to change them."""

    held: Revocations
    shared: bool

    def outage(self) -> SourceUnavailable | None:
        """Why no decision may be made on ``held``; None when it may."""

    def unread_for(self) -> float:
        """Seconds since the list was known to be complete."""

    def settled(self) -> bool:
        """Whether the list was read, or there was time enough to."""

    async def start(self) -> None:
        """Read it, and follow it until ``stop``."""

    async def stop(self) -> None:
        """End what ``start`` began."""

    async def revoke(self, revocation: Revocation) -> None:
        """Raises ``RevocationsFull``, and ``SourceUnavailable`` where no other replica would hear of it."""

    async def lift(self, revocation_id: str) -> bool:
        """Whether there was one of this id. Raises ``SourceUnavailable``."""


class LocalList:
    """The list of one process, which ends with it."""

    shared = False

    def __init__(self, max_entries: int) -> None:
        self.held = Revocations()
        self._max_entries = max_entries

    def outage(self) -> SourceUnavailable | None:
        return None

    def unread_for(self) -> float:
        return 0.0

    def settled(self) -> bool:
        return True

    async def start(self) -> None:
        """Nothing to read."""

    async def stop(self) -> None:
        """Nothing to end."""

    async def revoke(self, revocation: Revocation) -> None:
        self._make_room()
        self.held.add(revocation)

    async def lift(self, revocation_id: str) -> bool:
        return self.held.remove(revocation_id)

    def _make_room(self) -> None:
        self.held.remove_ended(time())
        if len(self.held) >= self._max_entries:
            raise RevocationsFull


@dataclass
class _Reading:
    """Where we are in the log, and what was read up to there."""

    position: str = LOG_START
    ends: dict[str, float] = field(default_factory=dict)  # position → when the entry there is over
    others: int = 0  # entries that do not open, or say nothing, or are more than can be remembered
    fading: dict[str, tuple[bytes, float]] = field(default_factory=dict)  # what our own key alone does not open
    lasting: dict[str, float] = field(default_factory=dict)  # what it does, and when that is over


class SharedList(LocalList):
    """The list of all replicas. ``grace`` is in seconds: how long the log may go unread before ``deny`` refuses
    decisions, and how long a start may be unready for it. With ``deny``, nothing is decided before it was read once.
    """

    shared = True

    def __init__(
        self,
        store: RedisStore,
        *,
        max_entries: int,
        grace: float,
        deny: bool,
        observer: RevocationObserver,
    ) -> None:
        super().__init__(max_entries)
        self._store = store
        self._grace = grace
        self._deny = deny
        self._observer = observer
        self._reading = _Reading()
        self._page = PAGE
        self._most = 4 * max_entries + PAGE  # positions to remember, and to read at once: lifts and copies included
        self._read_at: float | None = None
        self._started_at = monotonic()
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
        return monotonic() - since

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
        self._make_room()
        (position,) = await self._append([revocation])
        self._reading.ends[position] = revocation.expires_at
        self.held.add(revocation)

    async def lift(self, revocation_id: str) -> bool:
        revocation = self.held.get(revocation_id)
        if revocation is None:
            return False
        await self._append([Lift(revocation_id, revocation.expires_at)])
        self.held.remove(revocation_id)
        return True

    async def _append(self, entries: Sequence[Revocation | Lift]) -> list[str]:
        try:
            return await self._store.append(_LOG, [(pack(entry), entry.expires_at) for entry in entries])
        except Unreachable as error:
            raise SourceUnavailable(str(error)) from None

    async def _follow(self) -> None:
        while not self._stopped:
            await asyncio.sleep(POLL)
            await self._look()

    async def _look(self) -> None:
        others = self._reading.others
        try:
            await self._catch_up()
            self._read_at = monotonic()
            if self._reading.others > others:
                self._observer.revocations_refused(self._reading.others - others)
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
        reading = self._reading
        if _order(state.last) < _order(reading.position):
            return True
        if state.length >= reading.others + len(reading.ends):
            return False
        return state.length < reading.others + sum(end > time() + 1.0 for end in reading.ends.values())

    async def _read_to(self, last: str) -> set[str]:
        """Read the log up to ``last``. Returns the ids of the revocations that were found."""
        known: set[str] = set()
        reading, entries_read = self._reading, 0
        while _order(reading.position) < _order(last):
            entries = await self._next_page()
            for entry in entries:
                if _order(entry.position) <= _order(reading.position):
                    raise Unreachable("the log does not go on")
                found = self._apply(entry)
                if found is not None:
                    known.add(found)
                reading.position = entry.position
            entries_read += len(entries)
            if not entries:
                break
            if entries_read > self._most:
                raise Unreachable("the log is longer than it can be")  # go on another time, and say so
        return known

    async def _next_page(self) -> list[LogEntry]:
        try:
            entries = await self._store.read(_LOG, self._reading.position, self._page)
        except Unreachable:
            self._page = max(1, self._page // 2)
            raise
        self._page = min(PAGE, self._page * 2)
        return entries

    def _apply(self, entry: LogEntry) -> str | None:
        """Take in one entry. Returns the id of the revocation in it."""
        if entry.is_over:
            self._remember(entry.position, 0.0)
            return None
        try:
            said = unpack(entry.content or b"")
        except ValueError:
            self._reading.others += 1  # and leave it there: another replica may have its key
            return None
        self._remember(entry.position, said.expires_at)
        if isinstance(said, Lift):
            self._note_seal(f"lift {said.id}", entry, said.expires_at)
            self._reading.fading.pop(said.id, None)
            self.held.remove(said.id)
            return None
        self._note_seal(said.id, entry, said.expires_at)
        if said.id not in self.held:
            if self._read_at is not None:
                self._observer.revocation_arrived(max(0.0, time() - said.made_at))
            self.held.add(said)
        return said.id

    def _remember(self, position: str, end: float) -> None:
        if len(self._reading.ends) < self._most:
            self._reading.ends[position] = end
        else:
            self._reading.others += 1

    def _note_seal(self, name: str, entry: LogEntry, end: float) -> None:
        """Whether it would still open if our own key were the only one."""
        if entry.is_lasting:
            self._reading.lasting[name] = end
            self._reading.fading.pop(name, None)
        elif entry.content is not None and name not in self._reading.lasting:
            self._reading.fading[name] = (entry.content, end)

    async def _restore(self) -> None:
        """Redis lost entries. Read what it has from the beginning, and put back what it has not."""
        if self._restoring_since is None:
            self._restoring_since = monotonic()
        before = tuple(self.held)
        self._reading = _Reading()
        present = await self._read_to((await self._store.log_state(_LOG)).last)
        missing = [revocation for revocation in before if revocation.id in self.held and revocation.id not in present]
        waited = monotonic() - self._restoring_since
        if missing and waited < TURN and not await self._store.claim("restore", b"", TURN):
            return  # look again until it has put them back
        if missing:
            await self._append(missing)
            self._observer.revocations_restored(len(missing))
        self._restoring_since = None

    async def _reseal(self) -> None:
        """While the sealing key is exchanged: make copies that will open when the other key is gone."""
        lasting = [(content, end) for content, end in self._reading.fading.values() if end > time()]
        if lasting and await self._store.claim("reseal", b"", TURN):
            await self._store.append(_LOG, lasting)

    async def _forget_the_ended(self) -> None:
        if monotonic() < self._forget_at:
            return
        self._forget_at = monotonic() + FORGET
        now, reading = time(), self._reading
        self.held.remove_ended(now)
        over = [position for position, end in reading.ends.items() if now >= end]
        await self._store.remove(_LOG, over)
        for position in over:
            del reading.ends[position]
        reading.lasting = {name: end for name, end in reading.lasting.items() if now < end}


def _order(position: str) -> tuple[int, ...]:
    return tuple(int(part) for part in position.split("-"))
