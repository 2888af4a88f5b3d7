"""TLS on the data port, and clients that are slow about it."""

import asyncio
import json
import math
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests import tls
from tests.support import AUD, Client, eventually, private_key, public_jwk, serve, settings, stalls
from verifier.app.entrance import earliest_end
from verifier.server.reloading import reloading

HOST = "localhost"
REQUEST = b"GET /verify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@dataclass
class Files:
    """Those of the service, the authority that its clients trust, and the issuer's keys."""

    folder: Path
    authority: tls.Authority

    @property
    def pair(self) -> Path:
        return self.folder / "pair.pem"

    def renew(self, host: str = HOST) -> None:
        self.pair.write_bytes(tls.certificate(self.authority, host))

    def write(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def client(self, certificate: Path | None = None, check_hostname: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        context.check_hostname = check_hostname
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than every two seconds."""
    monkeypatch.setattr("verifier.app.entrance.reloading", partial(reloading, interval=0.2))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path, tls.authority())
    made.renew()
    made.write("jwks.json", json.dumps({"keys": [public_jwk(private_key("EdDSA"))]}).encode())
    return made


@asynccontextmanager
async def served(files: Files, client_ca: Path | None = None, **changes: Any) -> AsyncIterator[Client]:
    keys = {"certificate_file": str(files.pair), "key_file": str(files.pair)}
    if client_ca is not None:
        keys["client_ca_file"] = str(client_ca)
    issuer = {"name": "main", "issuer": "https://issuer.example/", "audiences": [AUD]}
    issuer |= {"jwks_file": str(files.folder / "jwks.json")}
    async with serve(settings(issuer, tls=keys, **changes)) as client:
        yield client


@asynccontextmanager
async def connection(client: Client, context: ssl.SSLContext | None = None) -> AsyncIterator[Any]:
    host, _, port = client.service.address.rpartition(":")
    name = None if context is None else HOST
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, server_hostname=name)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def status(client: Client, context: ssl.SSLContext, request: bytes = REQUEST) -> int:
    async with connection(client, context) as (reader, writer):
        writer.write(request)
        return int((await reader.read()).split(b" ", 2)[1])


async def cut_off(client: Client) -> bool:
    """Whether a connection is ended at once."""
    async with connection(client) as (reader, _), asyncio.timeout(1):
        try:
            return bool(await reader.read() == b"")
        except ConnectionError:
            return True


async def test_a_caller_can_ask_over_tls(files: Files) -> None:
    async with served(files) as client:
        assert await status(client, files.client()) == 401


async def test_the_ops_port_stays_plain(files: Files) -> None:
    async with served(files) as client:
        assert (await client.ops("/healthz")).status == 200


async def test_nothing_is_answered_in_the_clear(files: Files) -> None:
    async with served(files) as client, connection(client) as (reader, writer):
        writer.write(REQUEST)
        assert b"HTTP" not in await reader.read()
        assert await client.metric("verifier_handshakes_failed_total") == 1


async def test_older_versions_of_tls_are_refused(files: Files) -> None:
    old = files.client()
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with served(files) as client:
        with pytest.raises(OSError):  # noqa: PT011 - an alert, or an end
            await status(client, old)


async def test_a_client_shows_a_certificate_where_an_authority_is_given(files: Files) -> None:
    authority, other = tls.authority(), tls.authority()
    ours = files.write("ours.pem", tls.certificate(authority, "lambda"))
    theirs = files.write("theirs.pem", tls.certificate(other, "lambda"))
    async with served(files, files.write("ca.pem", authority.pem)) as client:
        assert await status(client, files.client(ours)) == 401
        for certificate in (None, theirs):
            with pytest.raises((OSError, IndexError)):
                await status(client, files.client(certificate))
        await eventually(lambda: client.metric("verifier_handshakes_failed_total"))


async def test_certificate_and_secret_are_both_demanded(files: Files) -> None:
    """Where both are configured."""
    authority = tls.authority()
    ours = files.write("ours.pem", tls.certificate(authority, "lambda"))
    caller = {"name": "lambda", "secret_file": str(files.write("secret", b"0123456789abcdef"))}
    async with served(files, files.write("ca.pem", authority.pem), callers=[caller]) as client:
        assert await status(client, files.client(ours)) == 403
        shown = REQUEST.replace(b"Host", b"X-Verifier-Secret: 0123456789abcdef\r\nHost")
        assert await status(client, files.client(ours), shown) == 401


async def test_a_body_larger_than_what_one_read_brings_arrives_whole(files: Files) -> None:
    body = json.dumps({"token": "x" * 200_000}).encode()
    head = f"POST /verify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    request = f"{head}Content-Type: application/json\r\n\r\n".encode() + body
    async with served(files) as client:
        assert await status(client, files.client(), request) == 401


def on_both_loops(test: Callable[[Files], Any]) -> Any:
    """They have TLS of their own each."""

    @pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
    def run(files: Files, loop: Any) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(test(files))

    return run


@on_both_loops
async def test_a_handshake_that_is_not_finished_in_time_is_ended(files: Files) -> None:
    loop = asyncio.get_running_loop()
    async with served(files, limits={"read_timeout": "300ms"}) as client, stalls() as seen:
        for beginning in (b"", b"\x16\x03\x01\x02\x00"):
            began = loop.time()
            async with connection(client) as (reader, writer):
                writer.write(beginning)
                with suppress(ConnectionError):
                    assert await reader.read() == b""
            assert 0.25 <= loop.time() - began <= 0.4 + seen.slack
        assert await client.metric("verifier_handshakes_failed_total") == 2
        assert await status(client, files.client()) == 401


@on_both_loops
async def test_handshakes_count_as_connections(files: Files) -> None:
    async with (
        served(files, limits={"connections": 2, "read_timeout": "30s"}) as client,
        connection(client) as (_, first),
        connection(client),
    ):

        async def are_open(expected: float) -> bool:
            return await client.metric("verifier_connections") == expected

        await eventually(lambda: are_open(2))
        assert await cut_off(client)
        assert await client.metric("verifier_connections_refused_total") == 1
        first.close()
        await eventually(lambda: are_open(1))
        assert await status(client, files.client()) == 401


@on_both_loops
async def test_as_many_connections_as_are_permitted_can_be_used_at_once(files: Files) -> None:
    async with (
        served(files, limits={"connections": 2}) as client,
        connection(client, files.client()) as (one, to_one),
        connection(client, files.client()) as (other, to_other),
    ):
        for reader, writer in ((one, to_one), (other, to_other)):
            writer.write(REQUEST)
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")


@on_both_loops
async def test_a_service_that_stops_waits_for_no_handshake(files: Files) -> None:
    loop = asyncio.get_running_loop()
    async with served(files, stop_timeout="5s") as client:
        host, _, port = client.service.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await eventually(lambda: client.metric("verifier_connections"))
        began = loop.time()
    assert loop.time() - began < 2
    with suppress(ConnectionError):
        async with asyncio.timeout(1):
            assert await reader.read() == b""
    writer.close()


async def test_a_request_in_progress_is_answered_when_the_service_stops(files: Files) -> None:
    head = "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    async with AsyncExitStack() as stack:
        async with served(files) as client:
            reader, writer = await stack.enter_async_context(connection(client, files.client()))
            writer.write(f"{head}{{".encode())
            await asyncio.sleep(0.05)
            asyncio.get_running_loop().call_later(0.1, writer.write, b"}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")


async def test_a_new_certificate_is_shown_without_a_restart(files: Files) -> None:
    async with served(files) as client:

        async def name() -> str:
            async with connection(client, files.client(check_hostname=False)) as (_, writer):
                return str(writer.get_extra_info("peercert")["subject"][0][0][1])

        assert await name() == HOST
        files.pair.write_bytes(b"half of it")
        await eventually(lambda: [line for line in client.log() if line["event"] == "file_unusable"])
        assert await name() == HOST
        files.renew("renewed")

        async def is_new() -> bool:
            return await name() == "renewed"

        await eventually(is_new)


async def ends(client: Client, name: str) -> float:
    return await client.metric("verifier_certificate_expiry_timestamp_seconds", certificate=name)


async def test_when_certificates_end_is_told_and_renewed_with_them(files: Files) -> None:
    """Of several, the earliest."""
    day, now = 86_400, time.time()
    old, short = tls.authority(), tls.certificate(files.authority, HOST, days=3)
    files.pair.write_bytes(tls.certificate(files.authority, HOST, days=9) + short)
    ca = files.write("ca.pem", files.authority.pem + old.pem)
    async with served(files, ca) as client:
        assert await ends(client, "tls") == pytest.approx(now + 3 * day, abs=60)
        assert await ends(client, "tls_client_ca") == pytest.approx(now + day, abs=60)
        files.pair.write_bytes(tls.certificate(files.authority, HOST, days=5))

        async def is_new() -> bool:
            return await ends(client, "tls") > now + 4 * day

        await eventually(is_new)


async def test_without_tls_no_certificate_ends(files: Files) -> None:
    issuer = {"name": "main", "issuer": "https://issuer.example/", "audiences": [AUD]}
    async with serve(settings({**issuer, "jwks_file": str(files.folder / "jwks.json")})) as client:
        text = (await client.ops("/metrics")).text
    assert "verifier_certificate_expiry_timestamp_seconds{" not in text
    assert "verifier_file_usable{" not in text


def test_when_certificates_end_that_cannot_be_read_nobody_knows() -> None:
    assert math.isnan(earliest_end(b"no certificate"))


async def test_whether_what_a_file_holds_is_in_use_is_told(files: Files) -> None:
    async with served(files) as client:

        async def usable() -> float:
            return await client.metric("verifier_file_usable", file="tls")

        async def unusable() -> bool:
            return await usable() == 0

        assert await usable() == 1
        good = files.pair.read_bytes()
        files.pair.write_bytes(b"half of it")
        await eventually(unusable)
        files.pair.write_bytes(good)
        await eventually(usable)


async def test_every_address_of_a_host_is_served_and_a_port_that_is_taken_is_told(files: Files) -> None:
    async with served(files, listen="localhost:0") as client:
        assert await status(client, files.client()) == 401
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            async with served(files, listen=client.service.address):
                pass
