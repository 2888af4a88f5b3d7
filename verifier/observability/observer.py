"""One place where what happens becomes a metric and a log line, in the same words."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import monotonic, time
from typing import TYPE_CHECKING

from verifier.core.keys import KeySet
from verifier.core.revocation import Revocation
from verifier.core.verdict import Allowed, Denied, Verdict, WouldDeny
from verifier.observability.log import Logger, place
from verifier.observability.metrics import Metrics
from verifier.observability.pace import Pace
from verifier.observability.recent import Recent
from verifier.observability.tally import Count, Durations

if TYPE_CHECKING:
    from verifier.observability.tracing import Tracing

_NOTHING = nullcontext()

REFUSALS_INTERVAL = 60.0
"""Seconds between two lines about callers that were refused."""

TRIAL_LINES = 10
"""Lines a second, at most, about what would be denied: every request may be, and a line costs more than deciding."""


class Observer:
    """Told by the engine, the key sources and the servers. ``tracing`` is None where no traces are made."""

    tracing: "Tracing | None" = None

    def __init__(
        self, metrics: Metrics, log: Logger, *, log_denials: bool, clock: Callable[[], float] = monotonic
    ) -> None:
        self.metrics = metrics
        self.log = log
        self.recent = Recent()
        self._log_denials = log_denials
        self._clock = clock
        self._trial_lines = Pace(TRIAL_LINES, clock)
        self._callers_refused = 0
        self._next_refusal_line = -math.inf
        self._refused_administrators = Pace(1, lambda: clock() / REFUSALS_INTERVAL)
        self._lookups = {
            (tier, hit): metrics.cache_lookups.of("identity", tier, "hit" if hit else "miss")
            for tier in ("memory", "shared")
            for hit in (True, False)
        }
        self._evictions = metrics.cache_evictions.of("identity", "memory")

    def decided(self, surface: str, verdict: Verdict, request_id: str, trace_id: str | None = None) -> None:
        """Count a verdict; keep a denial for the status page, and write its line, or that of what would be one."""
        if isinstance(verdict, Allowed):
            issuer = "" if verdict.principal is None else verdict.principal.issuer_name
            self.metrics.decisions.of(surface, issuer, "allow", "").value += 1
            for found in verdict.would_deny:
                self._would_deny(surface, issuer, found, {"request_id": request_id, "trace_id": trace_id})
            return
        outcome = "undecided" if verdict.undecided else "deny"
        self.metrics.decisions.of(surface, verdict.issuer, outcome, str(verdict.reason)).value += 1
        self.recent.denied(
            verdict, surface=surface, outcome=outcome, at=time(), request_id=request_id, trace_id=trace_id
        )
        if self._log_denials:
            self._write_denial(surface, verdict, outcome, {"request_id": request_id, "trace_id": trace_id})

    def allows(self, surface: str, issuer: str) -> Count:
        """For counting allows of tokens of ``issuer`` as ``decided`` does."""
        return self.metrics.decisions.of(surface, issuer, "allow", "")

    def durations(self, surface: str) -> Durations:
        """For noting durations as ``took`` does."""
        return self.metrics.decision_seconds.of(surface)

    def policy_given(self, kind: str) -> None:
        """Of IAM, to API Gateway."""
        self.metrics.aws_policies.labels(kind).inc()

    def took(self, surface: str, seconds: float, sampled_trace: str | None = None) -> None:
        """Note the time of a decision. ``sampled_trace``: its trace, where somebody keeps that one."""
        durations = self.metrics.decision_seconds.of(surface)
        if sampled_trace is None:
            durations.add(seconds)
        else:
            durations.add_traced(seconds, sampled_trace)

    def http_error(self, status: int) -> None:
        self.metrics.http_errors.labels(str(status)).inc()

    def expect_callers(self, names: Iterable[str]) -> None:
        """So that there is a 0 for whoever has not asked yet."""
        for name in names:
            self.metrics.callers.labels(name)

    def caller_admitted(self, name: str) -> None:
        self.metrics.callers.labels(name).inc()

    def caller_refused(self, name: str, peer: str) -> None:
        """At most one line a minute: it takes no secret to cause them."""
        self.metrics.callers.labels(name).inc()
        self._callers_refused += 1
        now = self._clock()
        if now >= self._next_refusal_line:
            self._next_refusal_line = now + REFUSALS_INTERVAL
            self.log.warning("caller_refused", address=peer, entries=self._callers_refused)
            self._callers_refused = 0

    def administrator_refused(self) -> None:
        """At most one line a minute, as above."""
        self.metrics.administrators_refused.inc()
        left_out = self._refused_administrators.admit()
        if left_out is not None:
            self.log.warning("administrator_refused", entries=left_out + 1)

    def file_unusable(self, name: str, detail: str) -> None:
        self.log.error("file_unusable", kind=name, detail=detail)

    def file_renewed(self, name: str) -> None:
        self.log.info("file_renewed", kind=name)

    def cache_evicted(self) -> None:
        self._evictions.value += 1

    def loop_was_late(self, seconds: float) -> None:
        self.metrics.event_loop_delay.observe(seconds)

    def cache_lookup(self, tier: str, *, hit: bool) -> None:
        self._lookups[tier, hit].value += 1

    def waiting(self, what: str, issuer: str, digest: bytes) -> AbstractContextManager[None]:  # noqa: ARG002
        """Nothing, where no traces are made."""
        return _NOTHING

    def introspected(self, issuer: str, result: str, seconds: float) -> None:
        self.metrics.introspections.labels(issuer, result).inc()
        if result != "not_asked":
            self.metrics.introspection_seconds.labels(issuer).observe(seconds)

    def introspection_failed(self, issuer: str, detail: str) -> None:
        self.log.warning("introspection_unavailable", issuer=issuer, detail=detail)

    def redis_took(self, command: str, seconds: float) -> None:
        self.metrics.redis_seconds.labels(command).observe(seconds)

    def redis_failed(self, command: str, error: Exception, seconds: float) -> None:  # noqa: ARG002 - for traces
        self.metrics.redis_errors.labels(command).inc()
        self.recent.redis_failed(error, time())
        self.log.debug("redis_error", command=command, error=type(error).__name__)

    def redis_breaker(self, *, is_open: bool, cause: str = "") -> None:
        self.metrics.redis_breaker.set(is_open)
        self.recent.redis_breaker(is_open=is_open, at=time())
        if is_open:
            self.log.error("redis_unavailable", detail=cause)
        else:
            self.log.info("redis_available")

    def entry_refused(self, cause: str) -> None:
        self.metrics.sealed_refused.labels(cause).inc()

    def write_dropped(self) -> None:
        self.metrics.redis_writes_dropped.inc()

    def revocation_arrived(self, seconds: float) -> None:
        self.metrics.revocation_lag.observe(seconds)

    def revocations_unread(self, detail: str) -> None:
        self.log.error("revocations_unread", detail=detail)

    def revocations_read_again(self) -> None:
        self.log.info("revocations_read_again")

    def revocations_restored(self, number: int) -> None:
        self.log.warning("revocations_restored", entries=number, detail="Redis had lost them")

    def revocations_refused(self, number: int) -> None:
        self.log.warning("revocations_refused", entries=number, detail="they do not open: forged, or of another key")

    def revoked(self, made: Revocation) -> None:
        self.log.info("revoked", id=made.id, kind=str(made.kind), issuer=made.issuers[0], reason=made.reason)

    def lifted(self, revocation_id: str) -> None:
        self.log.info("revocation_lifted", id=revocation_id)

    def config_in_use(self, digest: int) -> None:
        self.metrics.config_hash.set(digest)
        self.metrics.config_reload_successful.set(1)
        self.metrics.config_reload_time.set_to_current_time()

    def config_applied(self, digest: int, changed: Sequence[str]) -> None:
        self.metrics.config_reloads.labels("applied").inc()
        self.config_in_use(digest)
        self.log.info("config_applied", changed=changed)

    def config_unchanged(self) -> None:
        """It was put back, or never was another."""
        self.metrics.config_reloads.labels("unchanged").inc()
        self.metrics.config_reload_successful.set(1)
        self.log.info("config_unchanged")

    def config_refused(self, problems: Sequence[str]) -> None:
        self.metrics.config_reloads.labels("refused").inc()
        self.metrics.config_reload_successful.set(0)
        for problem in problems:
            self.log.error("config_refused", detail=problem)

    def draining(self, seconds: float) -> None:
        self.metrics.draining.set(1)
        self.log.info("draining", detail=f"not ready from now on; requests are still answered for {seconds:g} s")

    def defect(self, error: Exception) -> None:
        self.metrics.defects.inc()
        self.log.error("defect", error=type(error).__name__, where=place(error.__traceback__))

    def keys_fetched(self, issuer: str, keys: KeySet, *, changed: bool, shared: bool) -> None:
        self.metrics.key_fetches.labels(issuer, "shared" if shared else "ok").inc()
        if not changed:
            return
        dropped = {str(cause): count for cause, count in keys.dropped.items()}
        write = self.log.info if keys.keys else self.log.warning
        write("keys", issuer=issuer, keys=len(keys.keys), dropped=dropped or None)

    def keys_failed(self, issuer: str, detail: str, *, usable: bool) -> None:
        self.metrics.key_fetches.labels(issuer, "error").inc()
        write = self.log.warning if usable else self.log.error
        write("keys_unavailable", issuer=issuer, detail=detail)

    def _write_denial(self, surface: str, denied: Denied, outcome: str, ids: Mapping[str, str | None]) -> None:
        self.log.info(
            outcome,
            surface=surface,
            issuer=denied.issuer,
            reason=str(denied.reason),
            detail=denied.detail,
            **ids,
        )

    def _would_deny(self, surface: str, issuer: str, found: WouldDeny, ids: Mapping[str, str | None]) -> None:
        self.metrics.would_deny.labels(surface, issuer, found.rule, str(found.reason)).inc()
        left_out = self._trial_lines.admit() if self._log_denials else None
        if left_out is not None:
            self.log.info(
                "would_deny",
                dropped=left_out or None,
                surface=surface,
                issuer=issuer,
                rule=found.rule,
                route=found.route or None,
                pattern=found.pattern or None,
                reason=str(found.reason),
                detail=found.detail,
                **ids,
            )
