"""A Unix socket instead of an address, and the sockets of several workers."""

import asyncio
import json
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from tests.support import AUD, FakeIssuer, eventually, serve, settings
from verifier.server import listening
from verifier.server.handshake import Handshakes
from verifier.server.http import HttpServer
from verifier.server.listening import Bound, bind, reserve


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short enough for a socket."""
    return tmp_path_factory.mktemp("s") / "v.sock"


@pytest.fixture
async def http(place: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place))) as made:
        yield made


def mode_of(place: Path) -> int | None:
    """None where there is nothing."""
    return stat.S_IMODE(place.stat().st_mode) if place.exists() else None


def at(place: Path, issuer: FakeIssuer, **changes: Any) -> Any:
    return settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, listen=f"unix:{place}", **changes)


async def test_a_gateway_can_ask_through_a_unix_socket(
    place: Path, issuer: FakeIssuer, http: aiohttp.ClientSession
) -> None:
    """And is trusted there, whatever the networks that are."""
    made = at(place, issuer, routes=[{"path": "/public", "anonymous": True}], trusted_proxies=["10.0.0.0/8"])
    async with serve(made) as client:
        assert client.service.address == f"unix:{place}"
        headers = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": "a", "X-Forwarded-Uri": "/public"}
        async with http.get("http://verifier/forward-auth", headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o660), ("0600", 0o600), ("666", 0o666)])
async def test_the_socket_has_its_mode(mode: str | None, expected: int, place: Path, issuer: FakeIssuer) -> None:
    changes = {} if mode is None else {"socket_mode": mode}
    async with serve(at(place, issuer, **changes)):
        assert mode_of(place) == expected


async def test_the_socket_is_gone_with_its_service(place: Path, issuer: FakeIssuer) -> None:
    async with serve(at(place, issuer)):
        assert mode_of(place) is not None
    assert mode_of(place) is None


async def test_a_socket_that_was_left_behind_is_replaced(place: Path, issuer: FakeIssuer) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))
    async with serve(at(place, issuer)) as client:
        assert client.service.address == f"unix:{place}"


async def test_a_socket_that_somebody_serves_is_left_alone(place: Path, issuer: FakeIssuer) -> None:
    async with serve(at(place, issuer)):
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            async with serve(at(place, issuer)):
                pass
        assert mode_of(place) is not None


async def test_a_file_in_the_way_is_left_alone(place: Path, issuer: FakeIssuer) -> None:
    await asyncio.to_thread(place.write_text, "somebody's")
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        async with serve(at(place, issuer)):
            pass
    assert await asyncio.to_thread(place.read_text) == "somebody's"


# Sockets of several workers


async def accepted(bound: Bound, share: int, connections: int = 1) -> int:
    """How many of those who connect are given to a share."""
    host, _, port = bound.address.rpartition(":")
    with ExitStack() as clients:
        for _ in range(connections):
            clients.enter_context(socket.create_connection((host, int(port)), timeout=5))
        taken = 0
        with suppress(BlockingIOError):
            while True:
                connected, _ = bound.shares[share][0].accept()
                connected.close()
                taken += 1
        return taken


async def test_connections_are_dealt_out_among_the_shares() -> None:
    bound = await bind("127.0.0.1:0", 0, 2)
    assert 0 < await accepted(bound, 0, 64) < 64
    bound.close()


async def test_a_share_whose_queue_is_closed_is_passed_over_until_somebody_listens_there() -> None:
    bound = await bind("127.0.0.1:0", 0, 2)
    bound.close_queue(0)
    assert await accepted(bound, 1, 32) == 32
    bound.shares[0][0].listen()
    assert await accepted(bound, 0, 64) > 0
    bound.close()


async def test_a_queue_that_was_closed_twice_takes_connections_that_can_be_read() -> None:
    bound = await bind("127.0.0.1:0", 0, 2)
    for share in (0, 1, 1):
        bound.close_queue(share)
    bound.shares[1][0].listen()
    host, _, port = bound.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        connected, _ = bound.shares[1][0].accept()
        with connected:
            connected.setblocking(False)
            with pytest.raises(BlockingIOError):  # nothing came, but it is not at its end
                connected.recv(1)
    bound.close()


async def test_a_queue_that_was_closed_is_open_again_where_tls_is_served() -> None:
    bound = await bind("127.0.0.1:0", 0, 2)
    bound.close_queue(0)
    came = asyncio.Event()
    handshakes = Handshakes(ssl.create_default_context, 1.0, lambda: False, came.set, lambda: None)
    close = listening._accept_tls(cast("HttpServer", None), handshakes, bound.shares[0])
    host, _, port = bound.address.rpartition(":")

    async def given() -> bool:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        return came.is_set()

    await eventually(given)
    await close()
    bound.close()


async def test_the_queue_of_a_unix_socket_is_that_of_all(place: Path) -> None:
    bound = await bind(f"unix:{place}", 0o600, 2)
    bound.close_queue(0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
    bound.close()
    assert mode_of(place) is None


@pytest.mark.parametrize("listen", [":0", "localhost:0"])
@pytest.mark.parametrize("workers", [1, 3])
async def test_all_addresses_and_shares_have_one_port(listen: str, workers: int) -> None:
    bound = await bind(listen, 0, workers)
    assert len(bound.shares) == workers
    sockets = [one for share in bound.shares for one in share]
    assert len({one.fileno() for one in sockets}) == len(sockets)
    assert {one.getsockname()[1] for one in sockets} == {int(bound.address.rpartition(":")[2])}
    bound.close()


async def test_a_port_that_is_reserved_is_for_those_who_share_it() -> None:
    async with reserve("127.0.0.1:0") as address:
        port = int(address.removeprefix("127.0.0.1:"))
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            socket.create_server(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port), reuse_port=True):
            pass


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", None),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", TRACE),
        ("eyJhbGciOiJSUzI1NiJ9.e30.AA", None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
    ],
)
async def test_a_denial_is_logged_with_its_trace(header: str, expected: str | None, issuer: FakeIssuer) -> None:
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        await client.get("/verify", traceparent=header)
        await eventually(lambda: [line for line in client.log() if line.get("reason")])
        (line,) = [line for line in client.log() if line.get("reason")]
        assert line.get("trace_id") == expected
        assert "eyJ" not in json.dumps(line)


async def test_connections_of_the_last_one_that_linger_are_no_obstacle_to_several_workers() -> None:
    """The side that closed first keeps the address of each for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as last:
        address = last.getsockname()
        with socket.create_connection(address) as client:
            accepted, _ = last.accept()
            accepted.close()
            assert client.recv(1) == b""
    bound = await bind(f"127.0.0.1:{address[1]}", 0o600, workers=2)
    bound.close()
