from collections.abc import Sequence

import prometheus_client
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from verifier.observability.metrics import BUCKETS, Metrics
from verifier.observability.tally import TalliedCounter, TalliedHistogram

Metrics()  # which does without a second series for each, of when it began
bounded = settings(max_examples=50, derandomize=True, deadline=None)


@bounded
@given(st.lists(st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")]), max_size=20))
def test_a_count_is_shown_as_the_usual_counter_is(happened: Sequence[tuple[str, str]]) -> None:
    ours, usual = CollectorRegistry(), CollectorRegistry()
    counts = TalliedCounter("things", "Things.", ("one", "other"), ours)
    counter = prometheus_client.Counter("things", "Things.", ("one", "other"), registry=usual)
    for labels in happened:
        counts.of(*labels).value += 1
        counter.labels(*labels).inc()
    assert generate_latest(ours) == generate_latest(usual)


@bounded
@given(st.lists(st.one_of(st.sampled_from(BUCKETS), st.floats(0, 10)), max_size=20))
def test_a_duration_is_shown_as_in_the_usual_histogram(took: Sequence[float]) -> None:
    ours, usual = CollectorRegistry(), CollectorRegistry()
    tallied = TalliedHistogram("time", "Time.", "of", BUCKETS, ours)
    histogram = prometheus_client.Histogram("time", "Time.", ("of",), buckets=BUCKETS, registry=usual)
    for seconds in took:
        tallied.of("a").add(seconds)
        histogram.labels("a").observe(seconds)
    assert generate_latest(ours) == generate_latest(usual)


def exemplars(registry: CollectorRegistry) -> dict[str, tuple[str, float]]:
    """Of the histogram ``time``, by the bound of the bucket: the trace, and how long it took."""
    (family,) = registry.collect()
    found = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar is not None}
    return {bound: (one.labels["trace_id"], one.value) for bound, one in found.items()}


def test_a_bucket_shows_its_newest_trace_and_no_other_bucket_does() -> None:
    registry = CollectorRegistry()
    durations = TalliedHistogram("time", "Time.", "of", BUCKETS, registry).of("a")
    for seconds, trace_id in ((0.002, "old"), (0.0015, "new"), (60.0, "long")):
        durations.add_traced(seconds, trace_id)
    durations.add(0.002)
    assert exemplars(registry) == {"0.0025": ("new", 0.0015), "+Inf": ("long", 60.0)}
    assert (durations.numbers[BUCKETS.index(0.0025)], sum(durations.numbers)) == (3, 4)


def test_equal_labels_have_one_count() -> None:
    counts = TalliedCounter("things", "Things.", ("one",), CollectorRegistry())
    assert counts.of("a") is counts.of("a")
    assert counts.of("a") is not counts.of("b")
