"""The server against clients that are wrong, slow or too many."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from tests.support import AUD, Client, claims, eventually, private_key, public_jwk, serve, settings, sign
from verifier.observability.log import open_log
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.server.deciding import Decisions
from verifier.server.http import Bounds, HttpServer, Offer


@pytest.fixture
def issuer(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public_jwk(private_key("EdDSA"))]}))
    return {"name": "main", "issuer": "https://issuer.example/", "audiences": [AUD], "jwks_file": str(path)}


@pytest.fixture
async def client(issuer: dict[str, Any]) -> AsyncIterator[Client]:
    limits = {"read_timeout": "300ms", "body_bytes": 2048}
    async with serve(settings(issuer, limits=limits)) as made:
        yield made


def token(**changes: Any) -> str:
    return sign(claims(time.time(), **changes), algorithm="EdDSA")


@asynccontextmanager
async def connection(client: Client) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = client.service.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def exchange(client: Client, sent: bytes) -> bytes:
    """Send bytes, and read until the server is silent or closes."""
    async with connection(client) as (reader, writer):
        writer.write(sent)
        received = b""
        try:
            async with asyncio.timeout(2):
                while chunk := await reader.read(65_536):
                    received += chunk
                    if b"\r\n\r\n" in received and b"Connection: close" not in received:
                        break
        except (TimeoutError, ConnectionError):
            pass
        return received


async def test_an_unknown_path_is_404_without_a_reason(client: Client) -> None:
    reply = await client.get("/nothing")
    assert (reply.status, reply.reason, reply.json["allowed"]) == (404, None, False)


@pytest.mark.parametrize(
    "path", ["/verify/", "//verify", "/Verify", "/verify%20", "/%76erify", "/verify;a", "/./verify/../x"]
)
async def test_a_path_is_compared_exactly(path: str, client: Client) -> None:
    received = await exchange(client, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert received.startswith(b"HTTP/1.1 404 ")


async def test_a_target_in_absolute_form_is_served(client: Client) -> None:
    received = await exchange(client, b"GET http://verifier.example/verify?x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_another_method_is_405_with_those_that_are_taken(method: str, client: Client) -> None:
    async with client.http.request(method, f"{client.url}/verify") as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_another_content_type_is_415(kind: str | None, client: Client) -> None:
    line = "" if kind is None else f"Content-Type: {kind}\r\n"
    received = await exchange(
        client, f"POST /verify HTTP/1.1\r\nHost: x\r\n{line}Content-Length: 2\r\n\r\n{{}}".encode()
    )
    assert received.startswith(b"HTTP/1.1 415 ")


async def test_a_content_type_may_have_parameters_and_any_case(client: Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await client.post("/verify", data=b"{}", headers=headers)).status == 401


async def test_a_compressed_body_is_not_taken(client: Client) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert (await client.post("/verify", data=b"{}", headers=headers)).status == 415


async def test_a_body_that_says_it_is_too_long_is_413(client: Client) -> None:
    reply = await client.post("/verify", data=b"x" * 4096, headers={"Content-Type": "application/json"})
    assert reply.status == 413


async def test_a_large_body_that_is_sent_at_once_is_read(issuer: dict[str, Any]) -> None:
    """The next piece of it can come before aiohttp begins with the request."""
    body = json.dumps({"token": "x" * 240_000}).encode()
    head = f"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with serve(settings(issuer)) as client:
        assert b"token_too_large" in await exchange(client, head.encode() + body)


async def test_a_body_that_nobody_waits_for_gets_no_second_answer(client: Client) -> None:
    async with connection(client) as (reader, writer):
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        answer = await reader.readuntil(b"}")
        writer.write(b"x" * 99_999)
        await asyncio.sleep(0.05)
        writer.write(b"x")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                answer += await reader.read()
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_body_that_turns_out_too_long_is_413(client: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"x" * 1024

    reply = await client.post("/verify", data=chunks(), headers={"Content-Type": "application/json"})
    assert reply.status == 413


async def test_a_client_that_waits_for_100_is_told_to_go_on(client: Client) -> None:
    body = f'{{"token":"{token()}"}}'.encode()
    headers = {"Content-Type": "application/json"}
    assert (await client.post("/verify", data=body, headers=headers, expect100=True)).status == 200


async def test_a_header_line_beyond_the_limit_is_431(client: Client) -> None:
    received = await exchange(
        client, b"GET /verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"a" * 30_000 + b"\r\n\r\n"
    )
    assert received.split()[1] == b"431"
    assert b"aaaa" not in received


async def test_header_fields_beyond_the_limit_in_all_are_431(client: Client) -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 8000) for number in range(12))
    received = await exchange(client, b"GET /verify HTTP/1.1\r\nHost: x\r\n" + fields)
    assert received.split()[1] == b"431"


async def test_many_requests_on_one_connection_are_counted_each_by_itself(client: Client) -> None:
    async with connection(client) as (reader, writer):
        for _ in range(12):
            writer.write(b"GET /verify HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 8000)
            await asyncio.sleep(0.01)
            writer.write(b"\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).split()[1] == b"401"
            await reader.readuntil(b'"missing_token"}')


async def test_after_a_request_to_upgrade_the_connection_ends(client: Client) -> None:
    upgrade = b"GET /verify HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    received = await exchange(client, upgrade + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in received


SECRET = b"s3cr3t-t0k3n-value"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /verify HTTP/1.1\r\nHost: x\r\nAuthorization Bearer " + SECRET + b"\r\n\r\n",
        b"GET /verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + SECRET + b"\x00\r\n\r\n",
        b"GET /verify HTTP/1.1\r\nHost: x\r\n Authorization: Bearer " + SECRET + b"\r\n\r\n",
        b"GET /verify " + SECRET + b" HTTP/1.1\r\n\r\n",
        b"G\xffT /verify?" + SECRET + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /verify HTTP/1.1\r\nHost: x\r\nHost: " + SECRET + b"\r\n\r\n",
        b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\nX: " + SECRET + b"\r\n\r\n{}",
        b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\nX: "
        + SECRET
        + b"\r\n\r\n{}",
        b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz"
        + SECRET
        + b"\r\n",
        b"\x16\x03\x01" + SECRET + b"\r\n\r\n",
        SECRET + b"\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_400_and_is_not_quoted(sent: bytes, client: Client) -> None:
    received = await exchange(client, sent)
    assert received.split()[1] == b"400"
    assert b"application/problem+json" in received
    assert SECRET not in received
    assert SECRET.decode() not in client.log_stream.getvalue()


async def test_bytes_beyond_ascii_in_a_credential_are_malformed(client: Client) -> None:
    received = await exchange(client, b"GET /verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\xff\xc3\xa9\r\n\r\n")
    assert b'"reason":"malformed_credentials"' in received


async def test_a_request_that_never_ends_is_408(client: Client) -> None:
    received = await exchange(client, b"GET /verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bea")
    assert received.startswith(b"HTTP/1.1 408 ")


async def test_a_request_that_trickles_is_408(client: Client) -> None:
    async with connection(client) as (reader, writer):
        answer = asyncio.create_task(reader.read(12))
        for byte in b"GET /verify HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaa":
            if answer.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        assert await answer == b"HTTP/1.1 408"


async def test_a_body_that_never_ends_is_408(client: Client) -> None:
    sent = b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    assert (await exchange(client, sent)).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_outlives_the_time_for_reading(client: Client) -> None:
    async with connection(client) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /verify HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
            await reader.readuntil(b'"missing_token"}')
            await asyncio.sleep(0.5)


async def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    async with connection(client) as (reader, writer):
        good = f"GET /verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n\r\n".encode()
        bad = b"GET /verify HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(good + bad + good)
        for expected in (b"200", b"401", b"200"):
            line = await reader.readuntil(b"\r\n")
            assert line.split()[1] == expected
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)


async def test_http_1_0_is_answered(client: Client) -> None:
    received = await exchange(client, f"GET /verify HTTP/1.0\r\nAuthorization: Bearer {token()}\r\n\r\n".encode())
    assert received.split()[1] == b"200"


async def test_connections_beyond_the_cap_are_closed_unanswered(issuer: dict[str, Any]) -> None:
    async with serve(settings(issuer, limits={"connections": 2})) as client:
        async with connection(client) as (_, one), connection(client) as (_, two):
            one.write(b"GET ")
            two.write(b"GET ")
            await asyncio.sleep(0.1)
            assert await exchange(client, b"GET /verify HTTP/1.1\r\nHost: x\r\n\r\n") == b""
            assert await client.metric("verifier_connections_refused_total") >= 1
        await asyncio.sleep(0.1)
        assert (await client.verify()).status == 401


async def test_an_answer_that_has_begun_is_not_begun_again(client: Client) -> None:
    class Begun:
        output_size = 1

    request: Any = type("Request", (), {"writer": Begun()})()
    observer = Observer(Metrics(), open_log("json", "error"), log_denials=False)
    server = HttpServer(Offer({}, Bounds(8190, 1024, 1, 1.0, 1.0)), observer)
    with pytest.raises(ConnectionError):
        server().handle_error(request, 400)


async def test_errors_of_http_are_counted_by_status(client: Client) -> None:
    await client.get("/nothing")
    assert await client.metric("verifier_http_errors_total", status="404") == 1


async def test_a_defect_in_a_surface_is_400_and_never_5xx(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("with s3cr3t-t0k3n-value")

    monkeypatch.setattr("verifier.observability.observer.Observer.decided", broken)
    reply = await client.verify()
    assert (reply.status, reply.reason) == (400, None)
    line = next(line for line in client.log() if line["event"] == "defect")
    assert line["error"] == "ZeroDivisionError"
    assert "s3cr3t" not in client.log_stream.getvalue()


async def test_requests_in_progress_are_answered_when_the_service_stops(issuer: dict[str, Any]) -> None:
    body = f'{{"token":"{token()}"}}'.encode()
    head = f"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with serve(settings(issuer)) as client:
        host, _, port = client.service.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body[:10])
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().call_later(0.2, writer.write, body[10:])
    assert (await reader.read(12)) == b"HTTP/1.1 200"
    writer.close()


@pytest.mark.parametrize("sent", [b"2\r\n{}\r\nzz\r\n", b"2\r\n{}\r\n-1\r\n", b"ffffffffffffffffff\r\n{}"])
async def test_a_body_whose_framing_breaks_is_400(sent: bytes, client: Client) -> None:
    head = b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with connection(client) as (reader, writer):
        writer.write(head)
        await asyncio.sleep(0.05)
        writer.write(sent)
        assert (await reader.readline()).split()[1] == b"400"


async def test_a_target_that_is_no_url_is_404(client: Client) -> None:
    received = await exchange(client, b"GET http://[bad HTTP/1.1\r\nHost: x\r\n\r\n")
    assert received.split()[1] in (b"400", b"404")


def test_the_compiled_parser_of_aiohttp_is_in_use() -> None:
    """The one in pure Python was the weak one in most of the advisories on request smuggling."""
    assert HttpRequestParser is not HttpRequestParserPy


@pytest.mark.parametrize(
    ("path", "status"), [("/auth-request", 401), ("/forward-auth", 400), ("/verify", 400), ("/auth-requests", 400)]
)
async def test_what_http_refuses_is_a_denial_to_nginx_and_not_an_error(path: str, status: int, client: Client) -> None:
    """It makes 500 of everything but 401 and 403, and anybody can send a control character."""
    host, _, port = client.service.address.rpartition(":")
    for _ in range(2):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Note: a\x01b\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert int(answer.split()[1]) == status


async def test_too_many_headers_are_a_denial_to_nginx(client: Client) -> None:
    host, _, port = client.service.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    headers = "".join(f"X-{number}: a\r\n" for number in range(300))
    writer.write(f"GET /auth-request HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode())
    assert (await reader.read()).split()[1] == b"401"
    writer.close()


async def test_a_defect_is_a_denial_to_nginx_and_not_an_error(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(Decisions, "_refused", broken)
    assert (await client.get("/auth-request")).status == 401
    assert (await client.get("/forward-auth")).status == 400


async def test_a_client_that_does_not_read_its_answers_loses_its_connection(issuer: dict[str, Any]) -> None:
    async with serve(settings(issuer, limits={"read_timeout": "500ms", "connections": 2})) as client:
        host, _, port = client.service.address.rpartition(":")
        with ExitStack() as closing:
            for _ in range(2):  # as many as there may be
                one = closing.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                one.connect((host, int(port)))
                one.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: verifier\r\n\r\n" * 100)  # the longest answer
            await eventually(lambda: _open(client), within=10)
        assert (await client.verify()).status == 401


async def _open(client: Client) -> bool:
    return await client.metric("verifier_connections") == 0
