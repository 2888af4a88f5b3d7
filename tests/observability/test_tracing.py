"""Of whose trace a span is, who is recorded, and what the resource says."""

from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, get_current_span, set_span_in_context

from verifier import __version__
from verifier.core.traceparent import TraceParent
from verifier.observability.exporting import Caused, sampled_provider
from verifier.observability.tracing import Ids, Sampling, Tracing, context_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # the example of W3C Trace Context


def context(*, sampled: bool) -> SpanContext:
    return SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(int(sampled)))


def test_a_parent_is_who_the_header_names() -> None:
    parent = context_of(TraceParent(TRACE, SPAN, 0x01))
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}", parent.trace_flags.sampled) == (TRACE, SPAN, True)
    assert parent.is_remote


def test_flags_that_are_not_known_are_not_passed_on() -> None:
    assert context_of(TraceParent(TRACE, SPAN, 0xFD)).trace_flags == 0x01


@pytest.mark.parametrize(
    ("sampler", "decision"), [(ALWAYS_ON, Decision.RECORD_AND_SAMPLE), (ALWAYS_OFF, Decision.DROP)]
)
def test_a_trace_without_a_cause_is_the_sampler_s_to_judge(sampler: Sampler, decision: Decision) -> None:
    assert Caused(sampler).should_sample(None, 1, "x", links=[Link(context(sampled=False))]).decision is decision


def test_a_trace_that_a_recorded_span_caused_is_recorded() -> None:
    made = Caused(ALWAYS_OFF).should_sample(None, 1, "x", links=[Link(context(sampled=True))])
    assert made.decision is Decision.RECORD_AND_SAMPLE


def test_a_span_with_a_parent_is_recorded_as_that_whatever_its_links() -> None:
    parent = set_span_in_context(NonRecordingSpan(context(sampled=False)))
    made = Caused(ALWAYS_OFF).should_sample(parent, 1, "x", links=[Link(context(sampled=True))])
    assert made.decision is Decision.DROP


def test_a_service_has_a_name_a_version_and_a_number_for_each_worker() -> None:
    one, other = (dict(sampled_provider(Ids(), worker).resource.attributes) for worker in (1, 2))
    assert (one["service.name"], one["service.version"], one["verifier.worker"]) == ("verifier", __version__, 1)
    assert one["service.instance.id"] != other["service.instance.id"]


def test_what_the_environment_says_of_the_service_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1,deployment.environment.name=test")
    said = dict(sampled_provider(Ids()).resource.attributes)
    assert (said["service.name"], said["service.instance.id"]) == ("edge", "pod-1")
    assert said["deployment.environment.name"] == "test"


def tracing(sampler: str, monkeypatch: pytest.MonkeyPatch, **sampling: Any) -> Tracing:
    """As the service makes it of a sampler, and of what it knows of that beforehand."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", str(sampling.get("ratio", "")))
    ids = Ids()
    return Tracing(sampled_provider(ids), ids, Sampling(**sampling))


def test_what_is_drawn_for_a_ratio_is_what_the_sampler_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or fewer would be recorded than were asked for, as each had to be drawn twice."""
    made = tracing("parentbased_traceidratio", monkeypatch, ratio=0.25)
    recorded = sum(made.begin("verify", None) is not None for _ in range(2_000))
    assert 400 < recorded < 600


@pytest.mark.parametrize(
    ("sampler", "sampling", "flags", "recorded"),
    [
        ("parentbased_always_off", {"ratio": 0.0}, 0x01, True),
        ("parentbased_always_on", {}, 0x00, False),
        ("always_on", {"parents_decide": False}, 0x00, True),
        ("always_off", {"parents_decide": False, "ratio": 0.0}, 0x01, False),
    ],
)
def test_a_decision_with_a_parent_is_recorded_as_the_sampler_says(
    monkeypatch: pytest.MonkeyPatch, sampler: str, sampling: dict[str, Any], flags: int, recorded: bool
) -> None:
    made = tracing(sampler, monkeypatch, **sampling)
    assert (made.begin("verify", TraceParent(TRACE, SPAN, flags)) is not None) is recorded


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_what_a_decision_that_is_not_recorded_asks_an_issuer_is_not_either(
    monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    made = tracing(sampler, monkeypatch, ratio=0.99)
    with made.outside(), made.introspection("main", b"digest"):
        assert not get_current_span().is_recording()
