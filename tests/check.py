"""Envoy's side of gRPC ``Check``."""

from collections.abc import Iterable
from typing import Any

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, CheckResponse]
CHECK = "/envoy.service.auth.v3.Authorization/Check"


def check_request(method: str, host: str, target: str, headers: Iterable[tuple[str, str]] = ()) -> CheckRequest:
    """As Envoy makes it with ``encode_raw_headers``: names in lower case, every value by itself."""
    made = CheckRequest()
    http = made.attributes.request.http
    http.method, http.host, http.path = method, host, _text(target)
    for name, value in ((":method", method), (":authority", host), (":path", target), *headers):
        http.header_map.headers.add(key=name.lower(), raw_value=value.encode("utf-8", "surrogateescape"))
    return made


def _text(target: str) -> str:
    """With an exclamation mark in the place of what is no text."""
    return target.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "!")


async def check(address: str, asked: CheckRequest | bytes, **options: Any) -> CheckResponse:
    """The answer of the gRPC port at ``address``; the channel ends with it."""
    raw = asked if isinstance(asked, bytes) else asked.SerializeToString()
    async with grpc.aio.insecure_channel(address) as channel:
        call: Call = channel.unary_unary(CHECK, response_deserializer=CheckResponse.FromString)
        return await call(raw, **{"timeout": 10, **options})
