"""Prometheus metrics. Labels come from the configuration and from enumerations, never from a request."""

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from verifier import __version__
from verifier.observability.merging import OF_PROCESSES, How
from verifier.observability.tally import TalliedCounter, TalliedHistogram

# Seconds. A cached answer takes tens of microseconds, a signature a few hundred, a key fetch up to its deadline.
BUCKETS = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
)


class Metrics:
    """All metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks about
        self.registry = CollectorRegistry()
        self.gauges = dict(OF_PROCESSES)
        """Name of a gauge → what it is for several workers."""
        self._of_decisions()
        self._of_keys()
        self._of_caches()
        self._of_redis()
        self._of_introspection()
        self._of_revocations()
        self._of_ports()
        self._of_the_process()
        self._of_the_configuration()

    def _of_decisions(self) -> None:
        self.decisions = TalliedCounter(
            "verifier_decisions",
            "Decisions. outcome is allow, deny or undecided; issuer is empty when none matched.",
            ("surface", "issuer", "outcome", "reason"),
            self.registry,
        )
        self.decision_seconds = TalliedHistogram(
            "verifier_decision_seconds",
            "Time from a request read to its verdict, waiting for keys included.",
            "surface",
            BUCKETS,
            self.registry,
        )
        self.would_deny = self._counter(
            "would_deny",
            "Allows that a rule which is only reported would deny. rule is issuer or route.",
            ("surface", "issuer", "rule", "reason"),
        )
        self.aws_policies = self._counter(
            "aws_policies",
            "Policies given to API Gateway. policy is routes, api, method, or fallback: the requested method "
            "alone, as IAM cannot express the routes.",
            ("policy",),
        )

    def _of_keys(self) -> None:
        self.key_fetches = self._counter(
            "key_fetches",
            "Fetches of keys. result is ok, error, or shared where another replica had fetched.",
            ("issuer", "result"),
        )
        self.key_set_age = self._gauge(
            "key_set_age_seconds", How.MAX, "Time since keys were last fetched; NaN before the first time.", ("issuer",)
        )
        self.key_set_keys = self._gauge(
            "key_set_keys", How.MIN, "Usable keys; 0 when they are too old to trust.", ("issuer",)
        )
        self.keys_dropped = self._gauge(
            "keys_dropped", How.MAX, "Keys of the set that cannot be used.", ("issuer", "cause")
        )

    def _of_caches(self) -> None:
        self.cache_lookups = TalliedCounter(
            "verifier_cache_lookups",
            "Cache look-ups. result is hit or miss.",
            ("kind", "tier", "result"),
            self.registry,
        )
        self.cache_entries = self._gauge("cache_entries", How.SUM, "Entries held.", ("kind", "tier"))

    def _of_redis(self) -> None:
        self.redis_seconds = self._histogram("redis_seconds", "Time of commands that Redis carried out.", ("command",))
        self.redis_errors = self._counter("redis_errors", "Commands that Redis did not carry out.", ("command",))
        self.redis_breaker = self._gauge(
            "redis_breaker_open", How.MAX, "1 while Redis is not asked, as it did not answer."
        )
        self.redis_writes_dropped = self._counter("redis_writes_dropped", "Entries not written, as too many waited.")
        self.sealed_refused = self._counter(
            "sealed_entries_refused",
            "Entries of Redis that did not open: format, other_key, forged, expired.",
            ("cause",),
        )

    def _of_introspection(self) -> None:
        self.introspections = self._counter(
            "introspections",
            "Questions about tokens. result is active, inactive, error, or not_asked while the breaker is open.",
            ("issuer", "result"),
        )
        self.introspection_seconds = self._histogram(
            "introspection_seconds",
            "Time of calls to introspection endpoints, waiting for a turn included.",
            ("issuer",),
        )
        self.introspection_breaker = self._gauge(
            "introspection_breaker_open", How.MAX, "1 while the issuer is not asked, as it did not answer.", ("issuer",)
        )

    def _of_revocations(self) -> None:
        self.revocations = self._gauge("revocations", How.MAX, "Revocations held.")
        self.revocations_unread = self._gauge(
            "revocations_unread_seconds", How.MAX, "Time since the list of revocations was last read to its end."
        )
        self.revocations_fading = self._gauge(
            "revocations_fading", How.MAX, "Revocations in Redis that only the second of our sealing keys opens."
        )
        self.revocation_lag = self._histogram(
            "revocation_lag_seconds", "Time from a revocation on another replica to its arrival here, by their clocks."
        )

    def _of_ports(self) -> None:
        self.http_errors = self._counter(
            "http_errors", "Requests refused by HTTP itself (404, 405, 408 …).", ("status",)
        )
        self.callers = self._counter(
            "callers", "Requests by the caller whose secret they show; unknown are those refused.", ("caller",)
        )
        self.handshakes_failed = self._counter("handshakes_failed", "TLS handshakes that came to nothing.")
        self.connections = self._gauge("connections", How.SUM, "Connections open on the data port.")
        self.connections_refused = self._counter("connections_refused", "Connections closed as too many were open.")

    def _of_the_process(self) -> None:
        self.workers = self._gauge("workers", How.SUM, "Processes that take connections.")
        self.worker_restarts = self._counter("worker_restarts", "Workers that were started in the place of another.")
        self.log_lines_dropped = self._gauge("log_lines_dropped", How.SUM, "Log lines dropped as nobody read them.")
        self.defects = self._counter("defects", "Errors that should not happen; none of them allowed anything.")
        self._gauge("build_info", How.MAX, "Always 1.", ("version",)).labels(__version__).set(1)
        for process_wide in (ProcessCollector, PlatformCollector, GCCollector):
            process_wide(registry=self.registry)

    def _of_the_configuration(self) -> None:
        self.config_hash = self._gauge(
            "config_hash", How.MAX, "A number that stands for the configuration in use: equal where replicas agree."
        )
        self.config_reloads = self._counter(
            "config_reloads", "Looks at a changed configuration. result is applied, unchanged or refused.", ("result",)
        )
        for result in ("applied", "unchanged", "refused"):
            self.config_reloads.labels(result)
        self.config_reload_successful = self._gauge(
            "config_last_reload_successful", How.MAX, "0 from when a configuration was refused until one is applied."
        )
        self.config_reload_time = self._gauge(
            "config_last_reload_success_timestamp_seconds", How.MAX, "When the configuration in use was read."
        )
        self.draining = self._gauge("draining", How.MAX, "1 from SIGTERM on.")

    def _counter(self, name: str, means: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"verifier_{name}", means, labels, registry=self.registry)

    def _histogram(self, name: str, means: str, labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(f"verifier_{name}", means, labels, buckets=BUCKETS, registry=self.registry)

    def _gauge(self, name: str, how: How, means: str, labels: tuple[str, ...] = ()) -> Gauge:
        """``how`` is what it is for several workers."""
        self.gauges[f"verifier_{name}"] = how
        return Gauge(f"verifier_{name}", means, labels, registry=self.registry)


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(families: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """``families`` in the format that the header ``Accept`` asks for, and its content type."""
    encode: Callable[[CollectorRegistry], bytes]
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Once(tuple(families)))
    return encode(registry), content_type
