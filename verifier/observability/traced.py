"""The observer where traces are made. Needs the extra ``otel``."""

from contextlib import AbstractContextManager

from verifier.observability.log import Logger
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.observability.tracing import Tracing


class TracedObserver(Observer):
    """Tells spans too."""

    def __init__(self, metrics: Metrics, log: Logger, *, log_denials: bool, tracing: Tracing) -> None:
        super().__init__(metrics, log, log_denials=log_denials)
        self.tracing = self._spans = tracing

    def waiting(self, what: str, issuer: str, digest: bytes) -> AbstractContextManager[None]:
        return self._spans.waiting(what, issuer, digest)

    def cache_lookup(self, tier: str, *, hit: bool) -> None:
        super().cache_lookup(tier, hit=hit)
        if hit:
            self._spans.looked_up(tier)

    def redis_took(self, command: str, seconds: float) -> None:
        super().redis_took(command, seconds)
        self._spans.redis(command, seconds)

    def redis_failed(self, command: str, error: Exception, seconds: float) -> None:
        super().redis_failed(command, error, seconds)
        self._spans.redis(command, seconds, error)

    def defect(self, error: Exception) -> None:
        super().defect(error)
        self._spans.defect(error)
