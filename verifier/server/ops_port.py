"""The ops port: liveness, readiness, metrics; and ``/admin`` (``admin.py``)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from verifier.observability.metrics import Metrics
from verifier.remote.introspector import HttpIntrospector
from verifier.remote.key_source import KeyStatus, RefreshingKeys
from verifier.server.http import Handler, Route, Routes
from verifier.store.memory import MemoryCache
from verifier.store.revocations import RevocationList
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer, Request


def routes(gauges: "Gauges", *, without_keys: bool) -> Routes:
    """``/healthz``, ``/readyz`` and ``/metrics``. ``without_keys``: there are issuers that need none."""

    async def healthz(_request: Request) -> Answer:
        return answer.as_json(200, {"status": "alive"})

    async def readyz(_request: Request) -> Answer:
        status = {name: source.status() for name, source in gauges.sources.items()}
        return _readiness(status, gauges.revocations, without_keys=without_keys)

    async def expose(request: Request) -> Answer:
        gauges.sample()
        body, content_type = gauges.metrics.expose(", ".join(request.values("accept")))
        return Answer(HTTPStatus.OK, (("Content-Type", content_type),), body)

    served: Mapping[str, Handler] = {"/healthz": healthz, "/readyz": readyz, "/metrics": expose}
    return {path: dict.fromkeys(("GET", "HEAD"), Route(handle)) for path, handle in served.items()}


def is_ready(status: Mapping[str, KeyStatus], *, without_keys: bool) -> bool:
    """Ready when every issuer was asked once and one has usable keys, or needs none.

    One issuer's outage must not take the others' tokens down with it, so it does not make us unready. Without
    any keys at all we can do nothing but answer 503, and another replica may do better.
    """
    usable = without_keys or any(issuer.keys for issuer in status.values())
    return usable and all(issuer.attempted for issuer in status.values())


def _readiness(status: Mapping[str, KeyStatus], revocations: RevocationList, *, without_keys: bool) -> Answer:
    """A replica that does not know the revocations yet should not be the one that is asked, for a while."""
    ready = revocations.settled() and is_ready(status, without_keys=without_keys)
    issuers = {
        name: {"usable_keys": issuer.keys, "age_seconds": issuer.age, "last_error": issuer.last_error}
        for name, issuer in status.items()
    }
    unread = {"unread_seconds": revocations.unread_for()}
    return answer.as_json(200 if ready else 503, {"ready": ready, "issuers": issuers, "revocations": unread})


@dataclass(frozen=True, slots=True)
class Gauges:
    """What ``/metrics`` and ``/readyz`` show."""

    metrics: Metrics
    sources: Mapping[str, RefreshingKeys]
    introspectors: Mapping[str, HttpIntrospector]
    cache: MemoryCache
    revocations: RevocationList
    connections: Callable[[], int]

    def sample(self) -> None:
        metrics = self.metrics
        for name, source in self.sources.items():
            status = source.status()
            metrics.key_set_age.labels(name).set(math.nan if status.age is None else status.age)
            metrics.key_set_keys.labels(name).set(status.keys)
        for name, introspector in self.introspectors.items():
            metrics.introspection_breaker.labels(name).set(introspector.breaker_is_open)
        metrics.cache_entries.labels("identity", "memory").set(len(self.cache))
        metrics.revocations.set(len(self.revocations.held))
        metrics.revocations_unread.set(self.revocations.unread_for())
        metrics.revocations_fading.set(self.revocations.fading())
        metrics.connections.set(self.connections())
