"""Bodies, read strictly. A member that is not known may be a misspelt demand, so it is refused."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from verifier.core import strict_json
from verifier.core.policy import Requirement
from verifier.core.reasons import Reason
from verifier.core.routes import Target
from verifier.core.verdict import Denied
from verifier.engine import Question

_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3
_MEMBERS = frozenset({"token", "method", "host", "path", "scopes", "audience"})

QUESTION_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "token": {"type": "string", "description": "The bearer token, without a scheme."},
        "scopes": {"type": "array", "items": {"type": "string"}, "description": "Scopes it must all have."},
        "audience": {"type": "string", "description": "The audience it must be meant for."},
        "method": {"type": "string", "description": "With path: the method of the request; GET without it."},
        "host": {"type": "string", "description": "With path: the host of the request."},
        "path": {"type": "string", "description": "The path of the request, for the route policy."},
    },
}


def malformed(detail: str) -> Denied:
    return Denied(Reason.MALFORMED_REQUEST, detail)


def json_object(body: bytes) -> dict[str, Any] | Denied:
    """The body as an object, unambiguous (UTF-8, no repeated names, finite numbers)."""
    try:
        return strict_json.parse_object(body)
    except ValueError:
        return malformed("the body is not an unambiguous JSON object in UTF-8")


def form(body: bytes) -> dict[str, str] | Denied:
    """The body as form fields, each at most once."""
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=16,
        )
    except ValueError:
        return malformed("the body is not a form in UTF-8 (application/x-www-form-urlencoded)")
    if len({name for name, _ in fields}) != len(fields):
        return malformed("a field of the form is repeated")
    return dict(fields)


def question(members: Any, authorization: tuple[str, ...] = ()) -> Question | Denied:
    """One question as JSON asks it (``QUESTION_SCHEMA``)."""
    if not isinstance(members, dict):
        return malformed("expected an object")
    if not _MEMBERS.issuperset(members):
        return malformed(f"an unknown member; known are {', '.join(sorted(_MEMBERS))}")
    for name in ("token", "method", "host", "path", "audience"):
        if not isinstance(members.get(name, ""), str):
            return malformed(f"{name} is not a string")
    scopes = members.get("scopes", [])
    if not isinstance(scopes, list) or not all(isinstance(s, str) and _SCOPE_TOKEN.fullmatch(s) for s in scopes):
        return malformed("scopes is not an array of scopes (RFC 6749 section 3.3)")
    audiences = (members["audience"],) if "audience" in members else ()
    target = None
    if "path" in members:
        path = members["path"].partition("?")[0]
        target = Target(members.get("method", "GET"), members.get("host"), path)
    elif {"method", "host"}.intersection(members):
        return malformed("method and host say nothing without a path")
    return Question(authorization, members.get("token"), Requirement(tuple(scopes), audiences), target)
