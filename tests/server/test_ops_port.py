"""What ``/metrics`` shows of a process whose configuration is another one by now."""

from prometheus_client import Metric

from verifier.observability.metrics import Metrics
from verifier.server.http import Door
from verifier.server.ops_port import Gauges
from verifier.store.memory import MemoryCache
from verifier.store.revocations import LocalList


def gauges(metrics: Metrics, **waiting: int) -> Gauges:
    """Of a service that has these issuers, for each of which so many decisions wait."""
    return Gauges(
        metrics=metrics,
        sources={},
        introspectors={},
        cache=MemoryCache(10, 60.0, lambda: 0.0),
        revocations=LocalList(10),
        connections=lambda: 0,
        in_flight=lambda: 0,
        waiting={issuer: lambda number=number: number for issuer, number in waiting.items()},  # type: ignore[misc]
        door=Door(),
    )


def waiting(families: tuple[Metric, ...]) -> dict[str, float]:
    (family,) = [family for family in families if family.name == "verifier_decisions_waiting"]
    return {sample.labels["issuer"]: sample.value for sample in family.samples}


def test_an_issuer_that_left_the_configuration_left_the_gauges_too() -> None:
    metrics = Metrics()
    assert waiting(gauges(metrics, old=1, kept=2).families()) == {"old": 1, "kept": 2}
    assert waiting(gauges(metrics, kept=3, new=4).families()) == {"kept": 3, "new": 4}
