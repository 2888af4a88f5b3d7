"""The names of all series that the service exposes or that the rules record."""

from functools import cache

from tests import promql
from verifier.observability.metrics import Metrics

_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
OF_OTHERS = frozenset({"up", "ALERTS"})
"""Those of Prometheus itself."""


@cache
def families() -> dict[str, frozenset[str]]:
    """Name of each metric of ours → names of its series."""
    found = [family for family in Metrics().registry.collect() if family.name.startswith("verifier_")]
    return {family.name: frozenset(f"{family.name}{end}" for end in _SUFFIXES[family.type]) for family in found}


def of_the_process() -> frozenset[str]:
    """Those that the client library brings along."""
    return frozenset(sample.name for family in Metrics().registry.collect() for sample in family.samples)


def recorded() -> frozenset[str]:
    return frozenset(rule["record"] for rule in promql.recording())


@cache
def known() -> frozenset[str]:
    return frozenset().union(*families().values(), of_the_process(), recorded(), OF_OTHERS)
