"""The metrics of several processes as those of one."""

import math
import pickle
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from verifier.observability.merging import How, counted, merged
from verifier.observability.metrics import Metrics, exposition


def counter(**values: float) -> Metric:
    family = CounterMetricFamily("c", "counts", labels=["of"])
    for of, value in values.items():
        family.add_metric([of], value)
    return family


def gauge(value: float) -> Metric:
    return GaugeMetricFamily("g", "is", value)


def values(families: Any) -> dict[tuple[str, ...], float]:
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_counters_are_summed_and_those_of_one_process_stay() -> None:
    made = merged([[counter(a=1, b=2)], [counter(b=3, c=4)]], {})
    assert values(made) == {("c_total", "a"): 1, ("c_total", "b"): 5, ("c_total", "c"): 4}


def test_what_is_merged_is_left_as_it_is() -> None:
    first = counter(a=1)
    merged([[first], [counter(a=2)]], {})
    assert values([first]) == {("c_total", "a"): 1}


@pytest.mark.parametrize(
    ("how", "expected"), [(How.SUM, 6.0), (How.MAX, 3.0), (How.MIN, 1.0)], ids=[str(how) for how in How]
)
def test_a_gauge_is_put_together_as_it_is_declared(how: How, expected: float) -> None:
    assert values(merged([[gauge(2)], [gauge(3)], [gauge(1)]], {"g": how})) == {("g",): expected}


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("order", [(1.0, math.nan), (math.nan, 1.0)])
def test_what_one_process_does_not_know_nobody_knows(how: How, order: tuple[float, float]) -> None:
    (value,) = values(merged([[gauge(one)] for one in order], {"g": how})).values()
    assert math.isnan(value)


def test_a_gauge_that_nobody_declared_is_an_error() -> None:
    with pytest.raises(KeyError):
        merged([[gauge(1)]], {})


def observed(*seconds: float, surface: str = "verify") -> Metrics:
    metrics = Metrics()
    for one in seconds:
        metrics.decision_seconds.of(surface).add(one)
    return metrics


def test_histograms_are_summed_and_their_buckets_stay_in_order() -> None:
    """Whether or not the first process knew the labels."""
    processes = [observed(0.2), observed(0.0002, 20), observed(0.002, surface="grpc")]
    made = merged([one.registry.collect() for one in processes], processes[0].gauges)
    (family,) = [family for family in made if family.name == "verifier_decision_seconds"]
    found = values([family])
    assert found["verifier_decision_seconds_count", "verify"] == 3
    assert found["verifier_decision_seconds_sum", "verify"] == pytest.approx(20.2002)
    for surface, counts in (("verify", (0, 1, 2, 3)), ("grpc", (0, 0, 1, 1))):
        buckets = [s for s in family.samples if s.labels.get("le") and s.labels["surface"] == surface]
        bounds = [float(s.labels["le"]) for s in buckets]
        assert bounds == sorted(bounds)
        by_bound = dict(zip(bounds, (s.value for s in buckets), strict=True))
        assert tuple(by_bound[bound] for bound in (0.0001, 0.00025, 0.25, math.inf)) == counts


def took(exemplar: Exemplar | None = None) -> Metric:
    family = HistogramMetricFamily("h", "took")
    bucket = ("1.0", 1.0) if exemplar is None else ("1.0", 1.0, exemplar)
    family.add_metric([], [bucket, ("+Inf", 1.0)], 0.5)
    return family


@pytest.mark.parametrize("order", [(1.0, 3.0, 2.0), (3.0, 2.0, 1.0)])
def test_of_the_exemplars_of_a_bucket_the_newest_stays(order: tuple[float, ...]) -> None:
    """Also on its way from one process to another."""
    said = [[took(Exemplar({"trace_id": f"at {at:g}"}, 0.5, at))] for at in order]
    (family,) = merged([*pickle.loads(pickle.dumps(said)), [took()]], {})  # noqa: S301 - our own
    kept = [sample.exemplar for sample in family.samples if sample.exemplar is not None]
    assert kept == [Exemplar({"trace_id": "at 3"}, 0.5, 3.0)]
    assert values([family])["h_bucket", "1.0"] == 4


def test_every_gauge_of_ours_is_declared() -> None:
    metrics = Metrics()
    one = tuple(metrics.registry.collect())
    made = merged([one, one], metrics.gauges)
    assert [family.name for family in made] == [family.name for family in one]
    found = values(made)
    assert found["verifier_build_info", next(key[1] for key in found if key[0] == "verifier_build_info")] == 1
    assert found["process_resident_memory_bytes",] == 2 * values(one)["process_resident_memory_bytes",]
    assert found["process_start_time_seconds",] == values(one)["process_start_time_seconds",]


def test_the_dead_are_remembered_for_what_they_counted() -> None:
    kept = counted(observed(0.2).registry.collect())
    assert {family.type for family in kept} == {"counter", "histogram"}
    assert values(kept)["verifier_decision_seconds_count", "verify"] == 1


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_what_is_merged_is_exposed_like_what_is_not(accept: str) -> None:
    metrics = observed(0.2)
    alone = tuple(family for family in metrics.registry.collect() if family.name.startswith("verifier"))
    assert exposition(merged([alone], metrics.gauges), accept) == exposition(alone, accept)
    if accept == "text/plain":
        assert list(text_string_to_metric_families(exposition(alone, accept)[0].decode()))
