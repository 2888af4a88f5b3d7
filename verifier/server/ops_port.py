"""The ops port: liveness, readiness, metrics; and ``/admin`` (``admin.py``)."""

import math
from collections.abc import Callable, Collection, Mapping
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


def routes(gauges: "Gauges", readiness: "Readiness") -> Routes:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    async def healthz(_request: Request) -> Answer:
        return answer.as_json(200, {"status": "alive"})

    async def readyz(_request: Request) -> Answer:
        return readiness.report()

    async def expose(request: Request) -> Answer:
        gauges.sample()
        body, content_type = gauges.metrics.expose(", ".join(request.values("accept")))
        return Answer(HTTPStatus.OK, (("Content-Type", content_type),), body)

    served: Mapping[str, Handler] = {"/healthz": healthz, "/readyz": readyz, "/metrics": expose}
    return {path: dict.fromkeys(("GET", "HEAD"), Route(handle)) for path, handle in served.items()}


class Readiness:
    """Whether this replica should be asked. ``without_keys``: there are issuers that need none."""

    def __init__(
        self, sources: Mapping[str, RefreshingKeys], revocations: RevocationList, *, without_keys: bool
    ) -> None:
        self._sources = sources
        self._revocations = revocations
        self._without_keys = without_keys

    def is_ready(self) -> bool:
        """Ready when every issuer was asked once and one has usable keys, or needs none; and, for a while, when the
        revocations are known.

        One issuer's outage must not take the others' tokens down with it, so it does not make us unready. Without
        any keys at all we can do nothing but answer 503, and another replica may do better.
        """
        return self._revocations.settled() and self._has_keys(self._status().values())

    def report(self) -> Answer:
        issuers = {
            name: {"usable_keys": issuer.keys, "age_seconds": issuer.age, "last_error": issuer.last_error}
            for name, issuer in self._status().items()
        }
        ready = self.is_ready()
        unread = {"unread_seconds": self._revocations.unread_for()}
        return answer.as_json(200 if ready else 503, {"ready": ready, "issuers": issuers, "revocations": unread})

    def _status(self) -> Mapping[str, KeyStatus]:
        return {name: source.status() for name, source in self._sources.items()}

    def _has_keys(self, issuers: Collection[KeyStatus]) -> bool:
        usable = self._without_keys or any(issuer.keys for issuer in issuers)
        return usable and all(issuer.attempted for issuer in issuers)


@dataclass(frozen=True, slots=True)
class Gauges:
    """What ``/metrics`` shows."""

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
