"""What the engine asks of the world outside: the forms that ``remote``, ``store`` and ``observability`` fill."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from verifier.core.identity import Identity
from verifier.core.keys import KeySet
from verifier.core.revocation import Revocations
from verifier.remembered import Remembered


class SourceUnavailable(Exception):  # noqa: N818 - reads as what it says
    """Something outside that a decision needs cannot be had now. ``retry_after`` is in seconds. ``status`` is what HTTP
    answered, where that is why."""

    def __init__(self, detail: str, retry_after: float = 1.0, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.status = status


class NoAnswer(Exception):  # noqa: N818 - reads as what it says
    """The issuer, which answers about other tokens, cannot tell about this one."""


class NotAsked(SourceUnavailable):
    """It did not answer lately, and was not asked again so soon."""


class Unreachable(Exception):  # noqa: N818 - reads as what it says
    """Redis did not do what it was asked. Whoever can goes on without."""


class Forbidden(Unreachable):
    """Our user of Redis may not do this."""


class KeySource(Protocol):
    """The keys of one issuer."""

    def current(self) -> KeySet | None:
        """The set to trust now, or None."""

    def may_refresh(self) -> bool:
        """Whether ``refresh`` would do anything: a fetch is under way, or one is permitted."""

    async def refresh(self) -> None:
        """Join the one shared fetch. Raises ``SourceUnavailable``."""

    def shortfall(self) -> SourceUnavailable | None:
        """Why the set in hand, if any, cannot be called complete; None when it can."""


class IdentityCache(Protocol):
    """Identities in this process, by the digest of their token."""

    def get(self, digest: bytes) -> Remembered | None: ...

    def put(self, digest: bytes, identity: Identity, *, good: bool) -> None: ...


class SharedIdentities(Protocol):
    """Packed identities for all replicas, by the digest of their token. Never raises: a failure is a miss."""

    @property
    def is_shared(self) -> bool:
        """Whether there are other replicas to ask."""

    async def recall(self, digest: bytes) -> bytes | None:
        """The entry, or None."""

    async def recall_or_claim(self, digest: bytes, seconds: float) -> bytes | None:
        """The entry; or None, and the work is the caller's, for ``seconds`` at most. Waits, not quite as long,
        where another replica is doing it."""

    def keep(self, digest: bytes, entry: bytes, seconds: float) -> None:
        """Store the entry for ``seconds``, without waiting for it."""

    def release(self, digest: bytes) -> None:
        """The work that was claimed is done, or came to nothing."""


class Introspector(Protocol):
    """Asks one issuer about tokens (RFC 7662)."""

    @property
    def deadline(self) -> float:
        """The longest time that an answer takes, in seconds."""

    async def ask(self, token: str) -> Mapping[str, Any]:
        """The issuer's answer. Raises ``SourceUnavailable`` and ``NoAnswer``."""


class RevocationSource(Protocol):
    """The revocations in force."""

    @property
    def held(self) -> Revocations: ...

    def outage(self) -> SourceUnavailable | None:
        """Why no decision may be made on ``held``; None when it may."""


class EngineObserver(Protocol):
    """Told what the engine sees; decides nothing."""

    def cache_lookup(self, tier: str, *, hit: bool) -> None: ...

    def introspected(self, issuer: str, result: str, seconds: float) -> None: ...

    def introspection_failed(self, issuer: str, detail: str) -> None: ...

    def defect(self, error: Exception) -> None: ...

    def waiting(self, what: str, issuer: str, digest: bytes) -> AbstractContextManager[None]:
        """A decision waits inside: for ``keys``, for ``introspection``, or for a ``shared`` identity of the token with
        ``digest``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``token_bytes``: the longest token looked at. ``waiting``: decisions that may wait for one issuer at once.

    ``shared_for`` is how long, in seconds, an identity that a signature made stays with the other replicas, and
    ``shared_algorithms`` are those for which they are asked.
    """

    token_bytes: int = 16_384
    waiting: int = 1_024
    shared_algorithms: frozenset[str] = frozenset()
    shared_for: float = 300.0


@dataclass(frozen=True, slots=True)
class Sources:
    """What the engine can ask. Issuers without keys have no entry in ``keys``."""

    keys: Mapping[str, KeySource]
    introspectors: Mapping[str, Introspector]
    shared: SharedIdentities
    revocations: RevocationSource
