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

from verifier.core.revocation import Lift, Revocation, pack, unpack
from verifier.ports import Forbidden, SourceUnavailable, Unreachable
from verifier.store.redis import LOG_START, LogEntry, LogState, RedisStore
from verifier.store.revocations import LocalList

POLL = 0.25
"""Seconds between two looks at the log."""

PAGE = 200
"""Most entries read at once. Fewer where so many do not come within Redis' time limit."""

FORGET = 2.0
"""Seconds between two looks for what is over; until then it does no harm."""

TURN = 5.0
"""Seconds for which one replica alone writes what all of them miss; then the others do it too."""

STUCK = 10.0
"""Seconds after which a log that cannot be read is begun anew, while Redis answers to everything else."""

START = 5.0
"""Seconds that a start waits for the list."""

_LOG = "revocations"
_LAST_TIME = 2**63
"""A log whose last entry is from later than this takes no more: somebody chose its position."""


class RevocationObserver(Protocol):
    """Told how the list fares."""

    def revocation_arrived(self, seconds: float) -> None: ...

    def revocations_unread(self, detail: str) -> None: ...

    def revocations_read_again(self) -> None: ...

    def revocations_restored(self, number: int) -> None: ...

    def revocations_refused(self, number: int) -> None: ...


@dataclass
class _Reading:
    """Where we are in the log, and what was read up to there."""

    position: str = LOG_START
    written: str = LOG_START  # the last that we wrote
    ends: dict[str, float] = field(default_factory=dict)  # position → when the entry there is over
    unremembered: int = 0  # positions beyond those
    others: int = 0  # entries that do not open, or say nothing
    fading: dict[str, tuple[bytes, float]] = field(default_factory=dict)  # what our own key alone does not open
    lasting: dict[str, float] = field(default_factory=dict)  # what it does, and when that is over


class SharedList(LocalList):
    """The list of all replicas. ``grace`` is in seconds: how long the log may go unread before ``deny`` refuses
    decisions, and how long a start may be unready for it. With ``deny``, nothing is decided before it was read once.
    ``keep``, in seconds, is how long an entry stays that we cannot open: another replica may have its key.
    """

    shared = True

    def __init__(
        self,
        store: RedisStore,
        *,
        max_entries: int,
        grace: float,
        deny: bool,
        keep: float,
        observer: RevocationObserver,
    ) -> None:
        super().__init__(max_entries)
        self._store = store
        self._grace = grace
        self._deny = deny
        self._keep = keep
        self._observer = observer
        self._reading = _Reading()
        self._page = PAGE
        self._most = 4 * max_entries + PAGE  # positions to remember, and to read at once: lifts and copies included
        self._read_at: float | None = None
        self._started_at = monotonic()
        self._lifted: dict[str, float] = {}  # id → when the revocation would have ended
        self._restoring_since: float | None = None
        self._resealing_since: float | None = None
        self._stuck_since: float | None = None
        self._failing = False
        self._forget_at = 0.0
        self._stopped = False
        self._follower: asyncio.Task[None] | None = None

    def outage(self) -> SourceUnavailable | None:
        if not self._deny or self.unread_for() <= (self._grace if self._read_at is not None else 0.0):
            return None
        return SourceUnavailable("the list of revocations cannot be read")

    def fading(self) -> int:
        return len(self._reading.fading)

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
        await self._append([revocation])
        self.held.add(revocation)

    async def lift(self, revocation_id: str) -> bool:
        revocation = self.held.get(revocation_id)
        if revocation is None:
            return False
        await self._append([Lift(revocation_id, revocation.expires_at)])
        self._lifted[revocation_id] = revocation.expires_at
        self.held.remove(revocation_id)
        return True

    async def _append(self, entries: Sequence[Revocation | Lift]) -> None:
        try:
            await self._append_packed([(pack(entry), entry.expires_at) for entry in entries])
        except Unreachable as error:
            raise SourceUnavailable(str(error)) from None

    async def _append_packed(self, contents: Sequence[tuple[bytes, float]]) -> None:
        """And note where they are, so that they are missed when they are gone before they were read."""
        positions = await self._store.append(_LOG, contents)
        self._reading.ends.update(zip(positions, (end for _, end in contents), strict=True))
        self._reading.written = max(self._reading.written, *positions, key=_order)

    async def _follow(self) -> None:
        while not self._stopped:
            await asyncio.sleep(POLL)
            await self._look()

    async def _look(self) -> None:
        others = self._reading.others
        try:
            await self._catch_up()
            self._read_at, self._stuck_since = monotonic(), None
            if self._reading.others > others:
                self._observer.revocations_refused(self._reading.others - others)
            await self._forget_the_ended()
            await self._reseal()
        except Exception as error:  # noqa: BLE001 - whatever it was, the list must go on being read
            if not self._failing:
                self._observer.revocations_unread(str(error) or type(error).__name__)
            self._failing = True
            await self._note_trouble(error)
            return
        if self._failing:
            self._observer.revocations_read_again()
        self._failing = False

    async def _catch_up(self) -> None:
        newest = max(self._reading.position, self._reading.written, key=_order)
        if self._is_stuck():
            await self._store.remove_log(_LOG)  # and everybody puts back what they hold
            self._stuck_since, self._page = None, PAGE
        state = await self._store.log_state(_LOG)
        if _order(state.last)[0] > _LAST_TIME:
            await self._store.remove_log(_LOG)
            state = LogState(LOG_START, 0)
        if _order(state.last) < _order(newest):  # another log, or a copy that was behind
            self._start_over()
        await self._read_to(state.last)
        if self._restoring_since is None and self._lacks_entries(state):
            self._start_over()
            await self._read_to(state.last)
        if self._restoring_since is not None:
            await self._put_back(self._restoring_since)

    def _start_over(self) -> None:
        self._restoring_since = monotonic()
        self._reading = _Reading()

    def _lacks_entries(self, state: LogState) -> bool:
        """Whether entries are gone that were read, and are not over."""
        reading = self._reading
        if state.length >= reading.unremembered + len(reading.ends):
            return False
        last, soon = _order(state.last), time() + 1.0
        return state.length < reading.unremembered + sum(
            end > soon and _order(position) <= last for position, end in reading.ends.items()
        )

    async def _read_to(self, last: str) -> None:
        reading, entries_read = self._reading, 0
        while _order(reading.position) < _order(last):
            entries = await self._next_page()
            for entry in entries:
                if _order(entry.position) <= _order(reading.position):
                    raise Unreachable("the log does not go on")
                self._apply(entry)
                reading.position = entry.position
            entries_read += len(entries)
            if not entries:
                return
            if entries_read > self._most:
                raise Unreachable("the log is longer than it can be")  # go on another time, and say so

    async def _next_page(self) -> list[LogEntry]:
        try:
            entries = await self._store.read(_LOG, self._reading.position, self._page)
        except Unreachable:
            self._page = max(1, self._page // 2)
            raise
        self._page = min(PAGE, self._page * 2)
        return entries

    def _is_stuck(self) -> bool:
        """Whether there is an entry that is too large to be read, and so none of ours."""
        return self._stuck_since is not None and monotonic() - self._stuck_since > STUCK

    async def _note_trouble(self, error: Exception) -> None:
        """Whether it is the log itself, while Redis answers to everything else."""
        is_log = not isinstance(error, Forbidden)
        try:
            await self._store.log_state("another")
        except Unreachable:
            is_log = False
        self._stuck_since = (self._stuck_since or monotonic()) if is_log else None

    def _apply(self, entry: LogEntry) -> None:
        if entry.is_over:
            self._remember(entry.position, 0.0)
            return
        try:
            said = unpack(entry.content or b"")
        except ValueError:
            self._reading.others += 1
            self._remember(entry.position, _order(entry.position)[0] / 1_000 + self._keep)
            return
        self._remember(entry.position, said.expires_at)
        if isinstance(said, Lift):
            self._note_seal(f"lift {said.id}", entry, said.expires_at)
            self._reading.fading.pop(said.id, None)
            self._lifted[said.id] = said.expires_at
            self.held.remove(said.id)
            return
        self._note_seal(said.id, entry, said.expires_at)
        if said.id not in self.held and said.id not in self._lifted:
            if self._read_at is not None:
                self._observer.revocation_arrived(max(0.0, time() - said.made_at))
            self.held.add(said)

    def _remember(self, position: str, end: float) -> None:
        if len(self._reading.ends) < self._most:
            self._reading.ends[position] = end
        else:
            self._reading.unremembered += 1

    def _note_seal(self, name: str, entry: LogEntry, end: float) -> None:
        """Whether it would still open if our own key were the only one."""
        if entry.is_lasting:
            self._reading.lasting[name] = end
            self._reading.fading.pop(name, None)
        elif entry.content is not None and name not in self._reading.lasting:
            self._reading.fading[name] = (entry.content, end)

    async def _put_back(self, since: float) -> None:
        """Redis lost entries, and what it has was read from the beginning. Put back what it has not."""
        there = self._reading.lasting.keys() | self._reading.fading.keys()
        missing: list[Revocation | Lift] = [one for one in self.held if one.id not in there]
        missing += [Lift(one, end) for one, end in self._lifted.items() if f"lift {one}" not in there]
        if missing and not await self._is_our_turn("restore", since):
            return  # look again until they are back
        self._restoring_since = None
        if missing:
            await self._append(missing)
            self._observer.revocations_restored(len(missing))

    async def _reseal(self) -> None:
        """While the sealing key is exchanged: make copies that will open when the other key is gone."""
        fading = [(content, end) for content, end in self._reading.fading.values() if end > time()]
        if not fading:
            self._resealing_since = None
            return
        self._resealing_since = self._resealing_since or monotonic()
        if await self._is_our_turn("reseal", self._resealing_since):
            self._resealing_since = None
            await self._append_packed(fading)

    async def _is_our_turn(self, work: str, since: float) -> bool:
        """One replica writes what all of them miss. If it does not, or somebody pretends, each does."""
        return monotonic() - since > TURN or await self._store.claim(work, b"", TURN)

    async def _forget_the_ended(self) -> None:
        if monotonic() < self._forget_at:
            return
        self._forget_at = monotonic() + FORGET
        now, reading = time(), self._reading
        self.held.remove_ended(now)
        self._lifted = {one: end for one, end in self._lifted.items() if now < end}
        over = [position for position, end in reading.ends.items() if now >= end]
        await self._store.remove(_LOG, over)
        for position in over:
            del reading.ends[position]
        reading.lasting = {name: end for name, end in reading.lasting.items() if now < end}


def _order(position: str) -> tuple[int, ...]:
    return tuple(int(part) for part in position.split("-"))
