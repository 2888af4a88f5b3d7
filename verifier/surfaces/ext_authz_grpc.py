"""Envoy's gRPC: ``envoy.service.auth.v3.Authorization/Check``, by the same rules as ``/ext-authz/``.

Only what the messages say is here; ``server/grpc_port.py`` carries them. It needs the extra ``grpc``, so it is no
surface of the data port.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct

from verifier.core.reasons import Family
from verifier.core.verdict import Denied, Principal, Verdict
from verifier.surfaces import answer, forwarded
from verifier.surfaces.ext_authz_messages import (
    OVERWRITE_IF_EXISTS_OR_ADD,
    CheckRequest,
    CheckResponse,
    DeniedHttpResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    OkHttpResponse,
    Status,
)
from verifier.surfaces.forwarded import Told
from verifier.surfaces.identity_headers import IdentityHeaders
from verifier.surfaces.surface import Answer, Request

NAME = "ext_authz_grpc"
SERVICE = "envoy.service.auth.v3.Authorization"
METHOD = "Check"

_OK = 0
CODE: Mapping[Family, int] = MappingProxyType(
    {
        Family.MISSING: 16,  # UNAUTHENTICATED
        Family.INVALID_REQUEST: 3,  # INVALID_ARGUMENT
        Family.INVALID_TOKEN: 16,
        Family.INSUFFICIENT: 7,  # PERMISSION_DENIED
        Family.UNAVAILABLE: 14,  # UNAVAILABLE
    }
)
"""The code in an answer's ``status`` (google.rpc.Code); the call itself always succeeds."""

DEEPEST = 16
"""Objects and arrays inside each other, in metadata. protobuf takes 100 messages, and each of these is up to three."""

MOST = 512
"""Values in metadata, which cost some microseconds each. Of a principal with more, arrays and objects are JSON text."""

_EXACT = 2**53
"""Integers beyond it are no doubles, which is what a number in metadata is."""


def request_of(raw: bytes, *, is_trusted: bool) -> Request:
    """The request that ``raw`` asks about; one without method and path where it asks about none.

    Where Envoy is told to ``encode_raw_headers``, it says everything byte by byte. Otherwise several values of a header
    arrive joined by commas, and in the place of each byte that is no text there is an exclamation mark.
    """
    nothing = Request("", "", {}, is_trusted=is_trusted)
    try:
        http = CheckRequest.FromString(raw).attributes.request.http
    except DecodeError:
        return nothing
    headers = _headers(http)
    if http.header_map.headers:
        method, host, path = (_only(headers.get(name, ())) for name in (":method", ":authority", ":path"))
    else:
        method, host, path = http.method, http.host, http.path
        if forwarded.may_be_no_text(host, path):
            return nothing
    return Request(method, path, {**headers, "host": (host,)}, is_trusted=is_trusted)


def told(request: Request) -> Told | Denied:
    if not request.method or not request.path:
        return forwarded.malformed(
            "expected a CheckRequest about an HTTP request, with a method and a path; without encode_raw_headers, there"
            " may be no exclamation mark in its host and path"
        )
    host = forwarded.header(request, "host")
    if isinstance(host, Denied):
        return host
    return forwarded.told_otherwise(request) or (request.method, host, request.path)


read = forwarded.reader(told)


def write(verdict: Verdict, identity: IdentityHeaders, request_id: str) -> Message:
    """The answer to Envoy. Who is refused is told the ``request_id``, which is in the log.

    An allow sets the identity headers that say something and removes the others. Whatever is no allow is a denial to
    Envoy, an outage too: an *error* would pass where ``failure_mode_allow`` is set.
    """
    if isinstance(verdict, Denied):
        return _refusal(verdict, request_id)
    headers = identity.of(verdict.principal)
    allow = OkHttpResponse(
        headers=_options([(name, value) for name, value in headers if value]),
        headers_to_remove=[name for name, value in headers if not value],
    )
    return CheckResponse(status=Status(code=_OK), ok_response=allow, dynamic_metadata=_metadata(verdict.principal))


def unknown_caller(answered: Answer) -> Message:
    """``answered`` to whoever may not ask. No reason: nothing was decided about a token."""
    return CheckResponse(
        status=Status(code=CODE[Family.INSUFFICIENT], message="unknown caller"), denied_response=_denied(answered)
    )


def _refusal(denied: Denied, request_id: str) -> Message:
    return CheckResponse(
        status=Status(code=CODE[denied.family], message=str(denied.reason)),
        denied_response=_denied(answer.refusal(denied), ("X-Request-Id", request_id)),
        dynamic_metadata=_struct({"reason": str(denied.reason)}),
    )


def _denied(answered: Answer, *headers: tuple[str, str]) -> Message:
    return DeniedHttpResponse(
        status=HttpStatus(code=answered.status),
        headers=_options([*answered.headers, *headers]),
        body=answered.body.decode("ascii"),
    )


def _headers(http: Any) -> dict[str, list[str]]:
    """By lower-case name, those of HTTP/2 (``:path``) among them."""
    raw = [(one.key, one.raw_value.decode("utf-8", "surrogateescape") or one.value) for one in http.header_map.headers]
    headers: dict[str, list[str]] = {}
    for name, value in raw or http.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    return headers


def _only(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else ""


def _options(headers: Iterable[tuple[str, str]]) -> list[Message]:
    """In the place of whatever has the same name."""
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=OVERWRITE_IF_EXISTS_OR_ADD)
        for name, value in headers
    ]


def _metadata(principal: Principal | None) -> Struct:
    """What filters after this one, and access logs, may read of the principal: as in ``POST /verify``."""
    return _struct({} if principal is None else answer.members(principal))


def _struct(value: Mapping[str, Any]) -> Struct:
    deepest = DEEPEST if _counted(value, MOST) <= MOST else 1
    made = Struct()
    made.update({name: _plain(member, deepest) for name, member in value.items()})
    return made


def _counted(value: Any, most: int) -> int:
    """How many values ``value`` holds, itself among them; more than ``most`` are not counted to the end."""
    members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    counted = 1
    for member in members:
        if counted > most:
            break
        counted += _counted(member, most - counted)
    return counted


def _plain(value: Any, levels: int) -> Any:
    """``value`` as metadata can hold it: JSON text for arrays and objects that many ``levels`` down, and text for an
    integer that is no double."""
    if isinstance(value, Mapping | list | tuple):
        if levels <= 1:
            return json.dumps(value)
        if isinstance(value, Mapping):
            return {name: _plain(member, levels - 1) for name, member in value.items()}
        return [_plain(member, levels - 1) for member in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value
