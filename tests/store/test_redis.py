"""Redis in each of its forms, and in each of its bad moods."""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest

from tests import tls
from tests.redis_servers import Line, RedisServer, command, line_to, redis_cluster, redis_sentinels, redis_server
from tests.support import eventually, stalls
from verifier.core.sealing import ENTROPY_BYTES, Sealer
from verifier.ports import Forbidden, Unreachable
from verifier.store.clients import connect
from verifier.store.redis import RedisStore
from verifier.store.servers import RedisServers, parse

KEY = secrets.token_bytes(32)
TIMEOUT = 0.2


@dataclass
class Seen:
    """What the store tells."""

    commands: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    breaker: list[bool] = field(default_factory=list)
    dropped: int = 0

    def redis_took(self, command: str, seconds: float) -> None:
        self.commands.append(command)

    def redis_failed(self, command: str, error: Exception, seconds: float) -> None:
        self.errors.append(type(error).__name__)

    def redis_breaker(self, *, is_open: bool, cause: str = "") -> None:
        self.breaker.append(is_open)

    def entry_refused(self, cause: str) -> None:
        self.refused.append(cause)

    def write_dropped(self) -> None:
        self.dropped += 1


@asynccontextmanager
async def store_at(
    servers: RedisServers | str,
    *,
    keys: tuple[bytes, ...] = (KEY,),
    seen: Seen | None = None,
    limit: float = TIMEOUT,
    connections: int = 4,
    ca_file: str | None = None,
) -> AsyncIterator[RedisStore]:
    made = RedisStore(
        connect(
            parse(servers) if isinstance(servers, str) else servers,
            timeout=limit,
            connections=connections,
            ca_file=ca_file,
        ),
        sealer=Sealer(keys),
        prefix="verifier",
        timeout=limit,
        connections=connections,
        observer=seen or Seen(),
    )
    try:
        yield made
    finally:
        await made.stop()


async def attempted(work: Coroutine[Any, Any, Any]) -> Any:
    """What it came to, or None where Redis cannot be reached."""
    with suppress(Unreachable):
        return await work
    return None


async def _keeps(store: RedisStore) -> None:
    """Whatever it is used for works with ``store``."""
    names = [f"entry:{number}" for number in range(50)]
    for name in names:
        store.put(name, name.encode(), 60.0)
    await eventually(lambda: _has(store, names[-1]))
    assert await asyncio.gather(*map(store.get, names)) == [name.encode() for name in names]
    assert await store.get("another") is None
    assert [await store.claim("turn", b"", 60.0) for _ in range(2)] == [True, False]
    store.drop("turn")
    await eventually(lambda: store.claim("turn", b"", 60.0))
    positions = await store.append("log", [(b"one", time() + 60), (b"two", time() + 60)])
    assert [entry.content for entry in await store.read("log", "0-0", 10)] == [b"one", b"two"]
    assert (await store.log_state("log")).last == positions[1]
    await store.remove("log", positions[:1])
    assert (await store.log_state("log")).length == 1


async def _has(store: RedisStore, name: str) -> bool:
    return await attempted(store.get(name)) is not None


async def test_one_server_is_enough(redis: RedisServer) -> None:
    async with store_at(redis.url) as store:
        await _keeps(store)


async def test_a_server_can_be_reached_by_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(path)):
        async with store_at(f"unix://{path}") as store:
            await _keeps(store)


async def test_a_user_of_the_access_control_lists_is_enough(redis: RedisServer) -> None:
    """With the permissions that the documentation names, and no others."""
    with redis.admin() as admin:
        commands = ("set", "mget", "del", "exists", "xadd", "xread", "xdel", "xinfo")
        permitted = [f"+{name}" for name in commands]
        command(admin, "ACL", "SETUSER", "verifier", "reset", "on", ">s:cr@t", "~verifier:*", *permitted)
        try:
            async with store_at(f"redis://verifier:s%3Acr%40t@127.0.0.1:{redis.port}") as store:
                await _keeps(store)
        finally:
            command(admin, "ACL", "DELUSER", "verifier")


async def test_a_cluster_shares_the_work() -> None:
    with redis_cluster() as nodes:
        url = f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"
        async with store_at(url, limit=1.0) as store:
            await _keeps(store)
            sizes = []
            for node in nodes:
                with node.admin() as admin:
                    sizes.append(admin.dbsize())
    assert all(sizes)


async def test_a_failover_costs_misses_and_no_more() -> None:
    with redis_sentinels() as watched:
        async with store_at(watched.url, limit=0.5) as store:
            await _keeps(store)
            watched.primary.stop()
            assert await attempted(store.get("entry:0")) is None
            await eventually(lambda: _comes_back(store), within=30.0)


async def _comes_back(store: RedisStore) -> bool:
    store.put("again", b"again", 60.0)
    return await _has(store, "again")


def tls_of(certificate: Path) -> ssl.SSLContext:
    """For a port in front of the server: not every build of Redis has TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def authority() -> tls.Authority:
    return tls.authority()


@pytest.fixture
def ca_file(authority: tls.Authority, tmp_path: Path) -> str:
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return str(tmp_path / "ca.pem")


async def test_tls_is_spoken_where_the_address_says_so(
    redis: RedisServer, authority: tls.Authority, ca_file: str, tmp_path: Path
) -> None:
    (tmp_path / "server.pem").write_bytes(tls.certificate(authority, "localhost"))
    async with (
        line_to(redis, tls_of(tmp_path / "server.pem")) as line,
        store_at(f"rediss://localhost:{line.port}", ca_file=ca_file, limit=1.0) as store,
    ):
        await _keeps(store)


@pytest.mark.parametrize("flaw", ["another name", "another authority", "over"])
async def test_a_server_that_is_not_the_one_meant_is_not_spoken_to(
    flaw: str, redis: RedisServer, authority: tls.Authority, ca_file: str, tmp_path: Path
) -> None:
    signer = tls.authority() if flaw == "another authority" else authority
    name = "another.example" if flaw == "another name" else "localhost"
    days = -0.001 if flaw == "over" else 1
    (tmp_path / "server.pem").write_bytes(tls.certificate(signer, name, days))
    seen = Seen()
    async with (
        line_to(redis, tls_of(tmp_path / "server.pem")) as line,
        store_at(f"rediss://localhost:{line.port}", ca_file=ca_file, seen=seen, limit=1.0) as store,
    ):
        with pytest.raises(Unreachable):
            await store.get("entry")
    assert seen.commands == []


async def test_what_is_asked_for_in_one_turn_travels_together(redis: RedisServer) -> None:
    seen = Seen()
    async with store_at(redis.url, seen=seen) as store:
        await asyncio.gather(*(store.get(f"entry:{number % 40}") for number in range(80)))
    assert seen.commands == ["mget"]


async def test_what_is_written_in_one_turn_travels_together(redis: RedisServer) -> None:
    seen = Seen()
    async with store_at(redis.url, seen=seen) as store:
        for number in range(80):
            store.put(f"entry:{number}", b"", 60.0)
    assert seen.commands == ["write"]


async def test_what_was_written_before_the_end_is_there(redis: RedisServer) -> None:
    async with store_at(redis.url) as store:
        store.put("entry", b"content", 60.0)
    async with store_at(redis.url) as store:
        assert await store.get("entry") == b"content"


async def test_writes_beyond_the_bound_are_dropped_and_counted(redis: RedisServer) -> None:
    seen = Seen()
    async with store_at(redis.url, seen=seen) as store:
        for number in range(4_100):
            store.put(f"entry:{number}", b"", 60.0)
    assert seen.dropped == 4


async def test_an_entry_ends_with_its_time(redis: RedisServer) -> None:
    async with store_at(redis.url) as store:
        store.put("entry", b"content", 0.3)
        await eventually(lambda: _has(store, "entry"))
        with redis.admin() as admin:
            assert 0 < int(str(admin.pttl("verifier:entry"))) <= 300


async def test_nothing_is_written_that_is_over_already(redis: RedisServer) -> None:
    seen = Seen()
    async with store_at(redis.url, seen=seen) as store:
        store.put("entry", b"content", 0.0)
    assert seen.commands == []


def sealed(place: str, content: bytes, expires_at: float, key: bytes = KEY) -> bytes:
    return Sealer([key]).seal(place, content, expires_at, secrets.token_bytes(ENTROPY_BYTES))


PLACE = "verifier:entry"
LIES: dict[str, tuple[Callable[[], bytes], str]] = {
    "forged": (lambda: _flipped(sealed(PLACE, b"content", time() + 60)), "forged"),
    "truncated": (lambda: sealed(PLACE, b"content", time() + 60)[:-1], "forged"),
    "cut to its head": (lambda: sealed(PLACE, b"content", time() + 60)[:20], "format"),
    "swapped": (lambda: sealed("verifier:other", b"content", time() + 60), "forged"),
    "replayed": (lambda: sealed(PLACE, b"content", time() - 1), "expired"),
    "of another key": (lambda: sealed(PLACE, b"content", time() + 60, secrets.token_bytes(32)), "other_key"),
    "empty": (lambda: b"", "format"),
    "in the clear": (lambda: b'{"denied": null}', "format"),
    "of another format": (lambda: b"\x02" + sealed(PLACE, b"content", time() + 60)[1:], "format"),
}


def _flipped(entry: bytes) -> bytes:
    return entry[:-1] + bytes([entry[-1] ^ 1])


@pytest.mark.parametrize("lie", LIES)
async def test_an_entry_that_is_not_ours_is_a_miss(lie: str, redis: RedisServer) -> None:
    make, cause = LIES[lie]
    seen = Seen()
    with redis.admin() as admin:
        admin.set(PLACE, make())
    async with store_at(redis.url, seen=seen) as store:
        assert await store.get("entry") is None
    assert seen.refused == [cause]


async def test_an_entry_of_the_key_before_is_read(redis: RedisServer) -> None:
    with redis.admin() as admin:
        admin.set(PLACE, sealed(PLACE, b"content", time() + 60))
    async with store_at(redis.url, keys=(secrets.token_bytes(32), KEY)) as store:
        assert await store.get("entry") == b"content"


async def test_an_entry_of_another_type_is_a_miss_and_no_outage(redis: RedisServer) -> None:
    """MGET answers nothing for it."""
    seen = Seen()
    with redis.admin() as admin:
        admin.lpush(PLACE, "x")
        admin.set("verifier:log", "x")
    async with store_at(redis.url, seen=seen) as store:
        assert await store.get("entry") is None
        for _ in range(10):
            with pytest.raises(Unreachable):
                await store.read("log", "0-0", 10)
        assert not store.breaker_is_open


@dataclass(frozen=True)
class Mood:
    """A Redis that refuses: what makes it so, and whether it is sick, or only says no to one command."""

    command: str
    error: str
    is_sick: bool


MOODS = {
    "full": Mood("CONFIG SET maxmemory 1", "OutOfMemoryError", is_sick=False),
    "read-only": Mood("REPLICAOF 127.0.0.1 1", "ReadOnlyError", is_sick=False),
    "without permission": Mood("ACL SETUSER default -set", "NoPermissionError", is_sick=False),
    "with a password": Mood("CONFIG SET requirepass x", "AuthenticationError", is_sick=True),
}


@pytest.mark.parametrize("name", MOODS)
async def test_a_redis_that_refuses_is_done_without(name: str) -> None:
    mood, seen = MOODS[name], Seen()
    with redis_server() as server:
        with server.admin() as admin:
            command(admin, *mood.command.split())
        async with store_at(server.url, seen=seen) as store:
            assert [await attempted(store.claim("turn", b"", 60.0)) for _ in range(5)] == [None] * 5
            assert store.breaker_is_open is mood.is_sick
    assert mood.error in seen.errors


async def test_what_is_not_permitted_is_told_from_what_does_not_work() -> None:
    with redis_server() as server:
        with server.admin() as admin:
            command(admin, "ACL", "SETUSER", "default", "-xread")
        async with store_at(server.url) as store:
            with pytest.raises(Forbidden):
                await store.read("log", "0-0", 1)


async def test_a_redis_that_takes_no_writes_is_read() -> None:
    with redis_server() as server:
        async with store_at(server.url) as store:
            store.put("entry", b"content", 60.0)
            await eventually(lambda: _has(store, "entry"))
            with server.admin() as admin:
                command(admin, "REPLICAOF", "127.0.0.1", "1")
            for _ in range(5):
                await attempted(store.claim("turn", b"", 60.0))
            assert await store.get("entry") == b"content"


async def test_a_redis_that_is_loading_is_not_asked_until_it_has() -> None:
    with redis_server() as server:
        with server.admin() as admin:
            admin.mset({f"verifier:{number}": secrets.token_bytes(4_096) for number in range(6_000)})
            admin.save()
        server.stop()
        server.launch("--key-load-delay", "300")  # microseconds
        seen = Seen()
        async with store_at(server.url, seen=seen, limit=0.5) as store:
            await eventually(lambda: _has_failed(store, seen, "BusyLoadingError"))
            await eventually(lambda: attempted(store.claim("turn", b"", 60.0)), within=20.0)
        assert seen.breaker == [True, False]


async def _has_failed(store: RedisStore, seen: Seen, error: str) -> bool:
    await attempted(store.get("entry"))
    return error in seen.errors and store.breaker_is_open


FAULTS: dict[str, Callable[[Line], Any]] = {
    "refused": lambda line: line.cut(),
    "silent": lambda line: line.open.clear(),
    "200 ms away": lambda line: setattr(line, "delay", 0.2),
}


@pytest.mark.parametrize("connected", [True, False], ids=["while connected", "at first"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_nobody_waits_longer_than_twice_the_limit(fault: str, connected: bool, redis: RedisServer) -> None:
    waits: list[float] = []
    async with line_to(redis) as line, store_at(line.url, limit=0.1, connections=2) as store:
        if connected:
            await attempted(store.get("entry"))
        await _break(line, fault)

        async def ask(number: int) -> None:
            await asyncio.sleep(number / 100)
            began = monotonic()
            assert await attempted(store.get(f"entry:{number}")) is None
            waits.append(monotonic() - began)

        async with stalls() as seen:
            await asyncio.gather(*map(ask, range(60)))
    assert len(waits) == 60
    assert max(waits) <= 0.2 + seen.slack


async def _break(line: Line, fault: str) -> None:
    broken = FAULTS[fault](line)
    if asyncio.iscoroutine(broken):
        await broken


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_sick_redis_is_asked_by_a_probe_alone_and_again_when_it_is_well(fault: str, redis: RedisServer) -> None:
    seen = Seen()
    async with line_to(redis) as line, store_at(line.url, limit=0.1, seen=seen) as store:
        await _break(line, fault)
        await eventually(lambda: _is_given_up(store))
        errors = len(seen.errors)
        for _ in range(100):
            await attempted(store.get("entry"))
        assert len(seen.errors) - errors <= 1  # the probe's
        line.delay = 0.0
        line.open.set()
        await line.cut()
        await line.mend()
        await eventually(lambda: not store.breaker_is_open)
        await _keeps(store)
    assert seen.breaker == [True, False]


async def _is_given_up(store: RedisStore) -> bool:
    await attempted(store.get("entry"))
    return store.breaker_is_open


async def test_a_server_that_was_stopped_is_not_waited_for() -> None:
    with redis_server() as server:
        async with store_at(server.url, limit=0.1) as store:
            store.put("entry", b"content", 60.0)
            await eventually(lambda: _has(store, "entry"))
            server.pause()
            async with stalls() as seen:
                began = monotonic()
                assert await attempted(store.get("entry")) is None
                assert monotonic() - began <= 0.2 + seen.slack
            server.resume()
            await eventually(lambda: _has(store, "entry"))


async def test_those_who_hang_up_leave_no_reply_for_others(redis: RedisServer) -> None:
    """Cancelled in the middle of a look-up, hundreds of times, over few connections."""
    async with line_to(redis) as line, store_at(line.url, limit=1.0, connections=2) as store:
        names = [f"entry:{number}" for number in range(300)]
        for name in names:
            store.put(name, name.encode(), 60.0)
        await eventually(lambda: _has(store, names[-1]))
        line.delay = 0.002
        wrong: list[str] = []

        async def ask(number: int) -> None:
            await asyncio.sleep(number % 50 / 1_000)
            content = await attempted(store.get(names[number]))
            if content not in (names[number].encode(), None):
                wrong.append(names[number])

        asking = [asyncio.create_task(ask(number)) for number in range(300)]
        for number in range(0, 300, 2):
            await asyncio.sleep(0.0005)
            asking[number].cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        line.delay = 0.0
        assert wrong == []
        assert await asyncio.gather(*map(store.get, names)) == [name.encode() for name in names]


async def test_stopping_does_not_wait_for_a_redis_that_is_silent(redis: RedisServer) -> None:
    async with line_to(redis) as line:
        began = monotonic()
        async with store_at(line.url, limit=0.1) as store:
            line.open.clear()
            store.put("entry", b"content", 60.0)
            await _is_given_up(store)
        assert monotonic() - began < 2.0
