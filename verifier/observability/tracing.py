"""Spans of decisions and of what they wait for. Needs the extra ``otel``.

Rules of this module:

* A span holds names of the configuration, members of enumerations, numbers and addresses of issuers, and nothing of a
  request or a token. Of the trace that a request belongs to, its numbers are taken and its ``tracestate`` is not.
* An error is its class and its place, never its text. So no span is ended by the SDK's own handling of exceptions.
* Work that several decisions share has links to all of those that wait for it, and they to it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import Thread
from time import time_ns
from urllib.parse import urlsplit

from opentelemetry.context import Context, attach, detach, get_value, set_value
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from verifier import __version__
from verifier.core.traceparent import TraceParent
from verifier.core.verdict import Allowed, Verdict
from verifier.observability.log import place
from verifier.ports import NoAnswer, NotAsked, SourceUnavailable

_KNOWN_FLAGS = 0x03  # sampled, random (W3C Trace Context §3.2.2.5)
_NOWHERE = Context()
# No ratio of traces but the whole takes this number.
_UNRECORDED = NonRecordingSpan(SpanContext((1 << 128) - 1, 1, is_remote=False))
_DECISION = "verifier-decision"

COMMANDS = {"claim": "SET", "write": "PIPELINE"}
"""What Redis calls a command of ours, where it is not the same word."""

UNSEEN = frozenset({"probe"})
"""Commands that nobody waits for, though a decision may have caused the first."""

Waited = tuple[str, object]
"""What is waited for: the kind, and the issuer or the token's digest."""


def context_of(parent: TraceParent) -> SpanContext:
    """That of the span which asks."""
    known = TraceFlags(parent.flags & _KNOWN_FLAGS)
    return SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=known)


def traceparent_of(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & _KNOWN_FLAGS:02x}"


class Ids(RandomIdGenerator):
    """Random ones; the next trace gets the one that was ``drawn``, if one was."""

    drawn: int | None = None

    def generate_trace_id(self) -> int:
        trace_id, self.drawn = self.drawn, None
        return trace_id or super().generate_trace_id()


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the provider's sampler does with decisions, known beforehand: asking it takes longer than most decisions.

    ``follows``: a decision belongs to the trace of its request. ``parents_decide``: it is recorded where its parent
    is. ``ratio``: how many of the others are.
    """

    follows: bool = True
    parents_decide: bool = True
    ratio: float = 1.0


class Tracing:
    """Makes spans by ``provider``, whose traces have ``ids``."""

    def __init__(self, provider: TracerProvider, ids: Ids, sampling: Sampling) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("verifier", __version__)
        self._ids = ids
        self._follows = sampling.follows
        self._parents_decide = sampling.parents_decide
        self._bound = TraceIdRatioBased.get_bound_for_rate(sampling.ratio)
        self._waiting: dict[Waited, set[Span]] = {}

    def close(self, ended: Callable[[], None]) -> None:
        """Export what is left, in a thread that keeps no process from ending; then call ``ended`` from it."""

        def run() -> None:
            try:
                self._provider.shutdown()
            finally:
                ended()

        Thread(target=run, name="last spans", daemon=True).start()

    def begin(self, surface: str, parent: TraceParent | None) -> Span | None:
        """The span of a request that is to be decided; None where it is not recorded.

        It is what the gateway waits for while it asks us, hence of the kind SERVER.
        """
        context = _NOWHERE
        if parent is not None and self._follows:
            if self._parents_decide and not parent.is_sampled:
                return None
            context = set_span_in_context(NonRecordingSpan(context_of(parent)), _NOWHERE)
        else:
            trace_id = self._ids.generate_trace_id()
            if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound:
                return None
            self._ids.drawn = trace_id
        span = self._tracer.start_span("verifier.decide", context, SpanKind.SERVER, {"verifier.surface": surface})
        return span if span.is_recording() else None

    def outside(self) -> AbstractContextManager[None]:
        """What happens in there happens for a decision that is not recorded."""
        return self.inside(_UNRECORDED)

    def names(self, span: Span, parent: TraceParent | None) -> str | None:
        """The ``traceparent`` that the log should name in the place of ``parent``, where ``span`` belongs to another
        trace."""
        followed = parent is not None and int(parent.trace_id, 16) == span.get_span_context().trace_id
        return None if followed else traceparent_of(span)

    @contextmanager
    def inside(self, span: Span) -> Iterator[None]:
        """What happens in here happens for the decision of ``span``."""
        token = attach(set_value(_DECISION, span, set_span_in_context(span, _NOWHERE)))
        try:
            yield
        finally:
            detach(token)

    def decided(self, span: Span, verdicts: Sequence[Verdict]) -> None:
        """End the span of a request: one verdict, or several at once."""
        if len(verdicts) == 1:
            span.set_attributes(_of(verdicts[0]))
        else:
            span.set_attribute("verifier.decisions", len(verdicts))
            for verdict in verdicts:
                span.add_event("verifier.decision", _of(verdict))
        for verdict in verdicts:
            if not isinstance(verdict, Allowed) and verdict.undecided:
                span.set_status(Status(StatusCode.ERROR, str(verdict.reason)))
        span.end()

    def failed(self, span: Span, error: BaseException) -> None:
        """End the span of what came to nothing."""
        _note(span, error)
        span.end()

    def looked_up(self, tier: str) -> None:
        """The decision that is being made found its token there."""
        decision = get_value(_DECISION)
        if isinstance(decision, Span):
            decision.set_attribute("verifier.cache.tier", tier)

    def defect(self, error: BaseException) -> None:
        span = get_current_span()
        if span.is_recording():
            _add_exception(span, error)

    @contextmanager
    def waiting(self, what: str, issuer: str, digest: bytes) -> Iterator[None]:
        """A decision waits in here. ``digest`` stays here: it is what those who wait for one answer have in common."""
        if not get_current_span().is_recording():
            yield
            return
        key: Waited = (what, issuer if what == "keys" else digest)
        span = self._tracer.start_span(
            "verifier.wait", attributes={"verifier.wait.for": what, "verifier.issuer": issuer}
        )
        waiting = self._waiting.setdefault(key, set())
        waiting.add(span)
        token = attach(set_span_in_context(span))
        try:
            yield
        finally:
            detach(token)
            waiting.discard(span)
            if not waiting:
                self._waiting.pop(key, None)
            span.end()

    @contextmanager
    def fetch(self, issuer: str) -> Iterator[Callable[[str], None]]:
        """Keys are fetched in here; call what it gives with the result.

        A trace of its own, as the keys are for everybody: it may have been due anyway. ``Caused`` has it recorded if
        the decision is that could not wait for it.
        """
        cause = get_current_span().get_span_context()
        links = [Link(cause)] if cause.trace_flags.sampled else []
        span = self._tracer.start_span("verifier.fetch_keys", _NOWHERE, attributes=_issuer(issuer), links=links)
        with self._shared(span, ("keys", issuer), known=cause):
            yield lambda result: span.set_attribute("verifier.result", result)

    @contextmanager
    def introspection(self, issuer: str, digest: bytes) -> Iterator[Callable[[str], None]]:
        """An issuer is asked about a token in here; call what it gives with the result.

        It belongs to the decision that asked first, as most have no other.
        """
        cause = get_current_span().get_span_context()
        span = self._tracer.start_span("verifier.introspect", attributes=_issuer(issuer))
        with self._shared(span, ("introspection", digest), known=cause):
            yield lambda result: span.set_attribute("verifier.result", result)

    @contextmanager
    def request(self, method: str, url: str) -> Iterator[Callable[[int], None]]:
        """A request to an issuer, which is told nothing of the trace. Of ``url`` only the authority is noted: paths and
        queries may hold what is none of a trace's business. Call what it gives with the status."""
        parts = urlsplit(url)
        about = {"http.request.method": method, "server.address": parts.hostname or ""}
        if parts.port is not None:
            span = self._tracer.start_span(method, None, SpanKind.CLIENT, {**about, "server.port": parts.port})
        else:
            span = self._tracer.start_span(method, None, SpanKind.CLIENT, about)
        try:
            yield lambda status: span.set_attribute("http.response.status_code", status)
        except BaseException as error:
            if isinstance(error, SourceUnavailable) and error.status is not None:
                span.set_attribute("http.response.status_code", error.status)
            _note(span, error)
            raise
        finally:
            span.end()

    def redis(self, command: str, seconds: float, error: Exception | None = None) -> None:
        """Redis carried out a command, or did not, for what is going on in here."""
        if command in UNSEEN or not get_current_span().is_recording():
            return
        now = time_ns()
        about = {"db.system.name": "redis", "db.operation.name": COMMANDS.get(command, command.upper())}
        began = now - int(seconds * 1e9)
        span = self._tracer.start_span(f"redis {command}", None, SpanKind.CLIENT, about, start_time=began)
        if error is not None:
            _note(span, error)
        span.end(now)

    @contextmanager
    def _shared(self, span: Span, key: Waited, known: SpanContext) -> Iterator[None]:
        """The work of ``span``, with links to those who wait for ``key``; of ``known`` it knows already."""
        token = attach(set_span_in_context(span))
        try:
            yield
        except (NoAnswer, NotAsked):  # an answer, and none that was missed
            raise
        except BaseException as error:
            span.set_attribute("verifier.result", "error")
            _note(span, error)
            raise
        finally:
            detach(token)
            self._link(span, key, known)
            span.end()

    def _link(self, work: Span, key: Waited, known: SpanContext) -> None:
        if not work.is_recording():
            return
        parent = getattr(work, "parent", None)
        for waiting in self._waiting.get(key, ()):
            context = waiting.get_span_context()
            if parent != context:  # a child needs no link
                waiting.add_link(work.get_span_context())
            if context != known:
                work.add_link(context)


def _of(verdict: Verdict) -> dict[str, str]:
    if isinstance(verdict, Allowed):
        issuer = "" if verdict.principal is None else verdict.principal.issuer_name
        return {"verifier.outcome": "allow", **_issuer(issuer)}
    outcome = "undecided" if verdict.undecided else "deny"
    return {"verifier.outcome": outcome, "verifier.reason": str(verdict.reason), **_issuer(verdict.issuer)}


def _issuer(name: str) -> dict[str, str]:
    return {"verifier.issuer": name} if name else {}


def _note(span: Span, error: BaseException) -> None:
    status = error.status if isinstance(error, SourceUnavailable) else None
    span.set_attribute("error.type", type(error).__name__ if status is None else str(status))
    span.set_status(StatusCode.ERROR)
    _add_exception(span, error)


def _add_exception(span: Span, error: BaseException) -> None:
    about: Attributes = {"exception.type": type(error).__name__, "verifier.where": place(error.__traceback__)}
    span.add_event("exception", about)
