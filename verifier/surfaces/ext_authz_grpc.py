"""Envoy's gRPC: ``envoy.service.auth.v3.Authorization/Check``, by the same rules as ``/ext-authz/``.

Only what the messages say is here; ``server/grpc_port.py`` carries them. It needs the extra ``grpc``, so it is no
surface of the data port.
"""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from google.rpc.status_pb2 import Status

from verifier.core.reasons import Family
from verifier.core.verdict import Denied, Principal, Verdict
from verifier.surfaces import answer, forwarded
from verifier.surfaces.forwarded import Told
from verifier.surfaces.identity_headers import IdentityHeaders
from verifier.surfaces.surface import Request

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

_EXACT = 2**53
"""Integers beyond it are no doubles, which is what a number in metadata is."""


def request_of(raw: bytes, *, is_trusted: bool) -> Request:
    """The request that ``raw`` asks about; one without method and path where it asks about none.

    Several values of a header arrive joined by commas, unless Envoy is told to ``encode_raw_headers``.
    """
    try:
        http = CheckRequest.FromString(raw).attributes.request.http
    except DecodeError:
        return Request("", "", {}, is_trusted=is_trusted)
    return Request(http.method, http.path, {**_headers(http), "host": (http.host,)}, is_trusted=is_trusted)


def told(request: Request) -> Told | Denied:
    if not request.method or not request.path:
        return forwarded.malformed("expected a CheckRequest about an HTTP request, with its method and path")
    host = forwarded.header(request, "host")
    if isinstance(host, Denied):
        return host
    return forwarded.told_otherwise(request) or (request.method, host, request.path)


read = forwarded.reader(told)


def write(verdict: Verdict, identity: IdentityHeaders) -> CheckResponse:
    """The answer to Envoy.

    An allow sets the identity headers that say something and removes the others. Whatever is no allow is a denial to
    Envoy, an outage too: an *error* would pass where ``failure_mode_allow`` is set.
    """
    if isinstance(verdict, Denied):
        return _refusal(verdict)
    headers = identity.of(verdict.principal)
    allow = OkHttpResponse(
        headers=_options([(name, value) for name, value in headers if value]),
        headers_to_remove=[name for name, value in headers if not value],
    )
    return CheckResponse(status=Status(code=_OK), ok_response=allow, dynamic_metadata=_metadata(verdict.principal))


def _refusal(denied: Denied) -> CheckResponse:
    answered = answer.refusal(denied)
    return CheckResponse(
        status=Status(code=CODE[denied.family], message=str(denied.reason)),
        denied_response=DeniedHttpResponse(
            status=HttpStatus(code=answered.status),
            headers=_options(answered.headers),
            body=answered.body.decode("ascii"),
        ),
        dynamic_metadata=_struct({"reason": str(denied.reason)}),
    )


def _headers(http: AttributeContext.HttpRequest) -> dict[str, list[str]]:
    """By lower-case name. ``:method`` and its like are told in fields of their own."""
    told = [(one.key, one.raw_value.decode("utf-8", "surrogateescape") or one.value) for one in http.header_map.headers]
    headers: dict[str, list[str]] = {}
    for name, value in told or http.headers.items():
        if not name.startswith(":"):
            headers.setdefault(name.lower(), []).append(value)
    return headers


def _options(headers: Iterable[tuple[str, str]]) -> list[HeaderValueOption]:
    """In the place of whatever has the same name."""
    overwrite = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=overwrite) for name, value in headers
    ]


def _metadata(principal: Principal | None) -> Struct:
    """What filters after this one, and access logs, may read of the principal: as in ``POST /verify``."""
    return _struct(answer.allowed(principal)["principal"] or {})


def _struct(value: Mapping[str, Any]) -> Struct:
    made = Struct()
    made.update({name: _plain(member, 1) for name, member in value.items()})
    return made


def _plain(value: Any, depth: int) -> Any:
    """``value`` as metadata can hold it; as JSON text what is too deep, as text an integer that is no double."""
    if isinstance(value, Mapping | list | tuple):
        if depth >= DEEPEST:
            return json.dumps(value)
        if isinstance(value, Mapping):
            return {name: _plain(member, depth + 1) for name, member in value.items()}
        return [_plain(member, depth + 1) for member in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value
