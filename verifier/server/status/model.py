"""What the status page says, as values. Their fields are the members of its JSON (docs/status.md).

Times that end in ``_at`` are in seconds since 1970, those in ``_seconds`` are durations. None is what is not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from verifier.observability.recent import Denial


class Standing(StrEnum):
    """How an issuer's keys stand. Those that are asked about every token have none."""

    FRESH = "fresh"
    FAILING = "failing"  # the last look came to nothing; the next is not overdue
    STALE = "stale"  # a look is overdue, and the last keys still count
    WITHOUT_KEYS = "without keys"  # its tokens get 503, or 401 where it has keys and none can be used
    ASKED = "asked"  # there are none: it is asked about every token
    SILENT = "silent"  # it is asked, and does not answer


@dataclass(frozen=True, slots=True)
class Service:
    version: str
    started_at: float
    uptime_seconds: float
    ready: bool
    draining: bool
    workers: int
    config_hash: str | None = None
    config_read_at: float | None = None
    config_reload_refused: bool = False


@dataclass(frozen=True, slots=True)
class Decisions:
    """Since the start."""

    allowed: int
    denied: int
    undecided: int


@dataclass(frozen=True, slots=True)
class Keys:
    """``refresh_seconds``: the age at which a look is overdue; ``max_stale_seconds``: at which they count no more.
    ``dropped`` says how many keys of the set are not used, and why."""

    usable: int
    dropped: Mapping[str, int]
    age_seconds: float | None
    refresh_seconds: float | None
    max_stale_seconds: float | None
    next_look_seconds: float
    fetched_at: float | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Introspection:
    """``breaker_open``: it is not asked, as it did not answer."""

    breaker_open: bool
    answered: int
    failed: int


@dataclass(frozen=True, slots=True)
class Issuer:
    name: str
    identifiers: tuple[str, ...]
    standing: Standing
    keys: Keys | None
    introspection: Introspection | None


@dataclass(frozen=True, slots=True)
class Cache:
    """``hit_ratio`` is since the start. Where ``entries`` are those of all replicas, nobody here has counted them."""

    kind: str
    tier: str
    entries: int | None
    capacity: int | None
    evictions: int | None
    hits: int
    misses: int
    hit_ratio: float | None


@dataclass(frozen=True, slots=True)
class Redis:
    """``last_error`` is the class of the last command's that failed."""

    available: bool
    unavailable_since_at: float | None
    last_error: str | None
    last_error_at: float | None
    errors: int


@dataclass(frozen=True, slots=True)
class Revocations:
    """``shared``: with all replicas, through Redis."""

    held: int
    shared: bool
    unread_seconds: float


@dataclass(frozen=True, slots=True)
class Refusals:
    """Those of one issuer for one reason: how many since the start, and the last one, if it is known."""

    issuer: str
    outcome: str
    reason: str
    count: int
    last: Denial | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What was allowed since the start and would not be by a ``rule`` (``issuer`` or ``route``) on trial."""

    issuer: str
    rule: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Status:
    """``redis`` is None where there is none. ``recent`` are the latest refusals, the newest first.
    ``would_deny`` is what rules on trial would deny."""

    at: float
    service: Service
    decisions: Decisions
    issuers: tuple[Issuer, ...]
    caches: tuple[Cache, ...]
    redis: Redis | None
    revocations: Revocations
    refusals: tuple[Refusals, ...]
    recent: tuple[Denial, ...]
    would_deny: tuple[Trial, ...] = ()
