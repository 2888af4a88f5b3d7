"""From SIGTERM to the end."""

import asyncio
import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.app.processes import Program, program
from tests.grpc_check import address, ask
from tests.support import AUD, Client, FakeIssuer, eventually, serve, settings

KEPT = b"GET /verify HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def config(request: pytest.FixtureRequest, issuer: FakeIssuer) -> dict[str, Any]:
    return {
        "workers": request.param,
        "listen": "127.0.0.1:0",
        "ops": {"listen": "127.0.0.1:0"},
        "issuers": [{"name": "main", "issuer": issuer.url, "audiences": [AUD]}],
        "drain_delay": "10m",
    }


async def asked(made: Program, path: str) -> tuple[int, Any, str]:
    """Status, body and ``Connection`` of an answer of the ops port."""
    url = f"http://{made.events('serving')[0]['ops']}{path}"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status, await answer.json(), answer.headers.get("Connection", "")


async def answer_to(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head


async def test_it_is_not_ready_and_goes_on_answering_until_connections_have_moved(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """New connections as well as those that are open, each of which ends with its next answer."""
    async with program(config, tmp_path) as made:
        await eventually(lambda: _is_ready(made))
        kept = await asyncio.open_connection(*made.place)
        assert b"Connection: close" not in await answer_to(*kept, KEPT)
        made.process.send_signal(signal.SIGTERM)
        await eventually(lambda: made.events("draining"))
        status, body, _ = await asked(made, "/readyz")
        assert (status, body["ready"], body["draining"]) == (503, False, True)
        assert (await asked(made, "/healthz"))[0] == 200
        new = await asyncio.open_connection(*made.place)
        for reader, writer in (kept, new):
            head = await answer_to(reader, writer, KEPT)
            assert head.startswith(b"HTTP/1.1 401 ")
            assert b"\r\nConnection: close\r\n" in head
            assert await reader.read() == b""
            writer.close()
        made.process.send_signal(signal.SIGTERM)  # the second one: enough of waiting
        assert await made.process.wait() == 0
    assert "Traceback" not in made.text


async def _is_ready(made: Program) -> bool:
    return (await asked(made, "/readyz"))[0] == 200


async def test_it_ends_by_itself_when_the_delay_is_over(config: dict[str, Any], tmp_path: Path) -> None:
    async with program({**config, "drain_delay": "200ms"}, tmp_path) as made:
        made.process.send_signal(signal.SIGTERM)
        assert await made.process.wait() == 0
        with socket.socket() as probe:
            assert probe.connect_ex(made.place) != 0
    assert [line["event"] for line in made.lines if line["event"] in {"draining", "stopping"}] == [
        "draining",
        "stopping",
    ]


async def test_whoever_presses_a_key_does_not_want_to_wait(config: dict[str, Any], tmp_path: Path) -> None:
    async with program(config, tmp_path) as made:
        made.process.send_signal(signal.SIGINT)
        assert await made.process.wait() == 0


async def test_sighup_has_the_configuration_read_again(config: dict[str, Any], tmp_path: Path) -> None:
    async with program({**config, "drain_delay": "0s"}, tmp_path) as made:
        (tmp_path / "verifier.json").write_text(json.dumps({**config, "drain_delay": "1ms"}))
        made.process.send_signal(signal.SIGHUP)
        await eventually(lambda: made.events("config_applied"))
        assert made.events("config_applied")[0]["changed"] == ["drain_delay"]


# What is under way


def hanging(issuer: FakeIssuer) -> None:
    """The issuer does not answer any more."""

    async def never(_: aiohttp.web.Request) -> aiohttp.web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    issuer.fault = never


async def test_what_does_not_end_is_cut_off_when_its_time_is_over_and_not_later(issuer: FakeIssuer) -> None:
    """aiohttp would wait twice as long."""
    hanging(issuer)
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    made = settings(main, stop_timeout="1500ms", keys={"deadline": "60s"})
    async with aiohttp.ClientSession() as http:
        async with serve(made) as client:
            url, token = client.url, issuer.token("EdDSA")
            asking = asyncio.create_task(_status(http, url, token))
            await eventually(lambda: client.metric("verifier_connections"))
            await asyncio.sleep(0.2)
            began = time.monotonic()
        assert time.monotonic() - began < 2.9
        assert await asking is None


async def _status(http: aiohttp.ClientSession, url: str, token: str) -> int | None:
    try:
        async with http.get(f"{url}/verify", headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status
    except aiohttp.ClientError:
        return None


@pytest.fixture
async def over_grpc(issuer: FakeIssuer) -> Any:
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with serve(settings(main, grpc={"listen": "127.0.0.1:0"}, drain_delay="0s", stop_timeout="60s")) as client:
        await eventually(lambda: client.metric("verifier_key_set_keys"))
        yield client


async def test_grpc_says_so_too_and_goes_on_answering(over_grpc: Client, issuer: FakeIssuer) -> None:
    await over_grpc.service.drain()
    async with grpc.aio.insecure_channel(address(over_grpc)) as channel:

        async def is_serving() -> bool:
            told = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            return bool(told.status == health_pb2.HealthCheckResponse.NOT_SERVING)

        await eventually(is_serving)
    assert (await ask(over_grpc, issuer.token("EdDSA"))).status.code == 0


async def test_a_call_that_is_under_way_over_grpc_is_answered(issuer: FakeIssuer) -> None:
    goes_on = asyncio.Event()

    async def waits(_: aiohttp.web.Request) -> aiohttp.web.Response:
        await goes_on.wait()
        return aiohttp.web.json_response({"keys": [key.as_dict(private=False) for key in issuer.keys]})

    issuer.fault = waits
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD], "jwks_uri": f"{issuer.url}/jwks"}
    async with serve(settings(main, grpc={"listen": "127.0.0.1:0"})) as client:
        asking = asyncio.create_task(ask(client, issuer.token("EdDSA")))
        await eventually(lambda: client.metric("verifier_requests_in_flight"))
        asyncio.get_running_loop().call_later(0.5, goes_on.set)
    assert (await asking).status.code == 0


async def test_whoever_watches_the_health_of_grpc_does_not_hold_up_the_end(issuer: FakeIssuer) -> None:
    """For as long as requests may take."""
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with asyncio.timeout(20):
        async with serve(settings(main, grpc={"listen": "127.0.0.1:0"}, stop_timeout="600s")) as client:
            channel = grpc.aio.insecure_channel(address(client))
            watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert await watching.read() is not grpc.aio.EOF
        watching.cancel()
        await channel.close()
