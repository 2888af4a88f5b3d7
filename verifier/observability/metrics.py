"""Prometheus metrics. Labels come from the configuration and from enumerations, never from a request."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from verifier import __version__

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
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks about
        registry = self.registry = CollectorRegistry()
        self.decisions = Counter(
            "verifier_decisions",
            "Decisions. outcome is allow, deny or undecided; issuer is empty when none matched.",
            ("surface", "issuer", "outcome", "reason"),
            registry=registry,
        )
        self.decision_seconds = Histogram(
            "verifier_decision_seconds",
            "Time from a request read to its verdict, waiting for keys included.",
            ("surface",),
            buckets=BUCKETS,
            registry=registry,
        )
        self.key_fetches = Counter(
            "verifier_key_fetches",
            "Fetches of key sets. result is ok or error.",
            ("issuer", "result"),
            registry=registry,
        )
        self.key_set_age = Gauge(
            "verifier_key_set_age_seconds",
            "Time since the issuer's keys were last fetched; NaN before the first time.",
            ("issuer",),
            registry=registry,
        )
        self.key_set_keys = Gauge(
            "verifier_key_set_keys",
            "Usable keys of the issuer; 0 when they are too old to trust.",
            ("issuer",),
            registry=registry,
        )
        self.keys_dropped = Gauge(
            "verifier_keys_dropped",
            "Keys in the issuer's set that cannot be used.",
            ("issuer", "cause"),
            registry=registry,
        )
        self.cache_lookups = Counter(
            "verifier_cache_lookups",
            "Cache look-ups. result is hit or miss.",
            ("kind", "tier", "result"),
            registry=registry,
        )
        self.cache_entries = Gauge("verifier_cache_entries", "Entries held.", ("kind", "tier"), registry=registry)
        self.http_errors = Counter(
            "verifier_http_errors",
            "Requests refused by HTTP itself (404, 405, 408, 413, 415, 431 …).",
            ("status",),
            registry=registry,
        )
        self.connections = Gauge("verifier_connections", "Connections open on the data port.", registry=registry)
        self.connections_refused = Counter(
            "verifier_connections_refused",
            "Connections closed at once because too many were open.",
            registry=registry,
        )
        self.defects = Counter(
            "verifier_defects",
            "Errors that should not happen; each was answered by a denial or 503.",
            registry=registry,
        )
        build = Gauge("verifier_build_info", "Always 1.", ("version",), registry=registry)
        build.labels(__version__).set(1)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that the header ``Accept`` asks for, and its content type."""
        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
