"""The gRPC port: whom it answers, when it says that it is ready, and that nothing ends in an error of the call."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tests.grpc_check import (
    CHECK,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Call,
    address,
    ask,
    bearer,
    check,
    check_request,
    refused,
    serving,
)
from tests.support import AUD, Client, FakeIssuer, eventually, opaque_issuer, settings
from verifier.core.reasons import Reason
from verifier.core.verdict import Denied
from verifier.engine import Engine
from verifier.server.grpc_port import peer

NOBODY = "0.0.0.0"  # noqa: S104 - no peer has it


@pytest.fixture
async def client(issuer: FakeIssuer) -> AsyncIterator[Client]:
    async with serving(issuer) as made:
        yield made


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


async def test_calls_are_in_flight_until_they_are_answered(
    client: Client, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def hold(_engine: Engine, _question: Any) -> Denied:
        await gate.wait()
        return Denied(Reason.OVERLOADED, "held")

    async def in_flight() -> float:
        return await client.metric("verifier_requests_in_flight")

    monkeypatch.setattr(Engine, "decide_now", lambda _engine, _question: None)
    monkeypatch.setattr(Engine, "decide", hold)
    asking = asyncio.create_task(ask(client, issuer.token("EdDSA")))
    await eventually(in_flight)
    gate.set()
    await asking
    assert await in_flight() == 0


async def test_our_own_mistake_is_a_refusal(
    client: Client, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(Engine, "decide_now", broken)
    answer = await ask(client, issuer.token("EdDSA"))
    assert refused(answer, INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)
    assert await client.metric("verifier_defects_total") == 1


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


async def test_what_came_too_late_for_one_question_is_there_for_the_next(issuer: FakeIssuer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    slow = opaque_issuer("slow", f"{issuer.url}/introspect", secret)
    go_on = asyncio.Event()

    async def later(request: web.Request) -> web.StreamResponse:
        if request.path == "/introspect":
            await go_on.wait()
        return await issuer.usual(request)

    issuer.fault = later
    asked = check_request("GET", "api.example", "/pets", [bearer(issuer.opaque("opaque", iss="https://slow.example"))])
    async with serving(issuer, slow) as client:
        late = await check(address(client), asked, timeout=0.5)
        assert refused(late, UNAVAILABLE, 503, Reason.DEADLINE_EXCEEDED)
        go_on.set()

        async def allowed() -> bool:
            return bool((await check(address(client), asked)).status.code == 0)

        await eventually(allowed)
        assert issuer.introspections == 1


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


@pytest.mark.parametrize("metadata", [(("tracestate", "a=" + "b" * 40_000),), (("x-many", "c" * 8_000),) * 5])
async def test_metadata_of_any_length_is_no_obstacle(metadata: Any, client: Client) -> None:
    """Envoy copies the client's ``tracestate`` there."""
    answer = await check(address(client), check_request("GET", "api.example", "/pets"), metadata=metadata)
    assert refused(answer, UNAUTHENTICATED, 401, Reason.MISSING_TOKEN)


async def test_a_body_of_any_length_is_no_obstacle(client: Client) -> None:
    asked = check_request("GET", "api.example", "/pets")
    asked.attributes.request.http.raw_body = bytes(5_000_000)
    assert refused(await check(address(client), asked), UNAUTHENTICATED, 401, Reason.MISSING_TOKEN)


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
    monkeypatch.setattr("verifier.config.values.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install '.\[grpc\]'"):
        settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, grpc={"listen": "127.0.0.1:0"})


async def test_without_an_address_there_is_no_grpc(issuer: FakeIssuer) -> None:
    async with serving(issuer, grpc={}) as client:
        assert client.service.grpc_address is None
