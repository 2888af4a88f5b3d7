"""The data port: every surface, driven the same way: read, decide, write."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterable, Sequence

from verifier.core.reasons import Reason
from verifier.core.verdict import Allowed, Denied, Verdict
from verifier.engine import Engine, Question
from verifier.observability.observer import Observer
from verifier.server.http import Handler, Route, Routes
from verifier.surfaces import answer, openapi
from verifier.surfaces.identity_headers import IdentityHeaders
from verifier.surfaces.surface import Answer, Endpoint, Request, Surface

# What a request id may be made of. No dot and not long: a token cannot travel into the log as one.
_REQUEST_ID = re.compile(r"[A-Za-z0-9:_=-]{1,64}", re.ASCII)
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.ASCII)

_UNTRUSTED = Denied(Reason.UNTRUSTED_PROXY, "this address is none of trusted_proxies, so it may not ask for others")
_POSING = Denied(Reason.MALFORMED_REQUEST, "the gateway must drop headers with underscores that stand for ours")


def routes(
    surfaces: Iterable[Surface], engine: Engine, observer: Observer, identity: IdentityHeaders | None = None
) -> Routes:
    """The routes of all surfaces, and of the document that describes them."""
    identity = identity or IdentityHeaders()
    surfaces = tuple(surfaces)
    table: dict[str, dict[str, Route]] = {}
    for surface in surfaces:
        for endpoint in surface.endpoints:
            route = Route(_handler(surface, endpoint, engine, observer, identity), endpoint.content_type)
            table.setdefault(endpoint.path, {}).update(dict.fromkeys(endpoint.methods, route))
    document = Route(_fixed(openapi.document(surfaces)))
    table["/openapi.json"] = {"GET": document, "HEAD": document}
    return table


def _handler(
    surface: Surface, endpoint: Endpoint, engine: Engine, observer: Observer, identity: IdentityHeaders
) -> Handler:
    async def handle(request: Request) -> Answer:
        began = time.perf_counter()
        request_id, trace_id = _request_id(request), _trace_id(request)
        asked = (_refused(request, identity) if endpoint.for_gateways else None) or endpoint.read(request)
        verdicts: Sequence[Verdict] = (asked,) if isinstance(asked, Denied) else await _decide_all(engine, asked)
        for verdict in verdicts:
            observer.decided(surface.name, verdict, request_id, trace_id)
        refuse = endpoint.refuse or answer.refusal
        answered = refuse(asked) if isinstance(asked, Denied) else endpoint.write(verdicts)
        headers = [*answered.headers, ("X-Request-Id", request_id)]
        if endpoint.for_gateways and isinstance(verdicts[0], Allowed):
            headers += identity.of(verdicts[0].principal)
        observer.took(surface.name, time.perf_counter() - began)
        return Answer(answered.status, tuple(headers), answered.body)

    return handle


def _refused(request: Request, identity: IdentityHeaders) -> Denied | None:
    """Why a gateway's question is not even read."""
    if not request.is_trusted:
        return _UNTRUSTED
    return _POSING if identity.is_posed_as(request.headers) else None


async def _decide_all(engine: Engine, asked: Sequence[Question | Denied]) -> Sequence[Verdict]:
    """The verdicts in order; those that take I/O wait side by side."""
    now = [question if isinstance(question, Denied) else engine.decide_now(question) for question in asked]
    if None not in now:
        return [verdict for verdict in now if verdict is not None]
    return await asyncio.gather(
        *(_later(engine, question, verdict) for question, verdict in zip(asked, now, strict=True))
    )


async def _later(engine: Engine, question: Question | Denied, verdict: Verdict | None) -> Verdict:
    if verdict is not None:
        return verdict
    return question if isinstance(question, Denied) else await engine.decide(question)


def _request_id(request: Request) -> str:
    values = request.values("x-request-id")
    if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]):
        return values[0]
    return uuid.uuid4().hex


def _trace_id(request: Request) -> str | None:
    """The trace that the request belongs to (W3C Trace Context §3.2)."""
    values = request.values("traceparent")
    found = _TRACE_PARENT.fullmatch(values[0]) if len(values) == 1 else None
    return None if found is None or found.group(1) == "0" * 32 else found.group(1)


def _fixed(document: object) -> Handler:
    body = json.dumps(document, indent=2).encode("ascii")
    fixed = Answer(200, (("Content-Type", "application/json"), ("Cache-Control", "max-age=3600")), body)

    async def handle(_request: Request) -> Answer:
        return fixed

    return handle
