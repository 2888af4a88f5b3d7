"""What is known of a token in memory: its identity, and the allow that it got by itself."""

from dataclasses import dataclass

from verifier.core.identity import Identity
from verifier.core.keys import KeySet
from verifier.core.verdict import Allowed


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What allows of an issuer's tokens rest on, besides the token and the time: its keys, and the state of the list of
    revocations. Only the very same object is the same."""

    keys: KeySet
    revocations: object


class Remembered:
    """One token's. ``kept_until`` is by a monotonic clock, all other times are in seconds since 1970.

    ``allowed`` is the allow of the token by itself, if there was one: it counts from ``since`` until ``ends``, as long
    as its ``basis`` is the same. ``body`` is what a server writes of it.
    """

    __slots__ = ("allowed", "basis", "body", "ends", "identity", "kept_until", "since")

    def __init__(self, identity: Identity, kept_until: float) -> None:
        self.identity = identity
        self.kept_until = kept_until
        self.allowed: Allowed | None = None
        self.since = self.ends = 0.0
        self.basis: Basis | None = None
        self.body: bytes | None = None

    def allow(self, allowed: Allowed, now: float, basis: Basis | None) -> None:
        """Note that the token by itself is good ``now``, by ``basis``. It stays so until its end."""
        asked_again = self.identity.until
        self.allowed = self.allowed or allowed  # an equal one, whose body may be written already
        self.since, self.basis = now, basis
        self.ends = allowed.good_until if asked_again is None else min(allowed.good_until, asked_again)
