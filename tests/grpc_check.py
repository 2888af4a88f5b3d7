"""Envoy's side of gRPC ``Check``."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from tests.support import AUD, Client, FakeIssuer, serve, settings
from verifier.surfaces.ext_authz_messages import CheckRequest, CheckResponse

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, Any]
CHECK = "/envoy.service.auth.v3.Authorization/Check"
# google.rpc.Code
UNAUTHENTICATED, INVALID_ARGUMENT, PERMISSION_DENIED, UNAVAILABLE = 16, 3, 7, 14

ROUTES = [
    {"path": "/public/**", "anonymous": True},
    {"path": "/admin", "scopes": ["admin"]},
]


def check_request(method: str, host: str, target: str, headers: Iterable[tuple[str, str]] = ()) -> Any:
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


async def check(address: str, asked: Message | bytes, **options: Any) -> Any:
    """The answer of the gRPC port at ``address``; the channel ends with it."""
    raw = asked if isinstance(asked, bytes) else asked.SerializeToString()
    async with grpc.aio.insecure_channel(address) as channel:
        call: Call = channel.unary_unary(CHECK, response_deserializer=CheckResponse.FromString)
        return await call(raw, **{"timeout": 10, **options})


@asynccontextmanager
async def serving(issuer: FakeIssuer, *others: Any, **changes: Any) -> AsyncIterator[Client]:
    """A verifier with ``ROUTES`` and a gRPC port."""
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    made = {"grpc": {"listen": "127.0.0.1:0"}, "routes": ROUTES, **changes}
    async with serve(settings(main, *others, **made)) as client:
        yield client


def address(client: Client) -> str:
    assert client.service.grpc_address is not None
    return client.service.grpc_address


def bearer(token: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token}")


async def ask(client: Client, token: str | None = None, target: str = "/pets", *headers: tuple[str, str]) -> Any:
    sent = headers if token is None else (bearer(token), *headers)
    return await check(address(client), check_request("GET", "api.example", target, sent))


def refused(answer: Any, code: int, status: int, reason: str) -> bool:
    found = (answer.status.code, answer.status.message, answer.denied_response.status.code)
    return found == (code, reason, status) and f'"reason":"{reason}"' in answer.denied_response.body
