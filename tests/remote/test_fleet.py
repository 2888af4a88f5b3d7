"""Keys that one replica fetches for all, through a real Redis; each replica has a connection of its own."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pytest
from aiohttp import web

from tests.redis_servers import Line, RedisServer, line_to
from tests.support import FakeIssuer, eventually, private_key, public_jwk
from verifier.core import keys
from verifier.core.keys import KeySet
from verifier.core.sealing import Sealer
from verifier.ports import SourceUnavailable
from verifier.remote import fleet, key_source
from verifier.remote.fleet import RETRY_WITHOUT_KEYS, FleetOrigin
from verifier.remote.http import Access, HttpClient, open_session
from verifier.remote.key_source import Freshness, RefreshingKeys
from verifier.remote.origins import Fetched, JwksUri
from verifier.remote.origins import Origin as AnyOrigin
from verifier.store.clients import connect
from verifier.store.redis import RedisStore
from verifier.store.servers import parse

NAME = "main"
SET, CLAIM = f"test:keys:{NAME}", f"test:fetch:{NAME}"
FRESHNESS = Freshness(refresh=600.0, max_stale=3600.0, cooldown=10.0, deadline=5.0)
BRIEF = replace(FRESHNESS, cooldown=0.1)
"""With a cooldown that a test can wait for."""

REDIS_TIMEOUT = 0.5
TAKES = 0.1
DOWN = SourceUnavailable("down", 3.0)


def fetched(*which: int) -> Fetched:
    """What an issuer with these keys answers."""
    document = {"keys": [public_jwk(private_key("EdDSA", f"k{n}", n)) for n in which]}
    return Fetched(keys.load_jwks(document), document=json.dumps(document).encode())


@dataclass
class Origin:
    """The issuer, as all replicas see it. ``takes`` is in seconds; ``gate`` holds its answers back."""

    upcoming: Fetched | BaseException
    takes: float = 0.02
    fetches: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def fetch(self, previous: Fetched | None) -> Fetched:
        self.fetches += 1
        await self.gate.wait()
        await asyncio.sleep(self.takes)
        if isinstance(self.upcoming, BaseException):
            raise self.upcoming
        return self.upcoming

    async def last_known(self) -> Fetched | None:
        raise AssertionError("what is known is in Redis")


@dataclass
class Seen:
    """What a store or a key source tells."""

    refused: list[str] = field(default_factory=list)

    def redis_took(self, command: str, seconds: float) -> None: ...

    def redis_failed(self, command: str, error: Exception, seconds: float) -> None: ...

    def redis_breaker(self, *, is_open: bool, cause: str = "") -> None: ...

    def entry_refused(self, cause: str) -> None:
        self.refused.append(cause)

    def write_dropped(self) -> None: ...

    def keys_fetched(self, issuer: str, keys: KeySet, *, changed: bool, shared: bool) -> None: ...

    def keys_failed(self, issuer: str, detail: str, *, usable: bool) -> None: ...

    def changed(self, issuer: str, keys: KeySet) -> None: ...


class Replica(FleetOrigin):
    """Waits for its own writes, so that the test knows what Redis holds."""

    store: RedisStore

    async def fetch(self, previous: Fetched | None) -> Fetched:
        try:
            return await super().fetch(previous)
        finally:
            await eventually(lambda: self.store.breaker_is_open or not (self.store._writes or self.store._tasks))

    async def put(self, name: str, content: bytes) -> None:
        """Store what the code under test would not."""
        self.store.put(name, content, 60.0)
        await eventually(lambda: not (self.store._writes or self.store._tasks))


class Replicas(Protocol):
    """Makes one more replica."""

    def __call__(
        self,
        origin: AnyOrigin,
        freshness: Freshness = FRESHNESS,
        *,
        name: str = NAME,
        url: str | None = None,
        key: bytes | None = None,
    ) -> Replica: ...


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def fleet_key(key_file: Path) -> bytes:
    return base64.b64decode(key_file.read_bytes())


@pytest.fixture
async def replica(redis: RedisServer, fleet_key: bytes, seen: Seen) -> AsyncIterator[Replicas]:
    stores: list[RedisStore] = []

    def make(
        origin: AnyOrigin,
        freshness: Freshness = FRESHNESS,
        *,
        name: str = NAME,
        url: str | None = None,
        key: bytes | None = None,
    ) -> Replica:
        client = connect(parse(url or redis.url), timeout=REDIS_TIMEOUT, connections=2)
        sealer = Sealer([key or fleet_key])
        store = RedisStore(client, sealer=sealer, prefix="test", timeout=REDIS_TIMEOUT, connections=2, observer=seen)
        stores.append(store)
        made = Replica(origin, store, name, freshness)
        made.store = store
        return made

    yield make
    for store in stores:
        await store.stop()


@pytest.fixture
async def line(redis: RedisServer) -> AsyncIterator[Line]:
    async with line_to(redis) as made:
        yield made


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks while another one's fetch, ``TAKES`` seconds long, ends; also on a busy machine."""
    monkeypatch.setattr(fleet, "LOOK_AGAIN", 3 * TAKES)


async def failure(origin: FleetOrigin, previous: Fetched | None = None) -> SourceUnavailable:
    with pytest.raises(SourceUnavailable) as raised:
        await origin.fetch(previous)
    return raised.value


def lasts(redis: RedisServer, place: str) -> float:
    """Seconds for which Redis keeps the entry."""
    with redis.admin() as admin:
        milliseconds: object = admin.pttl(place)
    assert isinstance(milliseconds, int)
    return milliseconds / 1000


def read(redis: RedisServer, place: str) -> bytes:
    with redis.admin() as admin:
        entry: object = admin.get(place)
    assert isinstance(entry, bytes)
    return entry


def plant(redis: RedisServer, place: str, entry: bytes) -> None:
    with redis.admin() as admin:
        admin.set(place, entry)


def forget(redis: RedisServer, place: str) -> None:
    with redis.admin() as admin:
        admin.delete(place)


# One for all.


async def test_of_replicas_that_need_keys_at_once_one_fetches(replica: Replicas, unhurried: None) -> None:
    origin = Origin(fetched(0), TAKES)
    found = await asyncio.gather(*(replica(origin).fetch(None) for _ in range(5)))
    assert origin.fetches == 1
    assert [answer.keys for answer in found] == [fetched(0).keys] * 5
    assert sorted(answer.shared for answer in found) == [False, True, True, True, True]


async def test_while_one_fetches_the_others_wait_for_what_it_finds(replica: Replicas, unhurried: None) -> None:
    slow, idle = Origin(fetched(0)), Origin(fetched(1))
    slow.gate.clear()
    first = asyncio.create_task(replica(slow).fetch(None))
    await eventually(lambda: slow.fetches)
    others = [asyncio.create_task(replica(idle).fetch(None)) for _ in range(3)]
    done, _ = await asyncio.wait(others, timeout=TAKES)
    assert not done
    slow.gate.set()
    await first
    assert [(await other).keys for other in others] == [fetched(0).keys] * 3
    assert idle.fetches == 0


async def test_a_replica_that_comes_later_reads_what_was_fetched(replica: Replicas) -> None:
    idle = Origin(DOWN)
    await replica(Origin(fetched(0))).fetch(None)
    assert (await replica(idle).fetch(None)).keys == fetched(0).keys
    assert idle.fetches == 0


async def test_with_a_set_comes_all_that_the_issuer_said_of_it(replica: Replicas) -> None:
    said = replace(fetched(0), etag='"v1"', max_age=90.0)
    first = await replica(Origin(said)).fetch(None)
    assert await replica(Origin(DOWN)).fetch(None) == replace(first, shared=True)


async def test_a_set_is_as_old_as_its_fetch(replica: Replicas) -> None:
    began = time.time()
    first = await replica(Origin(replace(fetched(0), fetched_at=1.0))).fetch(None)
    assert began <= first.fetched_at <= time.time()


async def test_a_set_without_keys_is_a_set_too(replica: Replicas) -> None:
    await replica(Origin(fetched())).fetch(None)
    assert (await replica(Origin(DOWN)).fetch(None)).keys == fetched().keys


async def test_a_replica_with_an_older_set_gets_the_newer_one_without_a_fetch(replica: Replicas) -> None:
    origin, idle = Origin(fetched(0)), Origin(DOWN)
    one, other = replica(origin, BRIEF), replica(idle, BRIEF)
    first = await one.fetch(None)
    known = await other.fetch(None)
    origin.upcoming = fetched(1)
    await asyncio.sleep(BRIEF.cooldown)
    await one.fetch(first)
    assert (await other.fetch(known)).keys == fetched(1).keys
    assert idle.fetches == 0


async def test_within_the_cooldown_nobody_fetches_again(replica: Replicas) -> None:
    origin = Origin(fetched(0))
    one, other = replica(origin), replica(origin)
    first = await one.fetch(None)
    known = await other.fetch(None)
    again = [await one.fetch(first), await other.fetch(known)]
    assert origin.fetches == 1
    assert {answer.fetched_at for answer in again} == {first.fetched_at}


async def test_after_a_fetch_the_claim_lasts_for_the_cooldown(replica: Replicas, redis: RedisServer) -> None:
    await replica(Origin(fetched(0))).fetch(None)
    assert FRESHNESS.cooldown - 1.0 < lasts(redis, CLAIM) <= FRESHNESS.cooldown


async def test_after_the_cooldown_one_fetches_for_all_again(replica: Replicas, unhurried: None) -> None:
    origin = Origin(fetched(0), TAKES)
    members = [replica(origin, BRIEF) for _ in range(3)]
    known = await asyncio.gather(*(member.fetch(None) for member in members))
    await asyncio.sleep(BRIEF.cooldown)
    await asyncio.gather(*(member.fetch(held) for member, held in zip(members, known, strict=True)))
    assert origin.fetches == 2


async def test_a_newcomer_does_not_begin_with_a_set_that_is_due(
    replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = Origin(fetched(0))
    await replica(origin).fetch(None)
    monkeypatch.setattr(fleet, "time", lambda: time.time() + FRESHNESS.refresh)
    origin.upcoming = fetched(1)
    assert (await replica(origin).fetch(None)).keys == fetched(1).keys


async def test_what_comes_without_a_document_is_fetched_by_each(replica: Replicas) -> None:
    origin = Origin(replace(fetched(0), document=None))
    found = [await replica(origin).fetch(None) for _ in range(3)]
    assert [answer.shared for answer in found] == [False] * 3


async def test_replicas_of_another_issuer_or_configuration_do_not_share(replica: Replicas) -> None:
    origin, other = Origin(fetched(0)), Origin(fetched(1))
    await replica(origin).fetch(None)
    assert (await replica(other, name="other").fetch(None)).keys == fetched(1).keys


async def test_a_condition_that_one_replica_was_given_serves_another(replica: Replicas, issuer: FakeIssuer) -> None:
    def answer(request: web.Request) -> web.Response:
        if "If-None-Match" in request.headers:
            return web.Response(status=304)
        return web.Response(body=fetched(0).document, headers={"ETag": '"v1"'})

    issuer.fault = answer
    async with open_session() as session:
        origin = JwksUri(HttpClient(session), f"{issuer.url}/jwks", Access())
        one, other = replica(origin, BRIEF), replica(origin, BRIEF)
        first = await one.fetch(None)
        known = await other.fetch(None)
        await asyncio.sleep(BRIEF.cooldown)
        renewed = await other.fetch(known)
        assert issuer.requests[1].headers["If-None-Match"] == '"v1"'
        assert (await one.fetch(first)).fetched_at == renewed.fetched_at > first.fetched_at
        assert len(issuer.requests) == 2


# When a fetch fails.


async def test_a_fetch_that_failed_is_not_tried_by_the_others_within_the_cooldown(replica: Replicas) -> None:
    origin, idle = Origin(DOWN), Origin(fetched(0))
    await failure(replica(origin), fetched(1))
    told = [await failure(replica(idle), previous) for previous in (None, fetched(1))]
    assert [(error.detail, error.retry_after) for error in told] == [("down", 3.0)] * 2
    assert idle.fetches == 0


async def test_a_fetch_that_failed_is_not_tried_by_the_same_one_either(replica: Replicas) -> None:
    origin = Origin(DOWN)
    one = replica(origin)
    await failure(one)
    await failure(one)
    assert origin.fetches == 1


async def test_those_who_wait_for_a_fetch_that_fails_are_told(replica: Replicas) -> None:
    origin = Origin(DOWN)
    origin.gate.clear()
    asked = [asyncio.create_task(failure(replica(origin))) for _ in range(4)]
    await eventually(lambda: origin.fetches)
    origin.gate.set()
    assert [(await error).detail for error in asked] == ["down"] * 4
    assert origin.fetches == 1


async def test_with_keys_in_hand_a_failure_counts_for_the_cooldown(replica: Replicas, redis: RedisServer) -> None:
    await failure(replica(Origin(DOWN)), fetched(0))
    assert FRESHNESS.cooldown - 1.0 < lasts(redis, CLAIM) <= FRESHNESS.cooldown


async def test_without_any_keys_a_failure_counts_for_a_second(replica: Replicas, redis: RedisServer) -> None:
    await failure(replica(Origin(DOWN)))
    assert 0.0 < lasts(redis, CLAIM) <= RETRY_WITHOUT_KEYS


async def test_without_any_keys_a_failure_counts_no_longer_than_the_cooldown(
    replica: Replicas, redis: RedisServer
) -> None:
    await failure(replica(Origin(DOWN), BRIEF))
    assert lasts(redis, CLAIM) <= BRIEF.cooldown


async def test_after_the_cooldown_of_a_failure_another_one_tries(replica: Replicas) -> None:
    known, second = fetched(0), Origin(fetched(1))
    await failure(replica(Origin(DOWN), BRIEF), known)
    await asyncio.sleep(BRIEF.cooldown)
    assert (await replica(second, BRIEF).fetch(known)).keys == fetched(1).keys


async def test_a_failure_takes_away_no_set_that_is_known(replica: Replicas) -> None:
    one = replica(Origin(fetched(0)), BRIEF)
    known = await one.fetch(None)
    await asyncio.sleep(BRIEF.cooldown)
    await failure(replica(Origin(DOWN), BRIEF), known)
    assert (await replica(Origin(DOWN), BRIEF).fetch(None)).keys == fetched(0).keys


async def test_a_defect_of_the_origin_settles_the_claim_too(replica: Replicas) -> None:
    with pytest.raises(ZeroDivisionError):
        await replica(Origin(ZeroDivisionError())).fetch(None)
    assert (await failure(replica(Origin(fetched(0))))).detail == "ZeroDivisionError"


async def test_a_fetch_that_ran_out_of_time_is_settled_at_once(replica: Replicas, redis: RedisServer) -> None:
    silent = Origin(fetched(0))
    silent.gate.clear()
    with pytest.raises(TimeoutError):
        await replica(silent, replace(FRESHNESS, deadline=0.05)).fetch(None)
    assert (await failure(replica(Origin(fetched(0))))).detail == "no answer in time"


# When a replica dies.


async def test_a_claim_lasts_a_second_longer_than_a_fetch_may_take(replica: Replicas, redis: RedisServer) -> None:
    dying = Origin(fetched(0))
    dying.gate.clear()
    task = asyncio.create_task(replica(dying).fetch(None))
    await eventually(lambda: dying.fetches)
    assert FRESHNESS.deadline < lasts(redis, CLAIM) <= FRESHNESS.deadline + 1.0
    task.cancel()


async def test_a_replica_that_died_during_its_fetch_holds_up_the_others_for_half_a_deadline(
    replica: Replicas, line: Line, unhurried: None
) -> None:
    brief = replace(FRESHNESS, deadline=2.0)
    dying, origin = Origin(fetched(0)), Origin(fetched(1), TAKES)
    dying.gate.clear()
    began = time.monotonic()
    task = asyncio.create_task(replica(dying, brief, url=line.url).fetch(None))
    await eventually(lambda: dying.fetches)
    await line.cut()  # it says nothing any more, not even that it ends
    task.cancel()
    found = await asyncio.gather(*(replica(origin, brief).fetch(None) for _ in range(3)))
    assert [answer.keys for answer in found] == [fetched(1).keys] * 3
    assert 1.0 < time.monotonic() - began < 2.0


async def test_a_claim_of_our_own_that_somebody_put_back_holds_up_nobody(replica: Replicas, redis: RedisServer) -> None:
    one, claim = replica(Origin(fetched(0)), replace(FRESHNESS, deadline=9.0)), b""

    async def look() -> None:
        nonlocal claim
        with redis.admin() as admin:
            while not claim:
                claim = bytes(admin.get(CLAIM) or b"")  # type: ignore[arg-type]
                await asyncio.sleep(0)

    await asyncio.gather(look(), one.fetch(None))
    with redis.admin() as admin:
        admin.flushall()
        admin.set(CLAIM, claim)
    async with asyncio.timeout(1.0):
        await one.fetch(None)


async def test_a_replica_that_is_stopped_during_its_fetch_lets_another_try(replica: Replicas) -> None:
    silent = Origin(fetched(0))
    silent.gate.clear()
    task = asyncio.create_task(replica(silent).fetch(None))
    await eventually(lambda: silent.fetches)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(1.0):
        assert (await replica(Origin(fetched(1))).fetch(None)).keys == fetched(1).keys


@pytest.mark.parametrize(
    "members",
    [
        {"document": 1},
        {"document": []},
        {"max_age": "x"},
        {"max_age": 10**400},
        {"fetched_at": "x"},
        {"fetched_at": None},
    ],
    ids=str,
)
async def test_a_set_of_another_form_is_ignored(members: dict[str, object], replica: Replicas) -> None:
    one = replica(Origin(fetched(0)))
    packed = {"document": '{"keys":[]}', "etag": None, "max_age": None, "fetched_at": 1}
    await one.put(f"keys:{NAME}", json.dumps({**packed, **members}).encode())
    assert await one.last_known() is None


@pytest.mark.parametrize(
    "claim",
    [
        b"{}",
        b"[]",
        b'{"state":"failed"}',
        b'{"state":"failed","detail":"","retry_after":null,"by":""}',
        b'{"state":"resting","detail":"","retry_after":1,"by":""}',
    ],
)
async def test_a_claim_of_another_form_holds_up_nobody(claim: bytes, replica: Replicas) -> None:
    one = replica(Origin(fetched(0)))
    await one.put(f"fetch:{NAME}", claim)
    async with asyncio.timeout(1.0):
        assert (await one.fetch(None)).keys == fetched(0).keys


class Between:
    """Lets something happen between the look for the set and the claim."""

    def __init__(self, store: RedisStore, happens: Callable[[], Awaitable[object]]) -> None:
        self._store = store
        self._happens: Callable[[], Awaitable[object]] | None = happens

    async def get(self, name: str) -> bytes | None:
        found = await self._store.get(name)
        happens, self._happens = self._happens, None
        if happens is not None:
            await happens()
        return found

    def put(self, name: str, content: bytes, seconds: float) -> None:
        self._store.put(name, content, seconds)

    def drop(self, name: str) -> None:
        self._store.drop(name)

    async def claim(self, name: str, content: bytes, seconds: float) -> bool:
        return await self._store.claim(name, content, seconds)


@pytest.mark.parametrize("known", [False, True], ids=["without keys", "with keys"])
async def test_a_set_that_came_while_we_looked_is_taken(known: bool, replica: Replicas) -> None:
    origin, idle = Origin(fetched(0)), Origin(fetched(0))
    one, other = replica(origin, BRIEF), replica(idle, BRIEF)
    previous = None
    if known:
        previous = await one.fetch(None)
        await asyncio.sleep(BRIEF.cooldown)
    origin.upcoming = fetched(0, 1)
    other._shared = Between(other.store, lambda: one.fetch(previous))
    assert (await FleetOrigin.fetch(other, previous)).keys == fetched(0, 1).keys
    assert idle.fetches == 0


async def test_a_shared_set_that_is_due_is_not_looked_for_again_and_again(
    replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An issuer with ``max-age=60``, a cooldown of two minutes, and a set from 70 seconds ago."""
    freshness = replace(FRESHNESS, cooldown=120.0)
    origin = Origin(replace(fetched(0), max_age=60.0))
    real = time.time
    monkeypatch.setattr(fleet, "time", lambda: real() - 70.0)
    await replica(origin, freshness).fetch(None)
    monkeypatch.setattr(fleet, "time", real)
    one = replica(origin, freshness)
    looks: list[bool] = []
    monkeypatch.setattr(one, "fetch", lambda previous: looks.append(True) or FleetOrigin.fetch(one, previous))  # type: ignore[func-returns-value]
    made = source(one, freshness)
    made.start()
    await asyncio.sleep(0.5)
    await made.stop()
    assert len(looks) <= 2


# What must not be believed.


@pytest.mark.parametrize("entry", [b"", b"\x00", b"\x01", b"{}", b"\x01" * 256])
async def test_a_set_that_somebody_else_wrote_is_ignored(entry: bytes, replica: Replicas, redis: RedisServer) -> None:
    plant(redis, SET, entry)
    one = replica(Origin(fetched(0)))
    assert await one.last_known() is None
    assert (await one.fetch(None)).keys == fetched(0).keys


async def test_a_set_in_the_clear_is_ignored(replica: Replicas, redis: RedisServer) -> None:
    evil = fetched(1)
    plant(redis, SET, fleet._pack(evil))
    assert (await replica(Origin(fetched(0))).fetch(None)).keys == fetched(0).keys


async def test_a_set_that_was_changed_is_ignored(replica: Replicas, redis: RedisServer, seen: Seen) -> None:
    await replica(Origin(fetched(1))).fetch(None)
    entry = read(redis, SET)
    plant(redis, SET, entry[:-1] + bytes([entry[-1] ^ 1]))
    assert await replica(Origin(DOWN)).last_known() is None
    assert seen.refused == ["forged"]


async def test_a_set_that_was_sealed_with_another_key_is_ignored(replica: Replicas, seen: Seen) -> None:
    await replica(Origin(fetched(1)), key=secrets.token_bytes(32)).fetch(None)
    assert (await replica(Origin(fetched(0))).fetch(None)).keys == fetched(0).keys
    assert "other_key" in seen.refused


async def test_a_set_of_another_issuer_that_was_moved_here_is_ignored(
    replica: Replicas, redis: RedisServer, seen: Seen
) -> None:
    await replica(Origin(fetched(1)), name="other").fetch(None)
    plant(redis, SET, read(redis, "test:keys:other"))
    assert (await replica(Origin(fetched(0))).fetch(None)).keys == fetched(0).keys
    assert seen.refused == ["forged"]


async def test_a_set_that_was_kept_back_beyond_its_time_is_ignored(
    replica: Replicas, redis: RedisServer, seen: Seen
) -> None:
    brief = replace(FRESHNESS, max_stale=0.05)
    await replica(Origin(fetched(1)), brief).fetch(None)
    entry = read(redis, SET)
    await asyncio.sleep(brief.max_stale)
    plant(redis, SET, entry)
    assert await replica(Origin(DOWN), brief).last_known() is None
    assert seen.refused == ["expired"]


async def test_an_older_set_that_was_put_back_is_not_taken_by_who_knows_a_newer_one(
    replica: Replicas, redis: RedisServer
) -> None:
    origin = Origin(fetched(1))
    one = replica(origin, BRIEF)
    first = await one.fetch(None)
    older = read(redis, SET)
    origin.upcoming = fetched(0)
    await asyncio.sleep(BRIEF.cooldown)
    second = await one.fetch(first)
    plant(redis, SET, older)
    assert (await one.fetch(second)).keys == fetched(0).keys


@pytest.mark.parametrize("entry", [b"", b'{"state":"failed","detail":"","retry_after":300}', b"\x01" * 64])
async def test_a_claim_that_somebody_else_wrote_keeps_nobody_from_fetching(
    entry: bytes, replica: Replicas, redis: RedisServer
) -> None:
    plant(redis, CLAIM, entry)
    assert (await replica(Origin(fetched(0))).fetch(None)).keys == fetched(0).keys


async def test_a_claim_of_another_issuer_that_was_moved_here_keeps_nobody_from_fetching(
    replica: Replicas, redis: RedisServer
) -> None:
    await failure(replica(Origin(DOWN), name="other"), fetched(0))
    plant(redis, CLAIM, read(redis, "test:fetch:other"))
    assert (await replica(Origin(fetched(0))).fetch(None)).keys == fetched(0).keys


async def test_a_claim_whose_end_was_taken_away_ends_all_the_same(replica: Replicas, redis: RedisServer) -> None:
    await failure(replica(Origin(DOWN), BRIEF), fetched(0))
    with redis.admin() as admin:
        admin.persist(CLAIM)
    await asyncio.sleep(BRIEF.cooldown)
    assert (await replica(Origin(fetched(0)), BRIEF).fetch(None)).keys == fetched(0).keys


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"document":"{}","etag":null,"max_age":null,"fetched_at":1}',
        b'{"document":"{\\"keys\\":[]}","etag":null,"max_age":null}',
        b'{"document":"{\\"keys\\":[]}","etag":null,"max_age":null,"fetched_at":null}',
        b'{"document":"{\\"keys\\":[]}","etag":null,"max_age":null,"fetched_at":"soon"}',
        b'{"document":"{\\"keys\\":[],\\"keys\\":[]}","etag":null,"max_age":null,"fetched_at":1}',
    ],
)
async def test_an_entry_of_ours_that_is_no_set_is_ignored(content: bytes, replica: Replicas) -> None:
    one = replica(Origin(fetched(0)))
    await one.put(f"keys:{NAME}", content)
    assert await one.last_known() is None


async def test_a_claim_of_ours_that_is_no_object_keeps_nobody_from_fetching(replica: Replicas) -> None:
    one = replica(Origin(fetched(0)))
    await one.put(f"fetch:{NAME}", b"[]")
    assert (await one.fetch(None)).keys == fetched(0).keys


async def test_where_the_set_was_lost_and_the_claim_was_not_it_is_fetched_again(
    replica: Replicas, redis: RedisServer
) -> None:
    origin = Origin(fetched(0))
    await replica(origin).fetch(None)
    forget(redis, SET)
    assert not (await replica(origin).fetch(None)).shared


# When Redis is away.


async def test_without_redis_each_fetches_for_itself(replica: Replicas, line: Line) -> None:
    await line.cut()
    origin = Origin(fetched(0))
    found = await asyncio.gather(*(replica(origin, url=line.url).fetch(None) for _ in range(3)))
    assert origin.fetches == 3
    assert [answer.shared for answer in found] == [False] * 3


async def test_without_redis_nothing_is_known_from_before(replica: Replicas, line: Line) -> None:
    await replica(Origin(fetched(0))).fetch(None)
    await line.cut()
    assert await replica(Origin(DOWN), url=line.url).last_known() is None


async def test_without_redis_a_failure_is_each_ones_own(replica: Replicas, line: Line) -> None:
    await line.cut()
    origin = Origin(DOWN)
    for _ in range(2):
        assert await failure(replica(origin, url=line.url)) is DOWN
    assert origin.fetches == 2


async def test_a_redis_that_says_nothing_delays_a_fetch_by_one_timeout(replica: Replicas, line: Line) -> None:
    line.open.clear()
    one = replica(Origin(fetched(0)), url=line.url)
    began = time.monotonic()
    assert (await FleetOrigin.fetch(one, None)).keys == fetched(0).keys
    assert time.monotonic() - began < 2 * REDIS_TIMEOUT


async def test_a_fetch_during_which_redis_went_away_is_a_fetch(replica: Replicas, line: Line) -> None:
    origin = Origin(fetched(0))
    origin.gate.clear()
    fetch = asyncio.create_task(replica(origin, url=line.url).fetch(None))
    await eventually(lambda: origin.fetches)
    await line.cut()
    origin.gate.set()
    assert (await fetch).keys == fetched(0).keys


async def test_who_waits_for_another_one_and_loses_redis_fetches(replica: Replicas, line: Line) -> None:
    slow, own = Origin(fetched(0)), Origin(fetched(1))
    slow.gate.clear()
    first = asyncio.create_task(replica(slow).fetch(None))
    await eventually(lambda: slow.fetches)
    waiting = asyncio.create_task(replica(own, url=line.url).fetch(None))
    await asyncio.sleep(0.1)
    assert own.fetches == 0
    await line.cut()
    assert (await waiting).keys == fetched(1).keys
    slow.gate.set()
    await first


async def test_once_redis_is_back_replicas_share_again(replica: Replicas, line: Line) -> None:
    await line.cut()
    one, idle = replica(Origin(fetched(0)), BRIEF, url=line.url), Origin(DOWN)
    first = await one.fetch(None)
    await line.mend()

    async def is_shared() -> bool:
        await one.fetch(first)
        return await replica(idle).last_known() is not None

    await eventually(is_shared)
    assert (await replica(idle).fetch(None)).keys == fetched(0).keys


# The last known set.


async def test_before_any_fetch_nothing_is_known(replica: Replicas) -> None:
    assert await replica(Origin(DOWN)).last_known() is None


async def test_the_last_known_set_is_offered_long_after_it_was_due(
    replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica(Origin(fetched(0))).fetch(None)
    monkeypatch.setattr(fleet, "time", lambda: time.time() + FRESHNESS.max_stale - 1.0)
    known = await replica(Origin(DOWN)).last_known()
    assert known is not None
    assert known.keys == fetched(0).keys


async def test_a_set_is_kept_for_as_long_as_it_may_be_used(replica: Replicas, redis: RedisServer) -> None:
    await replica(Origin(fetched(0))).fetch(None)
    assert FRESHNESS.max_stale - 1.0 < lasts(redis, SET) <= FRESHNESS.max_stale


async def test_beyond_that_nothing_is_known(replica: Replicas) -> None:
    brief = replace(FRESHNESS, max_stale=0.05)
    await replica(Origin(fetched(0)), brief).fetch(None)
    await asyncio.sleep(brief.max_stale)
    assert await replica(Origin(DOWN), brief).last_known() is None


def source(origin: AnyOrigin, freshness: Freshness = FRESHNESS) -> RefreshingKeys:
    told = Seen()
    return RefreshingKeys(issuer="main", origin=origin, freshness=freshness, observer=told, on_change=told.changed)


@pytest.mark.parametrize(("age", "is_trusted"), [(0.0, True), (3590.0, True), (3601.0, False)])
async def test_a_replica_that_starts_in_an_outage_trusts_the_last_known_set_up_to_its_limit(
    age: float, is_trusted: bool, replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica(Origin(fetched(0)), BRIEF).fetch(None)
    await asyncio.sleep(BRIEF.cooldown)
    for module in (fleet, key_source):
        monkeypatch.setattr(module, "time", lambda: time.time() + age)
    starting = source(replica(Origin(DOWN), replace(BRIEF, refresh=0.0)))
    starting.start()
    await eventually(lambda: starting.status().last_error)
    assert (starting.current() is not None) is is_trusted
    await starting.stop()


async def test_a_set_that_another_one_fetched_is_no_younger_for_who_reads_it(
    replica: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    await replica(Origin(fetched(0))).fetch(None)
    for module in (fleet, key_source):
        monkeypatch.setattr(module, "time", lambda: time.time() + 500.0)
    reading = source(replica(Origin(DOWN)))
    await reading.refresh()
    age = reading.status().age
    assert age is not None
    assert 500.0 <= age < 505.0
