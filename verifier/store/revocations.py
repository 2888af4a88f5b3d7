"""The list of revocations, in memory for every decision: what it is to the others, and that of one process."""

from collections.abc import Awaitable, Callable
from time import time
from typing import Protocol

from verifier.core.revocation import Lift, Revocation, Revocations
from verifier.ports import SourceUnavailable


class RevocationsFull(Exception):  # noqa: N818 - reads as what it says
    """The list holds as many entries as it may."""


class RevocationList(Protocol):
    """The revocations that this process knows, and how to change them."""

    held: Revocations
    shared: bool

    def outage(self) -> SourceUnavailable | None:
        """Why no decision may be made on ``held``; None when it may."""

    def unread_for(self) -> float:
        """Seconds since the list was known to be complete."""

    def fading(self) -> int:
        """Entries that would not open if the first of our sealing keys were the only one."""

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

    def __init__(self, max_entries: int, held: Revocations | None = None) -> None:
        self.held = Revocations() if held is None else held
        self._max_entries = max_entries

    def outage(self) -> SourceUnavailable | None:
        return None

    def unread_for(self) -> float:
        return 0.0

    def fading(self) -> int:
        return 0

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


class TellingList(LocalList):
    """That of a process which has workers: they are told of each change before it counts as made."""

    def __init__(
        self, max_entries: int, held: Revocations, tell: Callable[[Revocation | Lift], Awaitable[None]]
    ) -> None:
        super().__init__(max_entries, held)
        self._tell = tell

    async def revoke(self, revocation: Revocation) -> None:
        await super().revoke(revocation)
        await self._tell(revocation)

    async def lift(self, revocation_id: str) -> bool:
        revocation = self.held.get(revocation_id)  # whose end the workers must know
        if revocation is None:
            return False
        self.held.remove(revocation_id)
        await self._tell(Lift(revocation_id, revocation.expires_at))
        return True
