"""Of whose trace a span is, who is recorded, and what the resource says."""

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from verifier import __version__
from verifier.observability.exporting import Caused, sampled_provider
from verifier.observability.tracing import parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # the example of W3C Trace Context


def context(*, sampled: bool) -> SpanContext:
    return SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(int(sampled)))


def test_a_parent_is_who_the_header_names() -> None:
    parent = parent_of(f"00-{TRACE}-{SPAN}-01")
    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}", parent.trace_flags.sampled) == (TRACE, SPAN, True)
    assert parent.is_remote


def test_flags_that_are_not_known_are_not_passed_on() -> None:
    parent = parent_of(f"00-{TRACE}-{SPAN}-fd")
    assert parent is not None
    assert parent.trace_flags == 0x01


def test_a_later_version_may_say_more() -> None:
    assert parent_of(f"cc-{TRACE}-{SPAN}-01-more") is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}G-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_header_that_is_not_valid_names_nobody(header: str) -> None:
    assert parent_of(header) is None


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
    one, other = (dict(sampled_provider(worker).resource.attributes) for worker in (1, 2))
    assert (one["service.name"], one["service.version"], one["verifier.worker"]) == ("verifier", __version__, 1)
    assert one["service.instance.id"] != other["service.instance.id"]


def test_what_the_environment_says_of_the_service_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1,deployment.environment.name=test")
    said = dict(sampled_provider().resource.attributes)
    assert (said["service.name"], said["service.instance.id"]) == ("edge", "pod-1")
    assert said["deployment.environment.name"] == "test"
