"""The ops port: liveness, readiness, metrics; with ``/admin`` (``admin.py``) and ``/status`` (``status/``)."""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import Metric

from verifier.core.keys import Dropped, KeySet
from verifier.observability.metrics import Metrics, exposition
from verifier.remote.introspector import HttpIntrospector
from verifier.remote.key_source import KeyStatus, RefreshingKeys
from verifier.server import readiness
from verifier.server.http import Bounds, Door, Handler, Route, Routes
from verifier.store.memory import MemoryCache
from verifier.store.revocations import RevocationList
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer, Request

LONGEST_ACCEPT = 1_024
"""Characters of ``Accept`` that are looked at. It takes a while to understand one."""

BOUNDS = Bounds(header_bytes=8_190, body_bytes=65_536, connections=1_024, read_timeout=5.0, keepalive_timeout=20.0)


def routes(
    state: Callable[[], Awaitable[readiness.State]], families: Callable[[], Awaitable[Iterable[Metric]]]
) -> Routes:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    async def healthz(_request: Request) -> Answer:
        return answer.as_json(200, {"status": "alive"})

    async def readyz(_request: Request) -> Answer:
        return readiness.shown(await state())

    async def expose(request: Request) -> Answer:
        wanted = ", ".join(request.values("accept"))[:LONGEST_ACCEPT]
        body, content_type = exposition(await families(), wanted)
        return Answer(HTTPStatus.OK, (("Content-Type", content_type),), body)

    served: Mapping[str, Handler] = {"/healthz": healthz, "/readyz": readyz, "/metrics": expose}
    return {path: dict.fromkeys(("GET", "HEAD"), Route(handle)) for path, handle in served.items()}


@dataclass(frozen=True, slots=True)
class Gauges:
    """What ``/metrics`` shows of this process. ``waiting``: decisions that wait, by issuer."""

    metrics: Metrics
    sources: Mapping[str, RefreshingKeys]
    introspectors: Mapping[str, HttpIntrospector]
    cache: MemoryCache
    revocations: RevocationList
    connections: Callable[[], int]
    in_flight: Callable[[], int]
    waiting: Mapping[str, Callable[[], int]]
    door: Door

    def families(self) -> tuple[Metric, ...]:
        """All metrics, as they are now."""
        self._sample()
        return tuple(self.metrics.registry.collect())

    def _sample(self) -> None:
        metrics = self.metrics
        for gauge in metrics.of_what_is_configured:
            gauge.clear()  # some of it may be gone
        for name, source in self.sources.items():
            _sample_keys(metrics, name, source.status())
            _sample_dropped(metrics, name, source.current())
        for name, introspector in self.introspectors.items():
            metrics.introspection_breaker.labels(name).set(introspector.breaker_is_open)
            metrics.introspections_in_flight.labels(name).set(introspector.in_flight)
        for name, waiting in self.waiting.items():
            metrics.decisions_waiting.labels(name).set(waiting())
        metrics.cache_entries.labels("identity", "memory").set(len(self.cache))
        metrics.cache_capacity.labels("identity", "memory").set(self.cache.capacity)
        sample_revocations(metrics, self.revocations)
        metrics.connections.set(self.connections())
        metrics.requests_in_flight.set(self.in_flight())
        for file in self.door.files:
            metrics.file_usable.labels(file.name).set(file.usable)
        for name, end in self.door.certificates().items():
            metrics.certificate_expiry.labels(name).set(end)


def _sample_keys(metrics: Metrics, issuer: str, status: KeyStatus) -> None:
    metrics.key_set_age.labels(issuer).set(math.nan if status.age is None else status.age)
    metrics.key_last_success.labels(issuer).set(status.fetched_at or 0)
    metrics.key_refresh_interval.labels(issuer).set(status.freshness.refresh)
    metrics.key_set_stale.labels(issuer).set(status.stale)
    metrics.key_set_keys.labels(issuer).set(status.keys)


def _sample_dropped(metrics: Metrics, issuer: str, keys: KeySet | None) -> None:
    """Nothing where there are none that count."""
    if keys is not None:
        for cause in Dropped:
            metrics.keys_dropped.labels(issuer, str(cause)).set(keys.dropped.get(cause, 0))


def sample_revocations(metrics: Metrics, revocations: RevocationList) -> None:
    metrics.revocations.set(len(revocations.held))
    metrics.revocations_unread.set(revocations.unread_for())
    metrics.revocations_fading.set(revocations.fading())
