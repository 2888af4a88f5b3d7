"""The ops port: liveness, readiness, metrics."""

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus

from verifier.observability.metrics import Metrics
from verifier.remote.key_source import KeyStatus, RefreshingKeys
from verifier.server.http import Handler, Route, Routes
from verifier.store.memory import MemoryCache
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer, Request

OpenConnections = Callable[[], int]


def routes(
    sources: Mapping[str, RefreshingKeys], cache: MemoryCache, metrics: Metrics, connections: OpenConnections
) -> Routes:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    async def healthz(_request: Request) -> Answer:
        return answer.as_json(200, {"status": "alive"})

    async def readyz(_request: Request) -> Answer:
        status = {name: source.status() for name, source in sources.items()}
        return _readiness(status)

    async def expose(request: Request) -> Answer:
        _sample(sources, cache, metrics, connections)
        body, content_type = metrics.expose(", ".join(request.values("accept")))
        return Answer(HTTPStatus.OK, (("Content-Type", content_type),), body)

    served: Mapping[str, Handler] = {"/healthz": healthz, "/readyz": readyz, "/metrics": expose}
    return {path: dict.fromkeys(("GET", "HEAD"), Route(handle)) for path, handle in served.items()}


def is_ready(status: Mapping[str, KeyStatus]) -> bool:
    """Ready when every issuer was asked once and one has usable keys.

    One issuer's outage must not take the others' tokens down with it, so it does not make us unready. Without
    any keys at all we can do nothing but answer 503, and another replica may do better.
    """
    return all(issuer.attempted for issuer in status.values()) and any(issuer.keys for issuer in status.values())


def _readiness(status: Mapping[str, KeyStatus]) -> Answer:
    ready = is_ready(status)
    issuers = {
        name: {"usable_keys": issuer.keys, "age_seconds": issuer.age, "last_error": issuer.last_error}
        for name, issuer in status.items()
    }
    return answer.as_json(200 if ready else 503, {"ready": ready, "issuers": issuers})


def _sample(
    sources: Mapping[str, RefreshingKeys], cache: MemoryCache, metrics: Metrics, connections: OpenConnections
) -> None:
    """Gauges are read when somebody looks."""
    for name, source in sources.items():
        status = source.status()
        metrics.key_set_age.labels(name).set(math.nan if status.age is None else status.age)
        metrics.key_set_keys.labels(name).set(status.keys)
    metrics.cache_entries.labels("identity", "memory").set(len(cache))
    metrics.connections.set(connections())
