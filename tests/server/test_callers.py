"""Who may ask: callers that show a secret, on the data port and on that of gRPC."""

import asyncio
import io
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tests import grpc_check
from tests.support import ADMIN_TOKEN, AUD, Client, FakeIssuer, Reply, eventually, serve, settings
from verifier.observability.log import open_log
from verifier.observability.metrics import Metrics
from verifier.observability.observer import REFUSALS_INTERVAL, Observer
from verifier.server.callers import Callers, digest, is_secret
from verifier.server.deciding import Decided, Decisions
from verifier.server.reloading import Reloaded, reloading
from verifier.surfaces.surface import Request

SECRET = secrets.token_hex(16)
NEXT = secrets.token_hex(16)
NAMES = ("lambda", "lambda-next", "unknown")
ELSEWHERE = ["10.0.0.0/8"]


@pytest.fixture
def secret_files(tmp_path: Path) -> dict[str, Path]:
    files = {"lambda": tmp_path / "lambda", "lambda-next": tmp_path / "lambda-next"}
    for file, secret in zip(files.values(), (SECRET, NEXT), strict=True):
        file.write_text(f"{secret}\n")
    return files


def callers(secret_files: dict[str, Path]) -> list[dict[str, str]]:
    return [{"name": name, "secret_file": str(file)} for name, file in secret_files.items()]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than every two seconds."""
    monkeypatch.setattr("verifier.app.entrance.reloading", partial(reloading, interval=0.2))


@asynccontextmanager
async def served(issuer: FakeIssuer, secret_files: dict[str, Path], **changes: Any) -> AsyncIterator[Client]:
    made = {**({"callers": callers(secret_files)} if secret_files else {}), **changes}
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, **made)) as client:
        yield client


@pytest.fixture
async def client(issuer: FakeIssuer, secret_files: dict[str, Path]) -> AsyncIterator[Client]:
    async with served(issuer, secret_files) as made:
        yield made


async def ask(client: Client, path: str = "/verify", *shown: str, method: str = "GET", **request: Any) -> Reply:
    headers = [("X-Verifier-Secret", secret) for secret in shown]
    async with client.http.request(method, client.url + path, headers=headers, **request) as answer:
        return await Reply.of(answer)


def is_unknown(reply: Reply) -> bool:
    """The problem document has no reason: nothing was decided about a token."""
    problem = reply.headers["Content-Type"] == "application/problem+json"
    return problem and (reply.status, reply.reason, reply.json["allowed"]) == (403, None, False)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/verify", "GET"),
        ("/verify", "POST"),
        ("/verify/batch", "POST"),
        ("/introspect", "POST"),
        ("/forward-auth", "GET"),
        ("/auth-request", "GET"),
        ("/ext-authz/pets", "PUT"),
        ("/openapi.json", "GET"),
        ("/nothing", "GET"),
        ("/verify", "TRACE"),
    ],
)
async def test_nothing_is_served_to_a_caller_without_a_secret(path: str, method: str, client: Client) -> None:
    reply = await ask(client, path, method=method)
    assert is_unknown(reply)
    assert "WWW-Authenticate" not in reply.headers


@pytest.mark.parametrize(
    "shown",
    [
        [""],
        ["wrong-but-long-enough"],
        [SECRET[:-1]],
        [f"{SECRET}x"],
        [SECRET.upper()],
        [f"Bearer {SECRET}"],
        [SECRET, SECRET],
        [SECRET, NEXT],
        [SECRET, "wrong-but-long-enough"],
        [f"{SECRET}, {SECRET}"],
        ["\udcff" * 16],
        ["ü" * 16],
        ["x" * 8000],
    ],
)
async def test_only_one_secret_shown_once_is_good(shown: list[str], client: Client) -> None:
    assert is_unknown(await ask(client, "/verify", *shown))


async def test_whether_a_secret_that_was_written_is_in_use_is_told(
    client: Client, secret_files: dict[str, Path]
) -> None:
    secret_files["lambda"].write_text("short")

    async def usable() -> list[float]:
        return [await client.metric("verifier_file_usable", file=f"callers.{name}") for name in secret_files]

    async def only_the_other() -> bool:
        return await usable() == [0, 1]

    await eventually(only_the_other)


@pytest.mark.parametrize("secret", [SECRET, NEXT], ids=["now", "next"])
async def test_a_caller_with_any_of_the_secrets_is_answered(secret: str, client: Client, issuer: FakeIssuer) -> None:
    assert (await ask(client, "/verify", secret)).reason == "missing_token"
    reply = await ask(client, "/verify", secret, method="POST", json={"token": issuer.token("EdDSA")})
    assert reply.status == 200


async def test_a_gateway_with_a_secret_is_answered(client: Client, issuer: FakeIssuer) -> None:
    headers = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": "a", "X-Forwarded-Uri": "/"}
    headers |= {"Authorization": f"Bearer {issuer.token('EdDSA')}"}
    assert (await client.get("/forward-auth", **headers, **{"X-Verifier-Secret": SECRET})).status == 200


async def test_a_secret_makes_no_trusted_proxy(issuer: FakeIssuer, secret_files: dict[str, Path]) -> None:
    async with served(issuer, secret_files, trusted_proxies=ELSEWHERE) as client:
        assert (await ask(client, "/forward-auth", SECRET)).reason == "untrusted_proxy"


async def test_nobody_needs_a_secret_where_there_are_no_callers(issuer: FakeIssuer) -> None:
    async with served(issuer, {}) as client:
        assert (await ask(client)).reason == "missing_token"
        assert (await ask(client, "/verify", "what a client made up", "twice")).reason == "missing_token"


async def test_an_exempt_address_needs_no_secret(issuer: FakeIssuer, secret_files: dict[str, Path]) -> None:
    async with served(issuer, secret_files, callers_exempt=["127.0.0.0/8"]) as client:
        assert (await ask(client)).reason == "missing_token"


async def test_any_other_address_needs_one(issuer: FakeIssuer, secret_files: dict[str, Path]) -> None:
    async with served(issuer, secret_files, callers_exempt=ELSEWHERE) as client:
        assert is_unknown(await ask(client))


async def test_a_unix_socket_needs_no_secret(
    issuer: FakeIssuer, secret_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("s") / "v.sock"
    async with (
        served(issuer, secret_files, listen=f"unix:{place}"),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place))) as http,
        http.get("http://verifier/verify") as answer,
    ):
        assert (await Reply.of(answer)).reason == "missing_token"


async def test_an_unknown_caller_is_refused_before_its_body_is_read(client: Client) -> None:
    """Nor is it asked to send one."""
    host, _, port = client.service.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(head + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
    async with asyncio.timeout(1):
        assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
    writer.close()


async def test_the_ops_port_asks_no_caller(issuer: FakeIssuer, secret_files: dict[str, Path], tmp_path: Path) -> None:
    token = tmp_path / "admin"
    token.write_text(ADMIN_TOKEN)
    ops = {"listen": "127.0.0.1:0", "admin_token_file": str(token)}
    async with served(issuer, secret_files, ops=ops) as client:
        assert (await client.ops("/healthz")).status == 200
        assert (await client.admin("GET")).status == 200


async def test_callers_are_counted_by_name(client: Client) -> None:
    assert 'verifier_callers_total{caller="lambda-next"} 0.0' in (await client.ops("/metrics")).text
    for shown in ([SECRET], [SECRET], [NEXT], ["wrong-but-long-enough"], []):
        await ask(client, "/verify", *shown)
    counted = {name: await client.metric("verifier_callers_total", caller=name) for name in NAMES}
    assert counted == {"lambda": 2, "lambda-next": 1, "unknown": 2}
    assert await client.metric("verifier_http_errors_total", status="403") == 2


async def test_nothing_of_a_secret_is_answered_or_logged(client: Client) -> None:
    wrong = "wrong-but-long-enough"
    replies = [await ask(client, "/verify", *shown) for shown in ([SECRET], [wrong], [SECRET, SECRET])]
    said = client.log_stream.getvalue() + "".join(f"{reply.headers}{reply.text}" for reply in replies)
    said += (await client.ops("/metrics")).text
    assert SECRET not in said
    assert wrong not in said


async def test_no_surface_sees_a_secret(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    decide, decide_now = Decisions.decide, Decisions.decide_now

    async def watch(self: Decisions, request: Request, *rest: Any, **options: Any) -> Decided:
        seen.extend(request.headers)
        return await decide(self, request, *rest, **options)

    def watch_now(self: Decisions, request: Request, *rest: Any, **options: Any) -> Decided | None:
        seen.extend(request.headers)
        return decide_now(self, request, *rest, **options)

    monkeypatch.setattr(Decisions, "decide", watch)
    monkeypatch.setattr(Decisions, "decide_now", watch_now)
    await ask(client, "/verify", SECRET)  # by the fast lane
    await ask(client, "/verify?", SECRET, method="HEAD")  # by aiohttp
    assert seen.count("host") == 2
    assert "x-verifier-secret" not in seen


async def test_a_flood_of_unknown_callers_is_one_line(client: Client) -> None:
    for _ in range(20):
        await ask(client)
    (line,) = [line for line in client.log() if line["event"] == "caller_refused"]
    assert (line["level"], line["address"]) == ("warning", "127.0.0.1")


def test_a_minute_later_there_is_a_line_again_and_it_says_how_many() -> None:
    lines: list[dict[str, Any]] = []

    class Log:
        def warning(self, _event: str, **fields: Any) -> None:
            lines.append(fields)

    now = [0.0]
    log: Any = Log()
    observer = Observer(Metrics(), log, log_denials=False, clock=lambda: now[0])
    for now[0] in (0.0, 1.0, REFUSALS_INTERVAL - 1, REFUSALS_INTERVAL, REFUSALS_INTERVAL + 1):
        observer.caller_refused("unknown", "192.0.2.1")
    assert [line["entries"] for line in lines] == [1, 3]


async def test_a_secret_is_rotated_without_a_restart(client: Client, secret_files: dict[str, Path]) -> None:
    renewed = secrets.token_hex(16)
    secret_files["lambda"].write_text(renewed)

    async def counts() -> bool:
        return (await ask(client, "/verify", renewed)).status == 401

    await eventually(counts)
    assert is_unknown(await ask(client, "/verify", SECRET))
    assert (await ask(client, "/verify", NEXT)).status == 401
    assert [line["kind"] for line in client.log() if line["event"] == "file_renewed"] == ["callers.lambda"]


@pytest.mark.parametrize("content", [None, "", "\n", "short"])
async def test_while_a_secret_cannot_be_read_the_last_one_counts(
    content: str | None, client: Client, secret_files: dict[str, Path]
) -> None:
    secret_files["lambda"].unlink()
    if content is not None:
        secret_files["lambda"].write_text(content)
    await eventually(lambda: [line for line in client.log() if line["event"] == "file_unusable"])
    assert (await ask(client, "/verify", SECRET)).status == 401
    assert is_unknown(await ask(client, "/verify", (content or "").strip()))
    renewed = secrets.token_hex(16)
    secret_files["lambda"].write_text(renewed)

    async def counts() -> bool:
        return (await ask(client, "/verify", renewed)).status == 401

    await eventually(counts)
    (line,) = [line for line in client.log() if line["event"] == "file_unusable"]
    assert (line["level"], line["kind"]) == ("error", "callers.lambda")


def test_every_secret_is_compared_and_only_by_its_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So the time tells neither which one is nearly right nor how long it is."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("verifier.server.callers.hmac.compare_digest", compare)
    files = {name: tmp_path / name for name in "abc"}
    for name, file in files.items():
        file.write_text(name)
    digests = {name: Reloaded(name, [file], lambda contents: digest(contents[0])) for name, file in files.items()}
    observer = Observer(Metrics(), open_log("json", "info", io.StringIO()), log_denials=True)
    assert Callers(digests, lambda _: False, observer).admit("192.0.2.1", ["a"])
    assert compared == [(digests["a"].value, known.value) for known in digests.values()]


def test_a_secret_is_compared_as_bytes() -> None:
    assert is_secret("\udcff\udcfe", digest(b"\xff\xfe"))


# gRPC


@asynccontextmanager
async def grpc_served(issuer: FakeIssuer, secret_files: dict[str, Path], **changes: Any) -> AsyncIterator[Client]:
    async with grpc_check.serving(issuer, callers=callers(secret_files), **changes) as made:
        yield made


async def check(client: Client, issuer: FakeIssuer, *shown: str, **headers: str) -> Any:
    sent = [grpc_check.bearer(issuer.token("EdDSA")), *headers.items()]
    asked = grpc_check.check_request("GET", "api.example", "/pets", sent)
    metadata = tuple(("x-verifier-secret", secret) for secret in shown)
    return await grpc_check.check(grpc_check.address(client), asked, metadata=metadata)


async def test_an_envoy_shows_its_secret_as_metadata(issuer: FakeIssuer, secret_files: dict[str, Path]) -> None:
    async with grpc_served(issuer, secret_files) as client:
        assert (await check(client, issuer, NEXT)).status.code == 0
        assert await client.metric("verifier_callers_total", caller="lambda-next") == 1


@pytest.mark.parametrize("shown", [[], ["wrong-but-long-enough"], [SECRET, SECRET], [""]])
async def test_an_envoy_without_a_secret_is_told_of_a_denial_and_no_error(
    shown: list[str], issuer: FakeIssuer, secret_files: dict[str, Path]
) -> None:
    """An error might pass."""
    async with grpc_served(issuer, secret_files) as client:
        answer = await check(client, issuer, *shown)
        assert (answer.status.code, answer.denied_response.status.code) == (grpc_check.PERMISSION_DENIED, 403)
        assert '"allowed":false' in answer.denied_response.body
        assert '"reason"' not in answer.denied_response.body
        assert await client.metric("verifier_callers_total", caller="unknown") == 1
        assert await client.metric("verifier_defects_total") == 0


async def test_a_secret_among_the_headers_of_the_client_is_none_of_the_envoy(
    issuer: FakeIssuer, secret_files: dict[str, Path]
) -> None:
    async with grpc_served(issuer, secret_files) as client:
        answer = await check(client, issuer, **{"x-verifier-secret": SECRET})
        assert answer.denied_response.status.code == 403


async def test_an_envoy_at_a_unix_socket_or_exempt_needs_no_secret(
    issuer: FakeIssuer, secret_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("s") / "v.sock"
    async with grpc_served(issuer, secret_files, grpc={"listen": f"unix:{place}"}) as client:
        assert (await check(client, issuer)).status.code == 0
    async with grpc_served(issuer, secret_files, callers_exempt=["127.0.0.0/8"]) as client:
        assert (await check(client, issuer)).status.code == 0


async def test_the_health_service_needs_no_secret(issuer: FakeIssuer, secret_files: dict[str, Path]) -> None:
    async with (
        grpc_served(issuer, secret_files) as client,
        grpc.aio.insecure_channel(grpc_check.address(client)) as channel,
    ):
        health: Any = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        assert (await health(HealthCheckRequest())).status in {1, 2}


async def test_a_broken_check_of_callers_lets_nobody_in(
    issuer: FakeIssuer, secret_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bool:
        raise RuntimeError

    monkeypatch.setattr(Callers, "recognise", broken)
    async with grpc_served(issuer, secret_files) as client:
        assert (await ask(client, "/verify", SECRET)).status == 400
        assert (await ask(client, "/auth-request", SECRET)).status == 401
        assert (await check(client, issuer, SECRET)).status.code == grpc_check.INVALID_ARGUMENT
        assert await client.metric("verifier_defects_total") >= 3
