"""Identities between replicas."""

import asyncio
import hashlib
import secrets
from time import monotonic

import pytest

from tests.redis_servers import RedisServer, line_to
from tests.store.test_redis import store_at
from tests.support import eventually
from verifier.store.shared import NotShared, Shared

DIGEST = hashlib.sha256(b"a token").digest()


async def test_what_one_replica_keeps_another_recalls(redis: RedisServer) -> None:
    async with store_at(redis.url) as here, store_at(redis.url) as there:
        Shared(here).keep(DIGEST, b"entry", 60.0)
        await eventually(lambda: Shared(there).recall(DIGEST))
        assert await Shared(there).recall(DIGEST) == b"entry"


async def test_a_replica_waits_for_whoever_claimed_the_work(redis: RedisServer) -> None:
    async with store_at(redis.url) as here, store_at(redis.url) as there:
        assert await Shared(here).recall_or_claim(DIGEST, 10.0) is None
        waiting = asyncio.create_task(Shared(there).recall_or_claim(DIGEST, 10.0))
        await asyncio.sleep(0.1)
        Shared(here).keep(DIGEST, b"entry", 60.0)
        assert await waiting == b"entry"


async def test_work_that_came_to_nothing_goes_to_who_waits(redis: RedisServer) -> None:
    async with store_at(redis.url) as here, store_at(redis.url) as there:
        await Shared(here).recall_or_claim(DIGEST, 10.0)
        waiting = asyncio.create_task(Shared(there).recall_or_claim(DIGEST, 10.0))
        await asyncio.sleep(0.1)
        Shared(here).release(DIGEST)
        async with asyncio.timeout(1.0):
            assert await waiting is None


async def test_a_replica_that_died_is_waited_for_no_longer_than_the_work_takes(redis: RedisServer) -> None:
    async with store_at(redis.url) as here, store_at(redis.url) as there:
        await Shared(here).recall_or_claim(DIGEST, 60.0)
        began = monotonic()
        assert await Shared(there).recall_or_claim(DIGEST, 0.6) is None
        assert 0.25 < monotonic() - began < 1.0


async def test_a_claim_of_our_own_that_somebody_put_back_holds_up_nobody(redis: RedisServer) -> None:
    async with store_at(redis.url) as store:
        ours = Shared(store)
        await ours.recall_or_claim(DIGEST, 60.0)
        async with asyncio.timeout(1.0):
            assert await ours.recall_or_claim(DIGEST, 60.0) is None


async def test_a_claim_that_nobody_of_us_made_holds_up_nobody(redis: RedisServer) -> None:
    async with store_at(redis.url) as store:
        with redis.admin() as admin:
            admin.set(f"verifier:inquiry:{store.secret_name(DIGEST)}", "x")
        async with asyncio.timeout(1.0):
            assert await Shared(store).recall_or_claim(DIGEST, 60.0) is None


async def test_without_redis_the_work_is_ones_own(redis: RedisServer) -> None:
    async with line_to(redis) as line, store_at(line.url) as store:
        await line.cut()
        async with asyncio.timeout(2.0):
            assert await Shared(store).recall(DIGEST) is None
            assert await Shared(store).recall_or_claim(DIGEST, 60.0) is None


async def test_a_name_tells_nothing_to_those_without_the_key(redis: RedisServer) -> None:
    async with store_at(redis.url) as store, store_at(redis.url, keys=(secrets.token_bytes(32),)) as other:
        Shared(store).keep(DIGEST, b"entry", 60.0)
        with redis.admin() as admin:
            await eventually(lambda: admin.keys("*"))
            names = repr(admin.keys("*"))
        assert DIGEST.hex() not in names
        assert store.secret_name(DIGEST) != other.secret_name(DIGEST)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_where_nothing_is_shared_the_work_is_ones_own(seconds: float) -> None:
    alone = NotShared()
    alone.keep(DIGEST, b"entry", 60.0)
    alone.release(DIGEST)
    assert await alone.recall(DIGEST) is None
    assert await alone.recall_or_claim(DIGEST, seconds) is None
