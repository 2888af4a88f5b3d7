"""Redis failing, lying or slow, under load: nobody is wrongly allowed, nobody is refused, nobody waits long.

The figures of each fault: wrong allows (0), answers that a healthy Redis would not have led to (0), and the longest
that a request took, which Redis may be the cause of for at most twice its limit.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest
from redis.exceptions import RedisError

from tests.redis_servers import Line, RedisServer, command, line_to, redis_sentinels, redis_server
from tests.support import AUD, Client, FakeIssuer, eventually, opaque_issuer, private_key, serve, settings, stalls

LIMIT = 0.25
"""What a request may wait for Redis, in seconds."""

LOAD = 1.5
"""Seconds of load with the fault."""


@dataclass
class Load:
    """Requests of every kind to one service, and what became of them."""

    client: Client
    issuer: FakeIssuer
    sent: int = 0
    wrong_allows: list[str] = field(default_factory=list)
    refused: list[tuple[str, int, str | None]] = field(default_factory=list)
    longest: float = 0.0
    slack: float = 0.0

    async def run(self, seconds: float) -> None:
        end = monotonic() + seconds
        async with stalls() as seen:
            await asyncio.gather(*(self._send(end, which) for which in range(6)))
        self.slack = seen.slack

    async def _send(self, end: float, which: int) -> None:
        stranger = private_key("EdDSA", "k1", 9)
        while monotonic() < end:
            self.sent += 1
            name = f"{which}-{self.sent}"
            await self._ask(self.issuer.token("EdDSA", jti=name), {200})
            await self._ask(self.issuer.opaque(f"opaque-{name}", iss="https://asked.example"), {200})
            await self._ask(self.issuer.token("EdDSA", stranger, jti=name), {401})
            await self._ask(f"made-up-{name}", {401})

    async def _ask(self, token: str, expected: set[int]) -> None:
        began = monotonic()
        reply = await self.client.verify(token)
        self.longest = max(self.longest, monotonic() - began)
        if reply.status in expected:
            return
        if reply.status == 200:
            self.wrong_allows.append(token)
        else:
            self.refused.append((token[:20], reply.status, reply.reason))


@asynccontextmanager
async def loaded(url: str, issuer: FakeIssuer, key_file: Path, secret_file: Path) -> AsyncIterator[Load]:
    """A service that shares whatever it can, and that has its keys."""
    made = settings(
        {"name": "main", "issuer": issuer.url, "audiences": [AUD]},
        opaque_issuer("asked", f"{issuer.url}/introspect", secret_file),
        cache={"share": "always"},
        redis={"url": url, "key_file": str(key_file), "timeout": f"{round(LIMIT * 1000)}ms"},
    )
    async with serve(made) as client:
        await eventually(lambda: _allows(client, issuer))
        yield Load(client, issuer)


async def _allows(client: Client, issuer: FakeIssuer) -> bool:
    return (await client.verify(issuer.token("EdDSA"))).status == 200


@dataclass
class Place:
    """A Redis of the test's own, and the line to it."""

    server: RedisServer
    line: Line

    async def order(self, *parts: Any) -> None:
        """Have the server do something, whoever it is good for."""
        with suppress(RedisError, OSError), self.server.admin() as admin:
            await asyncio.to_thread(command, admin, *parts)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    with redis_server() as server:
        async with line_to(server) as line:
            yield Place(server, line)


async def _slow(place: Place) -> None:
    place.line.delay = 0.2


async def _silent(place: Place) -> None:
    place.line.open.clear()


async def _killed(place: Place) -> None:
    place.server.stop()


async def _stopped(place: Place) -> None:
    place.server.pause()


async def _unsteady(place: Place) -> None:
    while True:
        await place.line.cut()
        await asyncio.sleep(0.1)
        await place.line.mend()
        await asyncio.sleep(0.1)


async def _emptied(place: Place) -> None:
    while True:
        await place.order("FLUSHALL")
        await asyncio.sleep(0.005)


async def _lying(place: Place) -> None:
    """Key sets and identities are changed: to noise, or to what is stored elsewhere."""
    with place.server.admin() as admin:
        while True:
            names: Any = await asyncio.to_thread(admin.keys, "verifier:*")
            texts = [name for name in names if b":identity:" in name or b":keys:" in name]
            for name, other in zip(texts, texts[1:] + texts[:1], strict=True):
                content: Any = admin.get(other)
                admin.set(name, content if secrets.randbelow(2) else secrets.token_bytes(100))
                await asyncio.sleep(0)
            await asyncio.sleep(0.005)


async def _of_other_types(place: Place) -> None:
    with place.server.admin() as admin:
        while True:
            names: Any = await asyncio.to_thread(admin.keys, "verifier:*")
            for name in names:
                admin.delete(name)
                admin.lpush(name, "x")
                await asyncio.sleep(0)
            await asyncio.sleep(0.005)


def _ordered(*parts: str) -> Callable[[Place], Coroutine[Any, Any, None]]:
    return lambda place: place.order(*parts)


FAULTS: dict[str, Callable[[Place], Coroutine[Any, Any, None]]] = {
    "none": _ordered("PING"),
    "killed": _killed,
    "stopped": _stopped,
    "silent": _silent,
    "200 ms away": _slow,
    "cut off again and again": _unsteady,
    "emptied again and again": _emptied,
    "lying": _lying,
    "keys of other types": _of_other_types,
    "full": _ordered("CONFIG", "SET", "maxmemory", "1"),
    "read-only": _ordered("REPLICAOF", "127.0.0.1", "1"),
    "without permission": _ordered("ACL", "SETUSER", "default", "-@all", "+ping"),
    "another password": _ordered("CONFIG", "SET", "requirepass", "x"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_sick_redis_changes_no_answer(
    fault: str,
    place: Place,
    issuer: FakeIssuer,
    key_file: Path,
    secret_file: Path,
    record_property: Callable[[str, object], None],
) -> None:
    async with loaded(place.line.url, issuer, key_file, secret_file) as load:
        breaking = asyncio.create_task(FAULTS[fault](place))
        await load.run(LOAD)
        breaking.cancel()
        with suppress(asyncio.CancelledError):
            await breaking
    record_property("requests", 4 * load.sent)
    record_property("longest wait in ms", round(load.longest * 1000))
    assert (load.wrong_allows, load.refused) == ([], [])
    assert load.sent > 10
    assert load.longest <= 2 * LIMIT + load.slack


async def test_a_failover_changes_no_answer(issuer: FakeIssuer, key_file: Path, secret_file: Path) -> None:
    with redis_sentinels() as watched:
        async with loaded(watched.url, issuer, key_file, secret_file) as load:
            running = asyncio.create_task(load.run(6.0))
            await asyncio.sleep(0.5)
            watched.primary.stop()
            await running
            await eventually(lambda: _is_used(load.client), within=20.0)
    assert (load.wrong_allows, load.refused) == ([], [])
    assert load.longest <= 2 * LIMIT + load.slack


async def _is_used(client: Client) -> bool:
    """Redis is asked, and answers."""
    before = await client.metric("verifier_redis_seconds_count", command="mget")
    await client.verify(f"made-up-{secrets.token_hex()}")
    return await client.metric("verifier_redis_seconds_count", command="mget") > before


async def test_clients_that_hang_up_during_a_look_up_change_no_answer(
    place: Place, issuer: FakeIssuer, key_file: Path, secret_file: Path
) -> None:
    async with loaded(place.line.url, issuer, key_file, secret_file) as load:
        place.line.delay = 0.02
        hanging_up = asyncio.create_task(_hang_up(load))
        await load.run(LOAD)
        await hanging_up
        assert not [line for line in load.client.log() if line["event"] == "defect"]
    assert (load.wrong_allows, load.refused) == ([], [])


async def _hang_up(load: Load) -> None:
    """Ask, and go before the answer, fifty times; about each token twice."""
    asked = hung_up = 0
    async with aiohttp.ClientSession() as http:
        while hung_up < 50:
            headers = {"Authorization": f"Bearer {load.issuer.opaque(f'gone-{asked // 2}')}"}
            asked += 1
            try:
                async with asyncio.timeout(0.01), http.get(f"{load.client.url}/verify", headers=headers):
                    pass
            except TimeoutError:
                hung_up += 1


async def test_a_password_that_was_replaced_is_read_again_from_its_file(
    place: Place, issuer: FakeIssuer, key_file: Path, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("the first one\n")
    await place.order("CONFIG", "SET", "requirepass", "the first one")
    redis = {"url": place.line.url, "password_file": str(password), "key_file": str(key_file)}
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with serve(settings(main, redis=redis, cache={"share": "always"})) as client:

        async def is_open(expected: bool) -> bool:
            await client.verify(issuer.token("EdDSA", jti=secrets.token_hex()))
            return await client.metric("verifier_redis_breaker_open") == expected

        await client.verify(issuer.token("EdDSA"))
        assert await client.metric("verifier_redis_seconds_count", command="mget") > 0
        with place.server.admin(password="the first one") as admin:
            admin.config_set("requirepass", "the second one")
            admin.client_kill_filter(_type="normal", skipme=True)
        await eventually(lambda: is_open(True), within=10)
        password.write_text("the second one\n")
        await eventually(lambda: is_open(False), within=10)
