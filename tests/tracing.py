"""A service whose spans stay in this process, for tests to look at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from verifier.observability import exporting
from verifier.observability.tracing import Ids

DECIDE, WAIT, FETCH, INTROSPECT = "verifier.decide", "verifier.wait", "verifier.fetch_keys", "verifier.introspect"


class Spans:
    """What was exported so far."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def all(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def of(self, name: str, **attributes: object) -> list[ReadableSpan]:
        """Those of the name; an attribute's dots are underscores here, and ``verifier.`` is left out."""
        wanted = {f"verifier.{key.replace('_', '.')}": value for key, value in attributes.items()}
        return [
            span
            for span in self.all()
            if span.name == name and all((span.attributes or {}).get(key) == value for key, value in wanted.items())
        ]

    def one(self, name: str, **attributes: object) -> ReadableSpan:
        (found,) = self.of(name, **attributes)
        return found


def kept_here(spans: Spans) -> Callable[[str, Ids, int | None], TracerProvider]:
    """What makes a provider of the service, with ``spans`` in the place of an exporter."""

    def provider(_exporter: str, ids: Ids, worker: int | None) -> TracerProvider:
        made = exporting.sampled_provider(ids, worker)
        made.add_span_processor(SimpleSpanProcessor(spans.exporter))
        return made

    return provider


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[Spans]:
    """Services that begin in here make traces."""
    spans = Spans()
    for name, value in {"OTEL_TRACES_EXPORTER": "otlp", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(exporting, "open_provider", kept_here(spans))
    yield spans


def about(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def number(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def written(span: ReadableSpan) -> str:
    """All that is exported of a span, as text."""
    state = [span.context.trace_state.to_header()] if span.context is not None else []
    return "\n".join([span.to_json(), *state, *(link.context.trace_state.to_header() for link in span.links)])
