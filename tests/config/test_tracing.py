"""When traces are made, and what is refused instead of being passed over."""

import pytest

from verifier.config import ConfigError
from verifier.config import tracing as asked
from verifier.config.tracing import TracingSettings, tracing_settings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OTEL_SDK_DISABLED",
        asked.EXPORTER,
        *asked.ENDPOINTS,
        *asked.PROTOCOLS,
        asked.SAMPLER,
        asked.RATIO,
        "OTEL_PROPAGATORS",
    ):
        monkeypatch.delenv(name, raising=False)


def say(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def problem(name: str) -> str:
    with pytest.raises(ConfigError) as refused:
        tracing_settings()
    return next(found.message for found in refused.value.problems if found.path == name)


def test_no_traces_are_made_where_nothing_asks_for_them() -> None:
    assert tracing_settings() is None


@pytest.mark.parametrize("name", asked.ENDPOINTS)
def test_an_endpoint_asks_for_traces(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    say(monkeypatch, **{name: "http://127.0.0.1:4318"})
    assert tracing_settings() == TracingSettings("otlp", follows=True)


@pytest.mark.parametrize("exporter", ["otlp", "console"])
def test_an_exporter_asks_for_traces(monkeypatch: pytest.MonkeyPatch, exporter: str) -> None:
    say(monkeypatch, OTEL_TRACES_EXPORTER=exporter)
    made = tracing_settings()
    assert made is not None
    assert made.exporter == exporter


@pytest.mark.parametrize(
    "off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_traces_can_be_switched_off_in_spite_of_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, off: dict[str, str]
) -> None:
    say(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318", **off)
    assert tracing_settings() is None


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="", OTEL_TRACES_EXPORTER="")
    assert tracing_settings() is None


def test_an_unknown_exporter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, OTEL_TRACES_EXPORTER="zipkin")
    assert problem(asked.EXPORTER) == "expected otlp, console or none, found 'zipkin'"


@pytest.mark.parametrize("name", asked.PROTOCOLS)
def test_a_protocol_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    say(monkeypatch, OTEL_TRACES_EXPORTER="otlp", **{name: "grpc"})
    assert problem(name).startswith("expected http/protobuf, found 'grpc'")


def test_a_misspelled_sampler_is_refused_as_it_would_record_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, OTEL_TRACES_EXPORTER="otlp", OTEL_TRACES_SAMPLER="parentbased_ratio")
    assert problem(asked.SAMPLER).endswith("found 'parentbased_ratio'")


@pytest.mark.parametrize("ratio", ["", "1 %", "1.5", "-0.1", "nan"])
def test_a_ratio_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, ratio: str) -> None:
    say(monkeypatch, OTEL_TRACES_EXPORTER="otlp", OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG=ratio)
    assert problem(asked.RATIO) == f"expected a number from 0 to 1, such as 0.01, found {ratio!r}"


@pytest.mark.parametrize(("propagators", "follows"), [("baggage,tracecontext", True), ("b3", False), ("none", False)])
def test_a_request_s_trace_is_followed_where_the_propagators_say_so(
    monkeypatch: pytest.MonkeyPatch, propagators: str, follows: bool
) -> None:
    say(monkeypatch, OTEL_TRACES_EXPORTER="otlp", OTEL_PROPAGATORS=propagators)
    assert tracing_settings() == TracingSettings("otlp", follows)


def test_a_missing_extra_is_named_by_what_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    monkeypatch.setattr(asked, "find_spec", lambda _name: None)
    assert "pip install '.[otel]'" in problem(ENDPOINT)


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_TRACES_SAMPLER="some")
    with pytest.raises(ConfigError) as refused:
        tracing_settings()
    assert [found.path for found in refused.value.problems] == [asked.PROTOCOLS[1], asked.SAMPLER]


@pytest.mark.parametrize(
    ("sampler", "parents_decide", "ratio"),
    [
        ("", True, 1.0),
        ("always_on", False, 1.0),
        ("always_off", False, 0.0),
        ("traceidratio", False, 0.01),
        ("parentbased_always_off", True, 0.0),
        ("parentbased_traceidratio", True, 0.01),
    ],
)
def test_it_is_known_beforehand_what_a_sampler_does(
    monkeypatch: pytest.MonkeyPatch, sampler: str, parents_decide: bool, ratio: float
) -> None:
    say(monkeypatch, OTEL_TRACES_EXPORTER="otlp", OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG="0.01")
    assert tracing_settings() == TracingSettings("otlp", parents_decide=parents_decide, ratio=ratio)
