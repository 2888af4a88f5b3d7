"""From what a service measures and notes to its status. Pure.

Everything is read from the metrics, which are put together over all workers already, from ``/readyz``, and from what
neither can hold: texts of errors, and the denials of late. A metric that is not there is None on the page.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Metric
from prometheus_client.samples import Sample

from verifier import __version__
from verifier.core.issuer import Issuer as ConfiguredIssuer
from verifier.observability.log import safe
from verifier.observability.recent import Denial, Noted
from verifier.server import readiness
from verifier.server.status.model import (
    Cache,
    Decisions,
    Introspection,
    Issuer,
    Keys,
    Redis,
    Refusals,
    Revocations,
    Service,
    Standing,
    Status,
    Trial,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """``shared``: the list of revocations is that of all replicas, so there is a Redis. ``started_at`` is in seconds
    since 1970."""

    families: tuple[Metric, ...]
    state: readiness.State
    noted: Noted
    issuers: tuple[ConfiguredIssuer, ...]
    shared: bool
    started_at: float


class Figures:
    """Samples, by name and labels."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._samples: dict[str, list[Sample]] = {}
        for family in families:
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append(sample)

    def of(self, name: str, **labels: str) -> list[Sample]:
        """The samples of ``verifier_`` and ``name`` that have these labels, and a value."""
        found = self._samples.get(f"verifier_{name}", [])
        return [one for one in found if labels.items() <= one.labels.items() and not math.isnan(one.value)]

    def total(self, name: str, **labels: str) -> int:
        return int(sum(sample.value for sample in self.of(name, **labels)))

    def value(self, name: str, **labels: str) -> float | None:
        """None where there is none."""
        found = self.of(name, **labels)
        return found[0].value if found else None

    def number(self, name: str, **labels: str) -> int | None:
        found = self.value(name, **labels)
        return None if found is None else int(found)


def status(facts: Facts, at: float) -> Status:
    """That of the service at ``at`` (seconds since 1970)."""
    figures = Figures(facts.families)
    return Status(
        at=at,
        service=_service(facts, figures, at),
        decisions=Decisions(
            allowed=figures.total("decisions_total", outcome="allow"),
            denied=figures.total("decisions_total", outcome="deny"),
            undecided=figures.total("decisions_total", outcome="undecided"),
        ),
        issuers=tuple(_issuer(issuer, facts.state.issuers.get(issuer.name), figures, at) for issuer in facts.issuers),
        caches=_caches(figures),
        redis=_redis(facts.noted, figures) if facts.shared else None,
        revocations=Revocations(figures.total("revocations"), facts.shared, facts.state.unread),
        refusals=_refusals(facts.noted, figures),
        recent=tuple(map(_shown, facts.noted.denials)),
        would_deny=_trials(figures),
    )


def as_json(found: Status) -> dict[str, Any]:
    """Its members."""
    members: dict[str, Any] = _plain(found)
    return members


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def _service(facts: Facts, figures: Figures, at: float) -> Service:
    config = figures.number("config_hash") or None
    return Service(
        version=__version__,
        started_at=facts.started_at,
        uptime_seconds=max(0.0, at - facts.started_at),
        ready=facts.state.ready,
        draining=facts.state.draining,
        workers=figures.total("workers"),
        config_hash=None if config is None else f"{config:012x}",
        config_read_at=figures.value("config_last_reload_success_timestamp_seconds") or None,
        config_reload_refused=config is not None and figures.value("config_last_reload_successful") == 0,
    )


def _issuer(issuer: ConfiguredIssuer, found: readiness.Keys | None, figures: Figures, at: float) -> Issuer:
    if found is None and issuer.has_keys:
        found = _NOT_HEARD_OF
    keys = None if found is None else _keys(issuer.name, found, figures, at)
    is_stale = figures.value("key_set_stale", issuer=issuer.name) == 1
    breaker = figures.value("introspection_breaker_open", issuer=issuer.name)
    introspection = None
    if issuer.introspection is not None:
        introspection = Introspection(
            breaker_open=breaker == 1,
            answered=sum(figures.total("introspections_total", issuer=issuer.name, result=r) for r in _ANSWERS),
            failed=figures.total("introspections_total", issuer=issuer.name, result="error"),
        )
    standing = _standing(keys, introspection, is_stale=is_stale)
    return Issuer(issuer.name, tuple(sorted(issuer.identifiers)), standing, keys, introspection)


_ANSWERS = ("active", "inactive")
_NOT_HEARD_OF = readiness.Keys(0, None, None)  # as no worker has come that far


def _keys(issuer: str, found: readiness.Keys, figures: Figures, at: float) -> Keys:
    dropped = {one.labels["cause"]: int(one.value) for one in figures.of("keys_dropped", issuer=issuer) if one.value}
    return Keys(
        usable=found.usable,
        dropped=dropped,
        age_seconds=found.age,
        refresh_seconds=figures.value("key_refresh_interval_seconds", issuer=issuer),
        max_stale_seconds=_finite(found.max_stale),
        next_look_seconds=found.next_look,
        fetched_at=None if found.age is None else at - found.age,
        last_error=None if found.last_error is None else safe(found.last_error),
    )


def _standing(keys: Keys | None, introspection: Introspection | None, *, is_stale: bool) -> Standing:
    """That of its keys; of introspection, where there are none."""
    if keys is None:
        return Standing.SILENT if introspection is not None and introspection.breaker_open else Standing.ASKED
    if keys.usable == 0:
        return Standing.WITHOUT_KEYS
    if is_stale:
        return Standing.STALE
    return Standing.FRESH if keys.last_error is None else Standing.FAILING


def _caches(figures: Figures) -> tuple[Cache, ...]:
    lookups = figures.of("cache_lookups_total")
    places = dict.fromkeys((one.labels["kind"], one.labels["tier"]) for one in (*lookups, *figures.of("cache_entries")))
    return tuple(
        cache for kind, tier in places if (cache := _cache(kind, tier, figures)).entries is not None or _is_asked(cache)
    )


def _cache(kind: str, tier: str, figures: Figures) -> Cache:
    hits = figures.total("cache_lookups_total", kind=kind, tier=tier, result="hit")
    misses = figures.total("cache_lookups_total", kind=kind, tier=tier, result="miss")
    return Cache(
        kind=kind,
        tier=tier,
        entries=figures.number("cache_entries", kind=kind, tier=tier),
        capacity=figures.number("cache_capacity", kind=kind, tier=tier),
        evictions=figures.number("cache_evictions_total", kind=kind, tier=tier),
        hits=hits,
        misses=misses,
        hit_ratio=hits / (hits + misses) if hits + misses else None,
    )


def _is_asked(cache: Cache) -> bool:
    return cache.hit_ratio is not None


def _redis(noted: Noted, figures: Figures) -> Redis:
    return Redis(
        available=figures.value("redis_breaker_open") != 1,
        unavailable_since_at=noted.redis.unavailable_since,
        last_error=noted.redis.error,
        last_error_at=noted.redis.at,
        errors=figures.total("redis_errors_total"),
    )


def _refusals(noted: Noted, figures: Figures) -> tuple[Refusals, ...]:
    """The most frequent first."""
    counts: dict[tuple[str, str, str], int] = {}
    for sample in figures.of("decisions_total"):
        if sample.labels["outcome"] != "allow":
            place = (sample.labels["issuer"], sample.labels["outcome"], sample.labels["reason"])
            counts[place] = counts.get(place, 0) + int(sample.value)
    last: Mapping[tuple[str, str], Denial] = {(one.issuer, one.reason): _shown(one) for one in noted.last}
    found = [
        Refusals(issuer, outcome, reason, count, last.get((issuer, reason)))
        for (issuer, outcome, reason), count in counts.items()
        if count
    ]
    return tuple(sorted(found, key=lambda one: (-one.count, one.reason, one.issuer)))


def _trials(figures: Figures) -> tuple[Trial, ...]:
    """The most frequent first."""
    counts: dict[tuple[str, str, str], int] = {}
    for sample in figures.of("would_deny_total"):
        place = (sample.labels["issuer"], sample.labels["rule"], sample.labels["reason"])
        counts[place] = counts.get(place, 0) + int(sample.value)
    found = [Trial(*place, count) for place, count in counts.items() if count]
    return tuple(sorted(found, key=lambda one: (-one.count, one.reason, one.issuer, one.rule)))


def _shown(denial: Denial) -> Denial:
    """What clients named may have been a token."""
    return denial._replace(request_id=safe(denial.request_id), detail=safe(denial.detail))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
