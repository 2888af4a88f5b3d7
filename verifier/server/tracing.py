"""Decisions where traces are made: the same ones, each with a span."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from verifier.core.traceparent import TraceParent
from verifier.core.verdict import Verdict
from verifier.engine import Engine
from verifier.observability.observer import Observer
from verifier.remembered import Remembered
from verifier.server.deciding import AboutToken, Decided, Decisions, parent_in, parent_of
from verifier.surfaces.identity_headers import IdentityHeaders
from verifier.surfaces.surface import Asked, Request

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from verifier.observability.tracing import Tracing


class TracedDecisions(Decisions):
    """Whatever goes wrong about a span costs the span, and no decision."""

    def __init__(self, engine: Engine, observer: Observer, identity: IdentityHeaders, tracing: "Tracing") -> None:
        super().__init__(engine, observer, identity)
        self._tracing = tracing

    def decide_now(
        self, request: Request, read: Callable[[Request], Asked], *, surface: str, for_gateways: bool
    ) -> Decided | None:
        parent = parent_in(request)
        span = self._begin(surface, parent)
        if span is None:
            return super().decide_now(request, read, surface=surface, for_gateways=for_gateways)
        try:
            with self._tracing.inside(span):
                decided = super().decide_now(
                    self._named(request, span, parent), read, surface=surface, for_gateways=for_gateways
                )
        except Exception as error:
            self._tracing.failed(span, error)
            raise
        if decided is not None:  # else it is asked again by ``decide``, and this span is forgotten
            self._end(span, decided.verdicts)
        return decided

    async def decide(
        self,
        request: Request,
        read: Callable[[Request], Asked],
        *,
        surface: str,
        for_gateways: bool,
        within: float | None = None,
    ) -> Decided:
        parent = parent_in(request)
        span = self._begin(surface, parent)
        if span is None:
            with self._tracing.outside():
                return await super().decide(request, read, surface=surface, for_gateways=for_gateways, within=within)
        named = self._named(request, span, parent)
        try:
            with self._tracing.inside(span):
                decided = await super().decide(named, read, surface=surface, for_gateways=for_gateways, within=within)
        except BaseException as error:
            self._tracing.failed(span, error)
            raise
        self._end(span, decided.verdicts)
        return decided

    def shortcut(self, surface: str) -> AboutToken:
        ask = super().shortcut(surface)

        def traced(
            authorization: bytes, request_id: str, header: Callable[[str], bytes]
        ) -> Remembered | Verdict | None:
            parent = parent_of(header("traceparent").decode("latin-1"))
            span = self._begin(surface, parent)
            if span is None:
                return ask(authorization, request_id, header)
            own = self._tracing.names(span, parent)
            with self._tracing.inside(span):
                found = ask(authorization, request_id, header if own is None else lambda _name: own.encode("ascii"))
            verdict = found.allowed if isinstance(found, Remembered) else found
            if verdict is not None:
                self._end(span, (verdict,))
            return found

        return traced

    def _begin(self, surface: str, parent: TraceParent | None) -> "Span | None":
        try:
            return self._tracing.begin(surface, parent)
        except Exception as error:  # noqa: BLE001 - rule of this class
            self._observer.defect(error)
            return None

    def _end(self, span: "Span", verdicts: Sequence[Verdict]) -> None:
        try:
            self._tracing.decided(span, verdicts)
        except Exception as error:  # noqa: BLE001 - rule of this class
            self._observer.defect(error)

    def _named(self, request: Request, span: "Span", parent: TraceParent | None) -> Request:
        """``request`` as part of the trace that ``span`` belongs to, so that the log names that one."""
        own = self._tracing.names(span, parent)
        return request if own is None else request._replace(headers={**request.headers, "traceparent": (own,)})
