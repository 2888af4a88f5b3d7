"""Several processes that are one service."""

import asyncio
import json
import os
import secrets
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests import tls
from tests.app.processes import a_worker, children, lives, program, supervised
from tests.grpc_check import check, check_request
from tests.observability.test_metrics import long_delays
from tests.redis_servers import RedisServer
from tests.support import ADMIN_TOKEN, AUD, Client, FakeIssuer, eventually, free_port
from verifier.app import supervisor, workers

BARE = b"GET /verify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the workers of a supervisor in this process are told, and give up, sooner."""
    monkeypatch.setattr(workers, "OBEY", 0.5)
    monkeypatch.setattr(workers, "ANSWER_WITHIN", 0.3)
    monkeypatch.setattr(workers, "POLL", 0.1)
    monkeypatch.setattr(workers, "HASTY", 0.1)
    monkeypatch.setattr(workers, "LONGEST_PAUSE", 0.5)


@pytest.fixture
def several(issuer: FakeIssuer, admin_token_file: Path) -> dict[str, Any]:
    """The configuration of two workers."""
    return {
        "workers": 2,
        "listen": "127.0.0.1:0",
        "ops": {"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)},
        "issuers": [{"name": "main", "issuer": issuer.url, "audiences": [AUD]}],
        "stop_timeout": "5s",
        "drain_delay": "0s",
    }


async def replaced(client: Client, times: int = 1) -> None:
    """Wait until that many workers took the place of another."""
    await eventually(lambda: client.log_stream.getvalue().count('"worker_started"') == 2 + times, within=20)


# What each answers, and what they answer together


async def test_all_of_them_answer_and_each_line_says_whose_it_is(several: dict[str, Any], tmp_path: Path) -> None:
    async with program({**several, "grpc": {"listen": "127.0.0.1:0"}}, tmp_path) as made:
        port = made.events("serving")[0]["grpc"]

        async def all_answer() -> bool:
            assert set(await asyncio.gather(*(asked(asyncio.open_connection(*made.place)) for _ in range(8)))) == {401}
            await check(port, check_request("GET", "a", "/"))
            seen = {(line["surface"], line["worker"]) for line in made.events("deny")}
            return seen == {(surface, worker) for surface in ("verify", "ext_authz_grpc") for worker in (1, 2)}

        await eventually(all_answer)
    assert made.process.returncode == 0
    assert "Traceback" not in made.text


async def asked(connecting: Any) -> int:
    """The status that a connection of its own gets."""
    reader, writer = await connecting
    writer.write(BARE)
    answer = await reader.read()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return int(answer.split()[1])


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> list[workers.Workers]:
    """Those that supervisors in this process have started."""
    made: list[workers.Workers] = []

    def recorded(*arguments: Any) -> workers.Workers:
        made.append(workers.Workers(*arguments))
        return made[-1]

    monkeypatch.setattr(supervisor, "Workers", recorded)
    return made


def decisions(made: workers.Workers) -> list[float]:
    """How many each worker has reported."""
    families = ([*worker.last.families] for worker in made.serving())
    return [sum(s.value for one in said if one.name == "verifier_decisions" for s in one.samples) for said in families]


async def counted(client: Client, number: int) -> None:
    """Wait until ``/metrics`` shows so many decisions: a worker that is late with its report counts as it last was."""

    async def is_counted() -> bool:
        return await client.metric("verifier_decisions_total") == number

    await eventually(is_counted)


async def all_have_decided(made: workers.Workers, asking: Callable[[], Any]) -> bool:
    assert set(await asyncio.gather(*(asked(asking()) for _ in range(8)))) == {401}
    await made.refresh()
    return all(decisions(made))


async def test_all_of_them_answer_on_a_unix_socket(
    several: dict[str, Any],
    sets: list[workers.Workers],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever lies in the folder that the service was started in."""
    path = tmp_path_factory.mktemp("s") / "v.sock"
    path.with_name("aiohttp.py").write_text("raise SystemExit('another program')")
    monkeypatch.chdir(path.parent)
    async with supervised({**several, "listen": f"unix:{path}"}):
        await eventually(partial(all_have_decided, sets[0], lambda: asyncio.open_unix_connection(str(path))))
    assert not path.exists()


async def test_all_of_them_answer_over_tls(
    several: dict[str, Any], sets: list[workers.Workers], tmp_path: Path
) -> None:
    authority = tls.authority()
    pair = tmp_path / "pair.pem"
    pair.write_bytes(tls.certificate(authority, "localhost"))
    context = ssl.create_default_context(cadata=authority.pem.decode())
    several["tls"] = {"certificate_file": str(pair), "key_file": str(pair)}
    async with supervised(several) as client:
        host, _, port = client.service.address.rpartition(":")

        def connecting() -> Any:
            return asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")

        await eventually(partial(all_have_decided, sets[0], connecting))


def sockets_of(pid: int) -> set[int]:
    found = set()
    for place in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(place.stat().st_ino)
    return found


async def test_one_page_shows_all_of_them(
    several: dict[str, Any], sets: list[workers.Workers], issuer: FakeIssuer
) -> None:
    async with supervised(several) as client:

        async def each_has_denied() -> bool:
            await client.verify("no token")
            await sets[0].refresh()
            ready = (await client.ops("/readyz")).status == 200
            return ready and all(worker.last.noted.denials for worker in sets[0].serving())

        await eventually(each_has_denied)
        found = (await client.ops("/status.json")).json
        assert (found["service"]["workers"], found["issuers"][0]["standing"]) == (2, "fresh")
        assert found["refusals"][0]["count"] == found["decisions"]["denied"] == len(found["recent"])
        shown = await client.ops("/status")
        assert "2 workers" in shown.text
        os.kill(a_worker(), signal.SIGTERM)
        await replaced(client)
        assert len((await client.ops("/status.json")).json["recent"]) == len(found["recent"])


async def test_one_of_them_explains_a_token_and_no_log_has_it(several: dict[str, Any], issuer: FakeIssuer) -> None:
    async with supervised(several) as client:

        async def all_have_keys() -> bool:
            return (await client.ops("/readyz")).status == 200

        await eventually(all_have_keys)
        token = issuer.token("EdDSA", exp=1)
        form = {"admin": ADMIN_TOKEN, "token": token}
        shown = await client.ops("/status/explain", "POST", data=form)
        assert "expired" in shown.text
        assert token not in shown.text
        bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        told = await client.ops("/status/explain.json", "POST", json={"token": issuer.token("EdDSA")}, headers=bearer)
        assert told.json["allowed"] is True
        assert (await client.ops("/status/explain", "POST", data={**form, "admin": "wrong"})).status == 401
        assert [part for part in token.split(".") if part in client.log_stream.getvalue()] == []


async def test_they_are_counted_together_and_one_that_is_told_to_stop_loses_nothing(
    several: dict[str, Any], sets: list[workers.Workers], issuer: FakeIssuer
) -> None:
    """And each of them has its own queue and no other, or connections would wait there when it is told to stop."""
    async with supervised(several) as client:
        queues = {os.fstat(one.fileno()).st_ino for share in sets[0]._bound.shares for one in share}
        assert [len(sockets_of(pid) & queues) for pid in children(os.getpid())] == [1, 1]
        assert {(await client.verify(issuer.token("EdDSA"))).status for _ in range(10)} == {200}
        await eventually(lambda: sum(decisions(sets[0])) == 10)  # also where nobody asks for metrics
        assert await client.metric("verifier_decisions_total", outcome="allow") == 10
        assert await client.metric("verifier_decision_seconds_count") == 10
        assert await client.metric("verifier_workers") == 2
        assert await client.metric("verifier_build_info") == 1
        assert await client.metric("verifier_ready") == 1
        assert await client.metric("verifier_cache_capacity") == 2 * 110_000
        assert await client.metric("verifier_event_loop_delay_seconds_count") > 0
        ready = await client.ops("/readyz")
        assert (ready.status, ready.json["issuers"]["main"]["usable_keys"]) == (200, 1)
        assert (await client.ops("/healthz")).json == {"status": "alive"}
        for _ in range(10):
            await client.verify(issuer.token("EdDSA"))
        os.kill(a_worker(), signal.SIGTERM)
        await replaced(client)
        await counted(client, 20)
        assert await client.metric("verifier_worker_restarts_total") == 1
        (died,) = [line for line in client.log() if line["event"] == "worker_died"]
        assert died["status"] == 0


async def test_their_traces_are_the_exemplars_of_all(several: dict[str, Any]) -> None:
    """The newest of each bucket, also where another worker has an older one."""
    async with supervised(several) as client:
        traces = [secrets.token_hex(16) for _ in range(20)]
        for trace in traces:
            await client.verify("x", traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")
        await counted(client, 20)
        found = [sample for sample in await client.open_metrics() if sample.exemplar is not None]
    kept = [sample.exemplar.labels["trace_id"] for sample in found if sample.exemplar is not None]
    assert traces[-1] in kept
    assert {*kept} <= {*traces}
    assert len({sample.labels["le"] for sample in found}) == len(found)


async def test_a_supervisor_that_stands_still_is_seen(several: dict[str, Any]) -> None:
    """It is on the loop of this test."""
    async with supervised(several) as client:
        before = await long_delays(client)  # workers are late when they start
        time.sleep(0.5)  # noqa: ASYNC251 - that is the point

        async def is_seen() -> bool:
            return await long_delays(client) > before

        await eventually(is_seen)


# Starts that fail


@pytest.mark.parametrize("port", ["listen", "grpc.listen", "ops.listen"])
async def test_a_port_that_is_taken_is_an_error_and_not_half_of_the_traffic(port: str, several: dict[str, Any]) -> None:
    """By somebody who would share it."""
    with socket.create_server(("127.0.0.1", free_port()), reuse_port=True) as somebody:
        address = f"127.0.0.1:{somebody.getsockname()[1]}"
        section, _, key = port.rpartition(".")
        several.update({section: {key: address}} if section else {key: address})
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            async with supervised(several):
                pass


async def test_what_keeps_the_workers_from_starting_is_told_as_by_one_process(
    several: dict[str, Any], tmp_path: Path
) -> None:
    several["callers"] = [{"name": "a", "secret_file": str(tmp_path / "missing")}]
    async with program(several, tmp_path) as made:
        assert await made.process.wait() == 2
    assert "callers[0].secret_file" in made.text
    assert "Traceback" not in made.text


async def test_a_worker_that_dies_before_it_serves_ends_the_start(
    several: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(workers.WorkerFailed, match="exit code 1"):
        async with supervised(several):
            pass


# Deaths


async def test_a_worker_that_is_killed_under_load_is_replaced_and_its_counts_are_kept(
    several: dict[str, Any], issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA")
    refused: list[BaseException] = []
    cut_off: list[BaseException] = []
    seen, ready = [0.0], set()
    async with supervised(several) as client:

        async def load() -> None:
            while True:
                try:
                    assert (await client.verify(token)).status == 200
                except aiohttp.ClientConnectorError as error:
                    refused.append(error)
                except (aiohttp.ClientError, ConnectionError) as error:
                    cut_off.append(error)

        async def watch() -> None:
            while True:
                seen.append(await client.metric("verifier_decisions_total", outcome="allow"))
                ready.add((await client.ops("/readyz")).status)

        tasks = [asyncio.create_task(work()) for work in (load, load, load, load, watch)]
        await eventually(lambda: seen[-1] > 20)
        os.kill(a_worker(), signal.SIGKILL)
        await replaced(client)
        counted = seen[-1]
        await eventually(lambda: seen[-1] > counted + 20)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ended} == {asyncio.CancelledError}
        assert await client.metric("verifier_worker_restarts_total") == 1
    assert refused == []
    assert len(cut_off) <= 4
    assert seen == sorted(seen)
    assert ready == {200}
    (died,) = [line for line in client.log() if line["event"] == "worker_died"]
    assert (died["status"], died["detail"]) == (-signal.SIGKILL, "SIGKILL")


async def test_one_that_cannot_be_replaced_is_tried_again_and_nobody_waits_for_it(
    several: dict[str, Any], sets: list[workers.Workers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    several.update(callers=[{"name": "a", "secret_file": str(secret)}], callers_exempt=["127.0.0.0/8"])
    async with supervised(several) as client:

        def lines(event: str) -> list[str]:
            return [line["detail"] for line in client.log() if line["event"] == event]

        secret.unlink()
        with monkeypatch.context() as without_program:
            without_program.setattr(sys, "executable", str(tmp_path / "nothing"))
            os.kill(a_worker(), signal.SIGKILL)
            await eventually(lambda: lines("worker_missing"))
        await eventually(lambda: len(lines("worker_died")) == 2, within=20)
        async with asyncio.timeout(5):
            assert {(await client.verify()).status for _ in range(16)} == {401}
        assert (await client.ops("/readyz")).status == 200
        assert await client.metric("verifier_workers") == 1
        secret.write_text("0123456789abcdef")
        await replaced(client)
        host, _, port = client.service.address.rpartition(":")
        await eventually(partial(all_have_decided, sets[0], lambda: asyncio.open_connection(host, int(port))))
    assert lines("worker_died")[0] == "SIGKILL"
    assert lines("worker_died")[1].startswith("callers[0].secret_file: cannot read")
    assert lines("worker_waits")[0] == "it is replaced in 0.5 s"


async def test_a_worker_that_hangs_counts_as_it_last_was_until_it_cannot_be_told_of_a_revocation(
    several: dict[str, Any], issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA", sub="bob")
    async with supervised(several) as client:
        for _ in range(20):
            await client.verify(token)
        await counted(client, 20)
        hanging = a_worker()
        os.kill(hanging, signal.SIGSTOP)
        assert await client.metric("verifier_decisions_total") == 20
        assert await client.metric("verifier_workers") == 2
        assert (await client.ops("/readyz")).status == 200
        assert (await client.admin("POST", json={"issuer": "main", "sub": "bob"})).status == 201
        assert not lives(hanging)
        await replaced(client)
        assert await reasons(client, token) == {"revoked"}


async def test_a_worker_that_does_not_answer_is_replaced(
    several: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "HUNG", 0.5)
    monkeypatch.setattr(workers, "POLL", 0.1)
    async with supervised(several) as client:
        hanging = a_worker()
        os.kill(hanging, signal.SIGSTOP)
        await replaced(client)
        assert not lives(hanging)
        (line,) = [line for line in client.log() if line["event"] == "worker_killed"]
        assert line["pid"] == hanging


# Signals


async def test_the_set_ends_when_what_it_has_begun_is_done(
    several: dict[str, Any], tmp_path: Path, issuer: FakeIssuer
) -> None:
    """Also where everybody hears the key that is pressed."""
    async with program(several, tmp_path) as made:
        found = children(made.process.pid)
        body = json.dumps({"token": issuer.token("EdDSA")}).encode()
        head = f"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        begun = [await asyncio.open_connection(*made.place) for _ in range(8)]
        for reader, writer in begun:
            writer.write(head.encode() + b"Expect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        os.killpg(made.process.pid, signal.SIGINT)
        await eventually(lambda: _is_refused(made.place))
        for _, writer in begun:
            writer.write(body)
        assert {(await reader.read()).split()[1] for reader, _ in begun} == {b"200"}
        for _, writer in begun:
            writer.close()
        assert await made.process.wait() == 0
    assert len(found) == 2
    assert not any(map(lives, found))
    assert "Traceback" not in made.text
    assert made.events("worker_died") == []


def _is_refused(place: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(place) != 0


async def test_nothing_outlives_a_supervisor_that_is_killed(several: dict[str, Any], tmp_path: Path) -> None:
    async with program(several, tmp_path) as made:
        found = children(made.process.pid)
        made.process.kill()
        await eventually(lambda: not any(map(lives, found)), within=10)
    assert len(found) == 2
    assert "Traceback" not in made.text


async def test_a_worker_that_does_not_end_is_killed(several: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MARGIN", 1.0)
    async with supervised({**several, "stop_timeout": "100ms"}) as client:
        hanging = a_worker()
        os.kill(hanging, signal.SIGSTOP)
    assert not lives(hanging)
    assert "it did not end in time" in {line["detail"] for line in client.log() if line["event"] == "worker_killed"}


# Revocations


async def reasons(client: Client, token: str) -> set[str | None]:
    """What all workers say, with as many connections as it takes that each is asked."""
    return {reply.reason for reply in await asyncio.gather(*(client.verify(token) for _ in range(24)))}


async def test_a_revocation_holds_for_all_at_once_and_for_those_that_come_later(
    several: dict[str, Any], issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA", sub="bob")
    async with supervised(several) as client:
        assert await reasons(client, token) == {None}
        made = await client.admin("POST", json={"issuer": "main", "sub": "bob"})
        assert (made.status, await reasons(client, token)) == (201, {"revoked"})
        assert await client.metric("verifier_revocations") == 1
        for times in (1, 2):  # the second time, the one that was started last
            os.kill(max(children(os.getpid())), signal.SIGKILL)
            await replaced(client, times)
            assert await reasons(client, token) == {"revoked"}
            await asyncio.sleep(2 * workers.HASTY)
        assert "worker_waits" not in client.log_stream.getvalue()
        assert [one["id"] for one in (await client.admin("GET")).json["revocations"]] == [made.json["id"]]
        assert (await client.admin("DELETE", f"/{made.json['id']}")).status == 204
        assert await reasons(client, token) == {None}
        assert (await client.admin("DELETE", f"/{made.json['id']}")).status == 404


async def test_with_redis_each_follows_the_list(
    several: dict[str, Any], issuer: FakeIssuer, redis: RedisServer, key_file: Path
) -> None:
    several["redis"] = {"url": redis.url, "key_file": str(key_file), "timeout": "500ms"}
    token = issuer.token("EdDSA", sub="bob")
    async with supervised(several) as client:
        made = (await client.admin("POST", json={"issuer": "main", "sub": "bob"})).json
        assert made["shared"] is True
        await eventually(partial(_all_say, client, token, "revoked"))
    assert issuer.key_fetches == 1


async def _all_say(client: Client, token: str, reason: str) -> bool:
    return await reasons(client, token) == {reason}
