"""Prometheus metrics: their names, what may stand in their labels, and what each gauge is for several workers."""

from collections.abc import Callable, Iterable, Sequence

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
from verifier.observability import labels
from verifier.observability.labels import Labels, Values
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

LOOP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds. The system's timers are up to one millisecond late by themselves."""


class Metrics:
    """All metrics of one service, in a registry of its own.

    Each is declared with what may stand in its labels, and each gauge with what it is for several workers.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks about
        self.registry = CollectorRegistry()
        self.gauges = dict(OF_PROCESSES)
        """Name of a gauge → what it is for several workers."""
        self.allowed: dict[str, Labels] = {}
        """Name of a family → its labels, and what may stand in them."""
        self._of_decisions()
        self._of_keys()
        self._of_caches()
        self._of_redis()
        self._of_introspection()
        self._of_revocations()
        self._of_ports()
        self._of_files()
        self._of_the_process()
        self._of_the_configuration()
        self.of_what_is_configured = (
            self.decisions_waiting,
            self.key_set_age,
            self.key_last_success,
            self.key_refresh_interval,
            self.key_set_stale,
            self.key_set_keys,
            self.keys_dropped,
            self.introspections_in_flight,
            self.introspection_breaker,
            self.certificate_expiry,
            self.file_usable,
        )
        """Gauges with a series for each of what the configuration names. Another one may name less."""

    def _of_decisions(self) -> None:
        self.decisions = self._tallied(
            "decisions",
            "Decisions. reason is empty for an allow; issuer is empty when none matched.",
            {
                "surface": labels.SURFACE,
                "issuer": labels.ISSUER_IF_ANY,
                "outcome": ("allow", "deny", "undecided"),
                "reason": labels.REASON_IF_ANY,
            },
        )
        self.decision_seconds = self._tallied_histogram(
            "decision_seconds",
            "Time from a request read to its verdict, waiting for keys included. In OpenMetrics, the newest sampled "
            "trace of each bucket is its exemplar.",
            ("surface", labels.SURFACE),
        )
        self.decisions_waiting = self._gauge(
            "decisions_waiting",
            How.SUM,
            "Decisions that wait for keys, another replica or introspection; limits.waiting at most for each issuer.",
            {"issuer": labels.ISSUER},
        )
        self.would_deny = self._counter(
            "would_deny",
            "Allows that a rule which is only reported would deny.",
            {
                "surface": labels.SURFACE,
                "issuer": labels.ISSUER_IF_ANY,
                "rule": ("issuer", "route"),
                "reason": labels.REASON,
            },
        )
        self.aws_policies = self._counter(
            "aws_policies",
            "Policies given to API Gateway. fallback is the requested method alone, where IAM cannot express the "
            "routes.",
            {"policy": ("routes", "api", "method", "fallback")},
        )

    def _of_keys(self) -> None:
        self.key_fetches = self._counter(
            "key_fetches",
            "Fetches of keys. shared where another replica had fetched.",
            {"issuer": labels.ISSUER, "result": ("ok", "error", "shared")},
        )
        self.key_set_age = self._of_issuers(
            "key_set_age_seconds", How.MAX, "Time since keys were last fetched; NaN before the first time."
        )
        self.key_last_success = self._of_issuers(
            "key_last_success_timestamp_seconds",
            How.MIN,
            "When keys were last fetched, in seconds since 1970; 0 before the first time.",
        )
        self.key_refresh_interval = self._of_issuers(
            "key_refresh_interval_seconds", How.MAX, "The longest time between two fetches while they succeed."
        )
        self.key_set_stale = self._of_issuers(
            "key_set_stale",
            How.MAX,
            "1 while a fetch is overdue, the last one failed, and the keys in hand still serve.",
        )
        self.key_set_keys = self._of_issuers("key_set_keys", How.MIN, "Usable keys; 0 when they are too old to trust.")
        self.keys_dropped = self._gauge(
            "keys_dropped",
            How.MAX,
            "Keys of the set that cannot be used.",
            {"issuer": labels.ISSUER, "cause": labels.DROPPED},
        )

    def _of_caches(self) -> None:
        in_memory: Labels = {"kind": ("identity",), "tier": ("memory",)}
        self.cache_lookups = self._tallied(
            "cache_lookups",
            "Cache look-ups, in memory or shared between replicas.",
            {"kind": ("identity",), "tier": ("memory", "shared"), "result": labels.HIT},
        )
        self.cache_entries = self._gauge("cache_entries", How.SUM, "Entries held.", in_memory)
        self.cache_capacity = self._gauge("cache_capacity", How.SUM, "Entries that there is room for.", in_memory)
        self.cache_evictions = self._tallied(
            "cache_evictions",
            "Entries pushed out for want of room, and not because their time was over.",
            in_memory,
        )

    def _of_redis(self) -> None:
        command: Labels = {"command": labels.REDIS_COMMAND}
        self.redis_seconds = self._histogram("redis_seconds", "Time of commands that Redis carried out.", command)
        self.redis_errors = self._counter("redis_errors", "Commands that Redis did not carry out.", command)
        self.redis_breaker = self._gauge(
            "redis_breaker_open", How.MAX, "1 while Redis is not asked, as it did not answer."
        )
        self.redis_writes_dropped = self._counter("redis_writes_dropped", "Entries not written, as too many waited.")
        self.sealed_refused = self._counter(
            "sealed_entries_refused", "Entries of Redis that did not open.", {"cause": labels.REFUSAL}
        )

    def _of_introspection(self) -> None:
        self.introspections = self._counter(
            "introspections",
            "Questions about tokens. not_asked while the breaker is open.",
            {"issuer": labels.ISSUER, "result": ("active", "inactive", "error", "not_asked")},
        )
        self.introspection_seconds = self._histogram(
            "introspection_seconds",
            "Time of calls to introspection endpoints, waiting for a turn included.",
            {"issuer": labels.ISSUER},
        )
        self.introspections_in_flight = self._of_issuers(
            "introspections_in_flight",
            How.SUM,
            "Tokens that the issuer is being asked about; introspection.max_calls at most.",
        )
        self.introspection_breaker = self._of_issuers(
            "introspection_breaker_open", How.MAX, "1 while the issuer is not asked, as it did not answer."
        )

    def _of_revocations(self) -> None:
        self.revocations = self._gauge("revocations", How.MAX, "Revocations held.")
        self.revocations_unread = self._gauge(
            "revocations_unread_seconds", How.MAX, "Time since the list of revocations was last read to its end."
        )
        self.revocations_fading = self._gauge(
            "revocations_fading", How.MAX, "Revocations in Redis that only redis.previous_key_file opens."
        )
        self.revocation_lag = self._histogram(
            "revocation_lag_seconds", "Time from a revocation on another replica to its arrival here, by their clocks."
        )

    def _of_ports(self) -> None:
        self.requests_in_flight = self._gauge(
            "requests_in_flight",
            How.SUM,
            "Requests being answered on the data port and the gRPC port. Those answered at once are never among them.",
        )
        self.http_errors = self._counter("http_errors", "Requests that HTTP itself refused.", {"status": labels.STATUS})
        self.callers = self._counter(
            "callers",
            "Requests by the caller whose secret they show; unknown are those refused.",
            {"caller": labels.CALLER},
        )
        self.handshakes_failed = self._counter(
            "handshakes_failed", "TLS handshakes on the data port that came to nothing."
        )
        self.administrators_refused = self._counter(
            "admin_refusals", "Requests for the administrator that did not show the admin token."
        )
        self.connections = self._gauge("connections", How.SUM, "Connections open on the data port.")
        self.connections_refused = self._counter("connections_refused", "Connections closed as too many were open.")

    def _of_files(self) -> None:
        self.certificate_expiry = self._gauge(
            "certificate_expiry_timestamp_seconds",
            How.MIN,
            "When the first of the certificates in use ends, in seconds since 1970: of the chain that we show, or of "
            "the authorities whose clients we take. NaN where that cannot be read.",
            {"certificate": labels.CERTIFICATE},
        )
        self.file_usable = self._gauge(
            "file_usable",
            How.MIN,
            "1 while what the file holds now is in use, 0 while it cannot be used and the last good one is.",
            {"file": labels.FILE},
        )

    def _of_the_process(self) -> None:
        self.ready = self._gauge(
            "ready", How.MAX, "1 while /readyz says 200; with several workers, it speaks for all of them."
        )
        self.event_loop_delay = self._histogram(
            "event_loop_delay_seconds",
            "How late timers fire, ten times a second in each process. Whatever else it does waits as long.",
            buckets=LOOP_BUCKETS,
        )
        self.workers = self._gauge("workers", How.SUM, "Processes that take connections.")
        self.worker_restarts = self._counter("worker_restarts", "Workers that were started in the place of another.")
        self.log_lines_dropped = self._gauge(
            "log_lines_dropped", How.SUM, "Log lines that nobody read in time, or that could not be written."
        )
        self.defects = self._counter("defects", "Errors that should not happen; none of them allowed anything.")
        version: Labels = {"version": labels.VERSION}
        self._gauge("build_info", How.MAX, "Always 1.", version).labels(__version__).set(1)
        for process_wide in (ProcessCollector, PlatformCollector, GCCollector):
            process_wide(registry=self.registry)

    def _of_the_configuration(self) -> None:
        self.config_hash = self._gauge(
            "config_hash",
            How.MAX,
            "A number that stands for the configuration in use, without addresses and what files hold: equal where "
            "replicas agree.",
        )
        results = ("applied", "unchanged", "refused")
        self.config_reloads = self._counter(
            "config_reloads", "Times that the configuration was read again, by what came of it.", {"result": results}
        )
        for result in results:
            self.config_reloads.labels(result)
        self.config_reload_successful = self._gauge(
            "config_last_reload_successful",
            How.MAX,
            "0 after a configuration was refused, until one can be used again.",
        )
        self.config_reload_time = self._gauge(
            "config_last_reload_success_timestamp_seconds",
            How.MAX,
            "When the configuration in use was read, in seconds since 1970.",
        )
        self.draining = self._gauge("draining", How.MAX, "1 from SIGTERM on.")

    def _counter(self, name: str, means: str, allowed: Labels = labels.NONE) -> Counter:
        return Counter(self._declared(name, allowed), means, tuple(allowed), registry=self.registry)

    def _tallied(self, name: str, means: str, allowed: Labels) -> TalliedCounter:
        return TalliedCounter(self._declared(name, allowed), means, tuple(allowed), self.registry)

    def _histogram(
        self, name: str, means: str, allowed: Labels = labels.NONE, buckets: Sequence[float] = BUCKETS
    ) -> Histogram:
        return Histogram(self._declared(name, allowed), means, tuple(allowed), buckets=buckets, registry=self.registry)

    def _tallied_histogram(self, name: str, means: str, label: tuple[str, Values]) -> TalliedHistogram:
        return TalliedHistogram(self._declared(name, dict([label])), means, label[0], BUCKETS, self.registry)

    def _gauge(self, name: str, how: How, means: str, allowed: Labels = labels.NONE) -> Gauge:
        """``how`` is what it is for several workers."""
        self.gauges[f"verifier_{name}"] = how
        return Gauge(self._declared(name, allowed), means, tuple(allowed), registry=self.registry)

    def _of_issuers(self, name: str, how: How, means: str) -> Gauge:
        return self._gauge(name, how, means, {"issuer": labels.ISSUER})

    def _declared(self, name: str, allowed: Labels) -> str:
        full = f"verifier_{name}"
        self.allowed[full] = allowed
        return full


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
