"""One place where what happens becomes a metric and a log line, in the same words."""

from verifier.core.keys import Dropped, KeySet
from verifier.core.verdict import Allowed, Denied, Verdict
from verifier.observability.log import Logger, place
from verifier.observability.metrics import Metrics


class Observer:
    """Told by the engine, the key sources and the servers."""

    def __init__(self, metrics: Metrics, log: Logger, *, log_denials: bool) -> None:
        self.metrics = metrics
        self.log = log
        self._log_denials = log_denials
        self._hit = metrics.cache_lookups.labels("identity", "memory", "hit")
        self._miss = metrics.cache_lookups.labels("identity", "memory", "miss")

    def decided(self, surface: str, verdict: Verdict, request_id: str) -> None:
        """Count a verdict, and write the line of a denial."""
        if isinstance(verdict, Allowed):
            self.metrics.decisions.labels(surface, verdict.principal.issuer_name, "allow", "").inc()
            return
        outcome = "undecided" if verdict.undecided else "deny"
        self.metrics.decisions.labels(surface, verdict.issuer, outcome, str(verdict.reason)).inc()
        if self._log_denials:
            self._write_denial(surface, verdict, outcome, request_id)

    def took(self, surface: str, seconds: float) -> None:
        self.metrics.decision_seconds.labels(surface).observe(seconds)

    def http_error(self, status: int) -> None:
        self.metrics.http_errors.labels(str(status)).inc()

    def cache_lookup(self, *, hit: bool) -> None:
        (self._hit if hit else self._miss).inc()

    def defect(self, error: Exception) -> None:
        self.metrics.defects.inc()
        self.log.error("defect", error=type(error).__name__, where=place(error.__traceback__))

    def keys_fetched(self, issuer: str, keys: KeySet, *, changed: bool) -> None:
        self.metrics.key_fetches.labels(issuer, "ok").inc()
        if not changed:
            return
        for cause in Dropped:
            self.metrics.keys_dropped.labels(issuer, str(cause)).set(keys.dropped.get(cause, 0))
        dropped = {str(cause): count for cause, count in keys.dropped.items()}
        write = self.log.info if keys.keys else self.log.warning
        write("keys", issuer=issuer, keys=len(keys.keys), dropped=dropped or None)

    def keys_failed(self, issuer: str, detail: str, *, usable: bool) -> None:
        self.metrics.key_fetches.labels(issuer, "error").inc()
        write = self.log.warning if usable else self.log.error
        write("keys_unavailable", issuer=issuer, detail=detail)

    def _write_denial(self, surface: str, denied: Denied, outcome: str, request_id: str) -> None:
        self.log.info(
            outcome,
            surface=surface,
            issuer=denied.issuer,
            reason=str(denied.reason),
            detail=denied.detail,
            request_id=request_id,
        )
