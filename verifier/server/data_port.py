"""The data port: every surface, driven the same way: read, decide, write."""

import json
from collections.abc import Iterable, Sequence

from verifier.core.verdict import Allowed, Denied
from verifier.remembered import Remembered
from verifier.server.deciding import AboutToken, Decided, Decisions, usable_id
from verifier.server.head import Head
from verifier.server.http import Handler, Route, Routes
from verifier.server.lane import Shortcut
from verifier.server.wire import written
from verifier.surfaces import answer, openapi
from verifier.surfaces.surface import Answer, Endpoint, Request, Surface


def routes(surfaces: Iterable[Surface], decisions: Decisions, max_age: float = 0) -> Routes:
    """The routes of all surfaces, and of the document that describes them. ``max_age``: for how many seconds a
    gateway may take an allow for granted."""
    surfaces = tuple(surfaces)
    table: dict[str, dict[str, Route]] = {}
    for surface in surfaces:
        for endpoint in surface.endpoints:
            route = _route(surface, endpoint, decisions, max_age)
            table.setdefault(endpoint.path, {}).update(dict.fromkeys(endpoint.methods, route))
    document = Route(_fixed(openapi.document(surfaces)))
    table["/openapi.json"] = {"GET": document, "HEAD": document}
    return table


def unreadable(surfaces: Iterable[Surface]) -> dict[str, int]:
    """Path → status, where a gateway would take the usual one for an error of its own."""
    endpoints = (endpoint for surface in surfaces for endpoint in surface.endpoints)
    return {endpoint.path: endpoint.unreadable for endpoint in endpoints if endpoint.unreadable is not None}


def _route(surface: Surface, endpoint: Endpoint, decisions: Decisions, max_age: float) -> Route:
    """What serves ``endpoint``; where it takes no body, for the fast lane too."""

    async def handle(request: Request) -> Answer:
        return write(
            request,
            await decisions.decide(request, endpoint.read, surface=surface.name, for_gateways=endpoint.for_gateways),
        )

    def at_once(request: Request) -> Answer | None:
        decided = decisions.decide_now(request, endpoint.read, surface=surface.name, for_gateways=endpoint.for_gateways)
        return None if decided is None else write(request, decided)

    def write(request: Request, decided: Decided) -> Answer:
        refuse = endpoint.refuse or answer.refusal
        if decided.refused is not None:
            answered = refuse(decided.refused)
        elif decided.answer is not None or endpoint.write is None:
            answered = decided.answer or answer.decision(decided.verdicts[0])
        else:
            answered = endpoint.write(decided.verdicts)
        headers = [*answered.headers, ("X-Request-Id", decided.request_id)]
        verdict = decided.verdicts[0]
        if endpoint.for_gateways and isinstance(verdict, Allowed):
            seconds = min(max_age, verdict.good_until - decisions.clock() - 1)
            headers += _holding(endpoint.holdable(request), seconds)
            headers += decisions.identity.of(verdict.principal)
        return Answer(answered.status, tuple(headers), answered.body)

    if endpoint.content_type is not None:
        return Route(handle, endpoint.content_type)
    shortcut = _shortcut(decisions.shortcut(surface.name)) if endpoint.asks_token_only else None
    return Route(handle, at_once=at_once, shortcut=shortcut)


def _shortcut(ask: AboutToken) -> Shortcut:
    """Answers in bytes; the body of an allow is written once for each identity."""

    def shortcut(head: Head, date: bytes) -> bytes | None:
        authorization = head.value("authorization")
        if not authorization:
            return None
        request_id = usable_id(head.value("x-request-id").decode("ascii"))
        found = ask(authorization, request_id, head.value)
        if isinstance(found, Remembered) and found.allowed is not None:
            body = found.body
            if body is None:
                body = found.body = answer.decision(found.allowed).body
        elif isinstance(found, Allowed):
            body = answer.decision(found).body
        elif isinstance(found, Denied):
            refused = answer.decision(found)
            return written(refused._replace(headers=(*refused.headers, ("X-Request-Id", request_id))), b"Date: " + date)
        else:
            return None
        name = request_id.encode("ascii")
        return b"".join((_TO_REQUEST_ID, name, _TO_LENGTH, b"%d" % len(body), _TO_DATE, date, _TO_BODY, body))

    return shortcut


# The head of an allow, in pieces: what differs goes between them, which is twice as fast as a template.
_HEADERS = (*answer.as_json(200, None).headers, ("X-Request-Id", "|"))
_TO_REQUEST_ID, _TO_LENGTH, _TO_DATE, _TO_BODY = (
    written(Answer(200, _HEADERS, b""), b"Date: |").replace(b"Content-Length: 0", b"Content-Length: |").split(b"|")
)


def _holding(varying: Sequence[str], seconds: float) -> tuple[tuple[str, str], ...]:
    """Whether, and how long, a gateway may hold an allow that depends on the headers ``varying``. nginx counts whole
    seconds, and may go on for one more.

    ``must-revalidate`` permits it in spite of the credentials, and forbids to go on when nobody answers (RFC 9111 §3.5,
    §5.2.2.2).
    """
    if not varying or seconds < 1:
        return (answer.NO_STORE,)
    return (("Cache-Control", f"max-age={int(seconds)}, must-revalidate"), ("Vary", ", ".join(varying)))


def _fixed(document: object) -> Handler:
    body = json.dumps(document, indent=2).encode("ascii")
    fixed = Answer(200, (("Content-Type", "application/json"), ("Cache-Control", "max-age=3600")), body)

    async def handle(_request: Request) -> Answer:
        return fixed

    return handle
