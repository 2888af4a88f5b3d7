"""Answers that several surfaces give."""

import json
from http import HTTPStatus
from typing import Any

from verifier.core import challenge
from verifier.core.verdict import Allowed, Denied, Principal, Verdict
from verifier.surfaces.surface import Answer

NO_STORE = ("Cache-Control", "no-store")
"""A decision is for one request."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)  # ``json.dumps`` makes one for each call


def as_json(status: int, value: Any, *headers: tuple[str, str]) -> Answer:
    """``value`` as JSON, in ASCII, so that no claim can be cut at a wrong byte."""
    body = _ENCODER.encode(value).encode("ascii")
    return Answer(status, (("Content-Type", "application/json"), NO_STORE, *headers), body)


def allowed(principal: Principal | None) -> dict[str, Any]:
    """The JSON of an allow; without a principal where nobody needs to be anybody."""
    return {"allowed": True, "principal": None if principal is None else members(principal)}


def members(principal: Principal) -> dict[str, Any]:
    """What is told of a principal."""
    return {
        "issuer": principal.issuer,
        "issuer_name": principal.issuer_name,
        "subject": principal.subject,
        "client_id": principal.client_id,
        "scopes": principal.scopes,
        "audiences": principal.audiences,
        "expires_at": principal.expires_at,
        "token_id": principal.token_id,
        "claims": principal.claims,
    }


def refusal(denied: Denied) -> Answer:
    """A denial, or that there is no decision, as status, challenge and problem document."""
    headers: list[tuple[str, str]] = []
    wanted = challenge.www_authenticate(denied)
    if wanted is not None:
        headers.append(("WWW-Authenticate", wanted))
    if denied.retry_after is not None:
        headers.append(("Retry-After", str(denied.retry_after)))
    return _problem(challenge.status(denied), challenge.problem(denied), *headers)


def decision(verdict: Verdict) -> Answer:
    """The plain answer to one question."""
    if isinstance(verdict, Allowed):
        return as_json(200, allowed(verdict.principal))
    return refusal(verdict)


def http_error(status: int, detail: str, *headers: tuple[str, str]) -> Answer:
    """An error of HTTP itself, which says nothing about a token and so has no reason (RFC 9457)."""
    title = HTTPStatus(status).phrase
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, "allowed": False}
    return _problem(status, document, *headers)


def _problem(status: int, document: dict[str, Any], *headers: tuple[str, str]) -> Answer:
    body = _ENCODER.encode(document).encode("ascii")
    return Answer(status, (("Content-Type", "application/problem+json"), NO_STORE, *headers), body)
