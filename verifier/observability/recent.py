"""What the status page tells of the recent past: denials, and trouble with Redis.

Kept here is what the log says too, and no more: a detail speaks of what is expected and never repeats text of a token,
a hint speaks of the configuration, and an error goes by the name of its class. Allows are not kept.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from verifier.core.verdict import Denied

MOST = 100
"""Denials that a process keeps."""


class Denial(NamedTuple):
    """One verdict that was no allow. ``at`` is in seconds since 1970; ``issuer`` is empty where none matched."""

    at: float
    surface: str
    issuer: str
    outcome: str
    reason: str
    detail: str
    hint: str | None
    request_id: str
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class RedisTrouble:
    """``unavailable_since`` and ``at`` are in seconds since 1970; ``error`` is the class of the last one."""

    unavailable_since: float | None = None
    error: str | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """What is known of the recent past. ``denials`` are the latest, the newest first; ``last`` is the latest of each
    issuer and reason."""

    denials: tuple[Denial, ...] = ()
    last: tuple[Denial, ...] = ()
    redis: RedisTrouble = RedisTrouble()


class Recent:
    """Keeps the last ``MOST`` denials, and the last one of each issuer and reason: both are bounded by the
    configuration, whatever is sent."""

    def __init__(self) -> None:
        self._denials: deque[Denial] = deque(maxlen=MOST)
        self._last: dict[tuple[str, str], Denial] = {}
        self._redis = RedisTrouble()

    def denied(
        self, denied: Denied, *, surface: str, outcome: str, at: float, request_id: str, trace_id: str | None
    ) -> None:
        reason = str(denied.reason)
        noted = Denial(at, surface, denied.issuer, outcome, reason, denied.detail, denied.hint, request_id, trace_id)
        self._denials.append(noted)
        self._last[denied.issuer, reason] = noted

    def redis_failed(self, error: Exception, at: float) -> None:
        self._redis = RedisTrouble(self._redis.unavailable_since, type(error).__name__, at)

    def redis_breaker(self, *, is_open: bool, at: float) -> None:
        self._redis = RedisTrouble(at if is_open else None, self._redis.error, self._redis.at)

    def noted(self) -> Noted:
        return Noted(tuple(reversed(self._denials)), tuple(self._last.values()), self._redis)


def merged(processes: Sequence[Noted]) -> Noted:
    """What several processes noted, as one: the latest of all denials, and the longest trouble with Redis."""
    last: dict[tuple[str, str], Denial] = {}
    for denial in sorted((one for noted in processes for one in noted.last), key=attrgetter("at")):
        last[denial.issuer, denial.reason] = denial
    newest = heapq.nlargest(MOST, (one for noted in processes for one in noted.denials), key=attrgetter("at"))
    return Noted(tuple(newest), tuple(last.values()), _worst(noted.redis for noted in processes))


def _worst(found: Iterable[RedisTrouble]) -> RedisTrouble:
    known = list(found)
    since = [one.unavailable_since for one in known if one.unavailable_since is not None]
    failed = [(one.at, one.error) for one in known if one.at is not None]
    at, error = max(failed, default=(None, None), key=lambda one: one[0])
    return RedisTrouble(min(since, default=None), error, at)
