"""Where spans go: OpenTelemetry's SDK, as its own variables want it. Needs the extra ``otel``."""

from collections.abc import Sequence
from typing import Literal
from uuid import uuid4

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from verifier import __version__
from verifier.observability.tracing import Ids


class Caused(Sampler):
    """As ``sampler``, but what begins a trace because of a span that is recorded is recorded too: a decision that waits
    for keys says little without their fetch."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        begins = not get_current_span(parent_context).get_span_context().is_valid
        caused = begins and any(link.context.trace_flags.sampled for link in links or ())
        sampler = ALWAYS_ON if caused else self._sampler
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"Caused{{{self._sampler.get_description()}}}"


def open_provider(exporter: Literal["otlp", "console"], ids: Ids, worker: int | None) -> TracerProvider:
    """With a thread that exports. Ends by ``shutdown`` alone, which may take as long as the exporter does."""
    made = sampled_provider(ids, worker)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter() if exporter == "otlp" else ConsoleSpanExporter()))
    return made


def sampled_provider(ids: Ids, worker: int | None = None) -> TracerProvider:
    """Without anywhere to export to."""
    made = TracerProvider(resource=_resource(worker), shutdown_on_exit=False, id_generator=ids)
    made.sampler = Caused(made.sampler)
    return made


def _resource(worker: int | None) -> Resource:
    """What the environment says of the service comes before what we would."""
    ours = {"service.name": "verifier", "service.version": __version__, "service.instance.id": str(uuid4())}
    number = {} if worker is None else {"verifier.worker": worker}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes, **number})
