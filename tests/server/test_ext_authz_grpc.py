"""Envoy's gRPC ``Check``: what the table of gateways does not ask."""

import asyncio
import json
import os
import random
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from google.protobuf.json_format import MessageToDict
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tests.check import CHECK, Call, check, check_request
from tests.support import AUD, Client, FakeIssuer, eventually, opaque_issuer, serve, settings
from verifier.core.reasons import Reason
from verifier.engine import Engine
from verifier.server.grpc_port import peer

ROUTES = [
    {"path": "/public/**", "anonymous": True},
    {"path": "/admin", "scopes": ["admin"]},
]
NOBODY = "0.0.0.0"  # noqa: S104 - no peer has it
UNAUTHENTICATED, INVALID_ARGUMENT, PERMISSION_DENIED, UNAVAILABLE = 16, 3, 7, 14


@asynccontextmanager
async def serving(issuer: FakeIssuer, *others: Any, **changes: Any) -> AsyncIterator[Client]:
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    made = {"grpc": {"listen": "127.0.0.1:0"}, "routes": ROUTES, **changes}
    async with serve(settings(main, *others, **made)) as client:
        yield client


@pytest.fixture
async def client(issuer: FakeIssuer) -> AsyncIterator[Client]:
    async with serving(issuer) as made:
        yield made


def address(client: Client) -> str:
    assert client.service.grpc_address is not None
    return client.service.grpc_address


def bearer(token: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token}")


async def ask(client: Client, token: str | None = None, target: str = "/pets", *headers: tuple[str, str]) -> Any:
    sent = headers if token is None else (bearer(token), *headers)
    return await check(address(client), check_request("GET", "api.example", target, sent))


def refused(answer: CheckResponse, code: int, status: int, reason: str) -> bool:
    found = (answer.status.code, answer.status.message, answer.denied_response.status.code)
    return found == (code, reason, status) and f'"reason":"{reason}"' in answer.denied_response.body


async def test_an_allow_replaces_the_identity_headers_and_removes_those_that_say_nothing(
    client: Client, issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA", scope="read", exp=2_000_000_000)
    answer = await ask(client, token, "/pets", ("X-Auth-Subject", "root"))
    assert answer.status.code == 0
    assert {one.header.key: one.header.value for one in answer.ok_response.headers} == {
        "X-Auth-Subject": "alice",
        "X-Auth-Issuer": issuer.url,
        "X-Auth-Scope": "read",
        "X-Auth-Expires": "2000000000",
    }
    actions = {one.append_action for one in answer.ok_response.headers}
    assert actions == {HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD}
    assert list(answer.ok_response.headers_to_remove) == ["X-Auth-Client-Id", "X-Auth-Omitted"]


async def test_nobody_on_a_route_for_everybody_has_no_identity(client: Client) -> None:
    answer = await ask(client, None, "/public/a", ("X-Auth-Subject", "root"))
    assert list(answer.ok_response.headers) == []
    assert "X-Auth-Subject" in answer.ok_response.headers_to_remove
    assert MessageToDict(answer.dynamic_metadata) == {}


async def test_the_claims_are_there_for_other_filters(client: Client, issuer: FakeIssuer) -> None:
    nested = {"a": [None, True, 1.5]}
    token = issuer.token("EdDSA", exp=2_000_000_000, groups=["staff"], nested=nested, account=2**53 + 1)
    said = MessageToDict((await ask(client, token)).dynamic_metadata)
    assert (said["issuer_name"], said["subject"], said["expires_at"]) == ("main", "alice", 2_000_000_000)
    assert said["scopes"] == ["read", "write"]
    assert said["claims"]["groups"] == ["staff"]
    assert said["claims"]["nested"] == nested
    assert said["claims"]["account"] == "9007199254740993"


async def test_claims_within_claims_do_not_make_an_answer_that_envoy_cannot_read(
    client: Client, issuer: FakeIssuer
) -> None:
    """protobuf reads 100 messages inside each other."""
    deep: Any = "end"
    for _ in range(30):
        deep = {"a": deep}
    answer = await ask(client, issuer.token("EdDSA", deep=deep))
    assert answer.status.code == 0
    assert str(MessageToDict(answer.dynamic_metadata)["claims"]["deep"]).count("'a'") == 14


@pytest.mark.parametrize(
    ("target", "token", "expected"),
    [
        ("/pets", None, (UNAUTHENTICATED, 401, Reason.MISSING_TOKEN)),
        ("/pets", "a b", (INVALID_ARGUMENT, 400, Reason.MALFORMED_CREDENTIALS)),
        ("/pets", "x", (UNAUTHENTICATED, 401, Reason.MALFORMED_TOKEN)),
        ("/admin", "good", (PERMISSION_DENIED, 403, Reason.INSUFFICIENT_SCOPE)),
        ("/a/../admin", "good", (PERMISSION_DENIED, 403, Reason.ROUTE_DENIED)),
        ("/pets", "partner's", (UNAVAILABLE, 503, Reason.KEYS_UNAVAILABLE)),
    ],
)
async def test_a_refusal_is_an_answer_with_code_status_and_reason(
    target: str, token: str | None, expected: tuple[int, int, str], issuer: FakeIssuer
) -> None:
    """Also when nobody can decide: an error of the call may pass, this one not."""
    partner = {"name": "partner", "issuer": "https://p.example", "audiences": [AUD], "jwks_uri": "http://127.0.0.1:1"}
    tokens = {"good": issuer.token("EdDSA"), "partner's": issuer.token("EdDSA", iss="https://p.example")}
    async with serving(issuer, partner) as client:
        answer = await ask(client, tokens.get(token or "", token), target)
    code, status, reason = expected
    assert refused(answer, code, status, reason)
    headers = {one.header.key for one in answer.denied_response.headers}
    assert headers >= {"Content-Type", "Cache-Control", "Retry-After" if status == 503 else "WWW-Authenticate"}
    assert MessageToDict(answer.dynamic_metadata) == {"reason": reason}
    assert not answer.HasField("ok_response")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff", b"\x0a\x05abc"],
)
async def test_what_is_no_question_is_refused(raw: bytes, client: Client) -> None:
    assert refused(await check(address(client), raw), INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)


@pytest.mark.parametrize(("method", "host", "target"), [("", "a", "/"), ("GET", "", "/"), ("GET", "a", "")])
async def test_a_question_that_does_not_tell_the_request_is_refused(
    method: str, host: str, target: str, client: Client
) -> None:
    answer = await check(address(client), check_request(method, host, target))
    assert refused(answer, INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)


async def test_no_bytes_end_in_an_error_or_an_allow(issuer: FakeIssuer) -> None:
    chance = random.Random(7)
    asked = check_request("GET", "api.example", "/admin", [bearer(issuer.token("EdDSA"))])
    good = asked.SerializeToString(deterministic=True)
    async with serving(issuer, routes=[{"path": "/admin", "scopes": ["admin"]}], default_route="deny") as client:
        for _ in range(300):
            raw = bytearray(good)
            for _ in range(chance.randint(1, 8)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            answer = await check(address(client), bytes(raw[: chance.randint(0, len(raw))]))
            assert answer.denied_response.status.code in (400, 401, 403)
        assert await client.metric("verifier_defects_total") == 0


async def test_values_of_a_header_may_come_joined(client: Client, issuer: FakeIssuer) -> None:
    """As Envoy does it by itself, without ``encode_raw_headers``."""
    asked = check_request("GET", "api.example", "/pets")
    asked.attributes.request.http.ClearField("header_map")
    told = asked.attributes.request.http.headers
    told["authorization"] = f"Bearer {issuer.token('EdDSA')}"
    assert (await check(address(client), asked)).status.code == 0
    told["authorization"] += ",Bearer x"
    assert refused(await check(address(client), asked), INVALID_ARGUMENT, 400, Reason.MALFORMED_CREDENTIALS)


async def test_bytes_of_a_header_that_are_no_text_are_no_obstacle(client: Client, issuer: FakeIssuer) -> None:
    assert (await ask(client, issuer.token("EdDSA"), "/pets", ("X-Other", "\udcff\udcfe"))).status.code == 0
    answer = await check(address(client), check_request("GET", "a", "/pets", [("Authorization", "Bearer \udcff")]))
    assert refused(answer, INVALID_ARGUMENT, 400, Reason.MALFORMED_CREDENTIALS)


async def test_an_address_that_is_not_trusted_may_not_ask(issuer: FakeIssuer) -> None:
    async with serving(issuer, trusted_proxies=["10.0.0.0/8"]) as client:
        answer = await ask(client, issuer.token("EdDSA"))
    assert refused(answer, PERMISSION_DENIED, 403, Reason.UNTRUSTED_PROXY)


async def test_a_unix_socket_is_trusted_and_has_its_mode(
    issuer: FakeIssuer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("s") / "v.sock"
    grpc_listen = {"listen": f"unix:{place}"}
    async with serving(issuer, grpc=grpc_listen, trusted_proxies=["10.0.0.0/8"], socket_mode="0600") as client:
        assert (await ask(client, issuer.token("EdDSA"))).status.code == 0
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert not place.exists()


async def test_a_socket_of_somebody_else_is_left_alone(issuer: FakeIssuer, tmp_path_factory: Any) -> None:
    place: Path = tmp_path_factory.mktemp("s") / "v.sock"
    grpc_listen = {"listen": f"unix:{place}"}
    async with serving(issuer, grpc=grpc_listen) as first:
        with pytest.raises(OSError, match="address already in use"):
            async with serving(issuer, grpc=grpc_listen):
                pass
        assert (await ask(first, issuer.token("EdDSA"))).status.code == 0


async def test_the_socket_of_a_successor_stays_when_we_end(issuer: FakeIssuer, tmp_path_factory: Any) -> None:
    place: Path = tmp_path_factory.mktemp("s") / "v.sock"
    grpc_listen = {"listen": f"unix:{place}"}
    async with AsyncExitStack() as stack:
        async with serving(issuer, grpc=grpc_listen):
            os.rename(place, f"{place}.old")  # noqa: PTH104 - as if it had been removed
            successor = await stack.enter_async_context(serving(issuer, grpc=grpc_listen))
        assert (await ask(successor, issuer.token("EdDSA"))).status.code == 0


async def test_a_port_that_is_taken_is_told(client: Client, issuer: FakeIssuer) -> None:
    with pytest.raises(OSError, match=address(client)):
        async with serving(issuer, grpc={"listen": address(client)}):
            pass


async def test_our_own_mistake_is_a_refusal(
    client: Client, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(Engine, "decide_now", broken)
    answer = await ask(client, issuer.token("EdDSA"))
    assert refused(answer, INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)
    assert await client.metric("verifier_defects_total") == 1


async def test_decisions_are_counted_and_logged_under_a_name_of_their_own(client: Client) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = (("X-Request-Id", "4711"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01"))
    await ask(client, None, "/pets", *headers)
    labels = {"surface": "ext_authz_grpc", "outcome": "deny", "reason": "missing_token"}
    assert await client.metric("verifier_decisions_total", **labels) == 1
    assert await client.metric("verifier_decision_seconds_count", surface="ext_authz_grpc") == 1
    [line] = [line for line in client.log() if line["event"] == "deny"]
    assert (line["surface"], line["request_id"], line["trace_id"]) == ("ext_authz_grpc", "4711", trace)


async def test_an_envoy_that_waits_no_longer_is_told_so_before_it_takes_that_for_an_error(issuer: FakeIssuer) -> None:
    async def stall(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        raise AssertionError

    issuer.fault = stall
    async with serving(issuer) as client:
        asked = check_request("GET", "api.example", "/pets", [bearer(issuer.token("EdDSA"))])
        answer = await check(address(client), asked, timeout=1.0)
        assert refused(answer, UNAVAILABLE, 503, Reason.DEADLINE_EXCEEDED)
        assert {one.header.key for one in answer.denied_response.headers} >= {"Retry-After"}
        assert await client.metric("verifier_decisions_total", reason="deadline_exceeded", outcome="undecided") == 1


@pytest.mark.parametrize("metadata", [(("tracestate", "a=" + "b" * 40_000),), (("x-many", "c" * 8_000),) * 5])
async def test_metadata_of_any_length_is_no_obstacle(metadata: Any, client: Client) -> None:
    """Envoy copies the client's ``tracestate`` there."""
    answer = await check(address(client), check_request("GET", "api.example", "/pets"), metadata=metadata)
    assert refused(answer, UNAUTHENTICATED, 401, Reason.MISSING_TOKEN)


async def test_a_body_of_any_length_is_no_obstacle(client: Client) -> None:
    asked = check_request("GET", "api.example", "/pets")
    asked.attributes.request.http.raw_body = bytes(5_000_000)
    assert refused(await check(address(client), asked), UNAUTHENTICATED, 401, Reason.MISSING_TOKEN)


@pytest.mark.parametrize(
    "target", ["/public/\udcff", "/admin\udcff", "/public/.\udcff./admin"], ids=["end", "admin", "dots"]
)
async def test_a_path_that_is_no_text_is_judged_byte_by_byte(target: str, client: Client, issuer: FakeIssuer) -> None:
    answer = await ask(client, issuer.token("EdDSA"), target)
    assert refused(answer, PERMISSION_DENIED, 403, Reason.ROUTE_DENIED)


@pytest.mark.parametrize(("host", "target"), [("api.example", "/public/!"), ("a!.example", "/public"), ("a", "/!?a")])
async def test_what_may_have_been_no_text_is_refused(host: str, target: str, client: Client) -> None:
    """Without ``encode_raw_headers``, Envoy puts an exclamation mark in the place of such bytes."""
    asked = check_request("GET", host, target)
    asked.attributes.request.http.ClearField("header_map")
    assert refused(await check(address(client), asked), INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)
    asked.attributes.request.http.host, asked.attributes.request.http.path = "a", "/public?a!"
    assert (await check(address(client), asked)).status.code == 0


async def test_a_path_that_is_told_twice_is_refused(client: Client) -> None:
    asked = check_request("GET", "api.example", "/public", [(":path", "/public/a")])
    assert refused(await check(address(client), asked), INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)


async def test_connections_are_as_many_as_configured(issuer: FakeIssuer) -> None:
    async with serving(issuer, limits={"connections": 3}) as client:
        host, _, port = address(client).rpartition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
        for _, writer in opened:
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        await asyncio.sleep(0.5)
        closed = sum(reader.at_eof() for reader, _ in opened)
        for _, writer in opened:
            writer.close()
    assert closed >= 4


async def test_a_principal_of_many_values_is_told_as_text(client: Client, issuer: FakeIssuer) -> None:
    """Each value in metadata takes time."""
    said = MessageToDict((await ask(client, issuer.token("EdDSA", many=[[]] * 600))).dynamic_metadata)
    assert json.loads(said["claims"])["many"] == [[]] * 600
    assert (said["subject"], json.loads(said["scopes"])) == ("alice", ["read", "write"])


async def test_an_envoy_that_gives_up_takes_nothing_from_the_next(issuer: FakeIssuer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    slow = opaque_issuer("slow", f"{issuer.url}/introspect", secret)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def later(request: web.Request) -> web.StreamResponse:
        if request.path == "/introspect":
            asked.set()
            await go_on.wait()
        return await issuer.usual(request)

    issuer.fault = later
    token = issuer.opaque("opaque", iss="https://slow.example")
    async with serving(issuer, slow) as client:
        given_up = asyncio.create_task(ask(client, token))
        await asked.wait()
        given_up.cancel()
        await asyncio.wait({given_up})
        waiting = asyncio.create_task(ask(client, token))
        await asyncio.sleep(0.1)
        go_on.set()
        assert (await waiting).status.code == 0
        assert await client.metric("verifier_defects_total") == 0


async def health(client: Client, service: str = "") -> int:
    async with grpc.aio.insecure_channel(address(client)) as channel:
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        return int((await call(HealthCheckRequest(service=service), timeout=5)).status)


@pytest.mark.parametrize("service", ["", "envoy.service.auth.v3.Authorization"])
async def test_the_health_service_says_whether_we_are_ready(service: str, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(status=500)
    async with serving(issuer, keys={"unknown_kid_cooldown": "1s"}) as client:
        assert await health(client, service) == HealthCheckResponse.NOT_SERVING
        issuer.fault = None

        async def ready() -> bool:
            await ask(client, issuer.token("EdDSA"))
            return await health(client, service) == int(HealthCheckResponse.SERVING)

        await eventually(ready)


async def test_only_check_is_served(client: Client) -> None:
    async with grpc.aio.insecure_channel(address(client)) as channel:
        call: Call = channel.unary_unary(CHECK.replace("Check", "Other"))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(b"", timeout=5)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[2001:db8::1]:4711", "2001:db8::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::1"),
        ("unix:", ""),
        ("unix:/run/a.sock", ""),
        ("", NOBODY),
        ("unknown:x", NOBODY),
        ("unix-abstract:x", NOBODY),
    ],
)
def test_a_peer_is_known_by_its_address(told: str, expected: str) -> None:
    assert peer(told) == expected


def test_without_the_extra_the_configuration_says_what_to_install(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verifier.config.rules.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'token-verifier\[grpc\]'"):
        settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, grpc={"listen": "127.0.0.1:0"})


async def test_without_an_address_there_is_no_grpc(issuer: FakeIssuer) -> None:
    async with serving(issuer, grpc={}) as client:
        assert client.service.grpc_address is None
