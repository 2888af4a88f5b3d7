"""Verified identities in this process: bounded, oldest out, good and bad in rooms of their own.

Bad tokens are free to make, good ones are not. Sharing one room, a flood of forged tokens would push out
every good identity and make each of them cost a signature again.
"""

from collections import OrderedDict
from collections.abc import Callable, Set

from verifier.core.identity import Identity
from verifier.core.keys import Key
from verifier.remembered import Remembered

BAD_SHARE = 10
"""The room for bad tokens is this many times smaller than the one for good tokens."""


class MemoryCache:
    """``max_ttl`` is in seconds, counted by ``clock``, which must be monotonic. ``evicted`` is told of each entry that
    has to go before its time, as there is no room for it."""

    def __init__(
        self, max_entries: int, max_ttl: float, clock: Callable[[], float], evicted: Callable[[], None] = lambda: None
    ) -> None:
        self._good = _Room(max_entries)
        self._bad = _Room(max_entries // BAD_SHARE)
        self._max_ttl = max_ttl
        self._clock = clock
        self._evicted = evicted

    def __len__(self) -> int:
        return len(self._good.entries) + len(self._bad.entries)

    @property
    def capacity(self) -> int:
        """How many entries there is room for, in both rooms."""
        return self._good.size + self._bad.size

    def get(self, digest: bytes) -> Remembered | None:
        """What is known of a token, unless its time in the cache is over."""
        room = self._good
        entry = room.entries.get(digest)
        if entry is None:
            room = self._bad
            entry = room.entries.get(digest)
            if entry is None:
                return None
        if self._clock() < entry.kept_until:
            return entry
        del room.entries[digest]
        return None

    def put(self, digest: bytes, identity: Identity, *, good: bool) -> None:
        """Keep ``identity`` for ``max_ttl``; a token is in one room at a time."""
        room, other = (self._good, self._bad) if good else (self._bad, self._good)
        other.entries.pop(digest, None)
        now = self._clock()
        oldest = room.add(digest, Remembered(identity, now + self._max_ttl))
        if oldest is not None and now < oldest.kept_until:
            self._evicted()

    def resize(self, max_entries: int, max_ttl: float) -> None:
        """From now on. Entries stay for as long as they were to, the newest where there is less room."""
        self._good.resize(max_entries)
        self._bad.resize(max_entries // BAD_SHARE)
        self._max_ttl = max_ttl

    def forget(self, issuer_names: Set[str]) -> None:
        """Drop the tokens of these issuers."""
        for room in (self._good, self._bad):
            for digest in [one for one, entry in room.entries.items() if entry.identity.issuer_name in issuer_names]:
                del room.entries[digest]

    def retain(self, issuer_name: str, held: frozenset[Key]) -> None:
        """Drop what keys of the issuer verified that are not among ``held``.

        The engine would refuse these on a hit anyway; this gives the memory back.
        """
        for room in (self._good, self._bad):
            gone = [
                digest for digest, entry in room.entries.items() if _rests_on_another(entry.identity, issuer_name, held)
            ]
            for digest in gone:
                del room.entries[digest]


def _rests_on_another(identity: Identity, issuer_name: str, held: frozenset[Key]) -> bool:
    return identity.issuer_name == issuer_name and identity.key is not None and identity.key not in held


class _Room:
    def __init__(self, size: int) -> None:
        self.size = size
        # Not a plain dict: taking its first entry again and again costs more the more were taken.
        self.entries: OrderedDict[bytes, Remembered] = OrderedDict()

    def add(self, digest: bytes, entry: Remembered) -> Remembered | None:
        """Returns what had to make room for it."""
        self.entries.pop(digest, None)  # so that it goes to the end
        self.entries[digest] = entry
        return self.entries.popitem(last=False)[1] if len(self.entries) > self.size else None

    def resize(self, size: int) -> None:
        self.size = size
        while len(self.entries) > size:
            self.entries.popitem(last=False)
