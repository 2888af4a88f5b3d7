"""The list of revocations, followed through Redis by replicas that come, go and lose touch."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any

import pytest

from tests.redis_servers import RedisServer, command, line_to
from tests.store.test_redis import KEY, store_at
from tests.store.test_redis import Seen as StoreSeen
from tests.support import eventually
from verifier.core.revocation import Kind, Revocation, pack
from verifier.ports import SourceUnavailable
from verifier.store.revocation_log import SharedList
from verifier.store.revocations import LocalList, RevocationsFull

ISS = "https://issuer.example/"


@dataclass
class Seen:
    lags: list[float] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    read_again: int = 0
    restored: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def revocation_arrived(self, seconds: float) -> None:
        self.lags.append(seconds)

    def revocations_unread(self, detail: str) -> None:
        self.unread.append(detail)

    def revocations_read_again(self) -> None:
        self.read_again += 1

    def revocations_restored(self, number: int) -> None:
        self.restored.append(number)

    def revocations_refused(self, number: int) -> None:
        self.refused.append(number)


def revocation(name: str, lasts: float = 60.0) -> Revocation:
    return Revocation(name, (ISS,), Kind.TOKEN_ID, name, made_at=time(), expires_at=time() + lasts)


@asynccontextmanager
async def replica(
    url: str,
    seen: Seen | None = None,
    *,
    grace: float = 5.0,
    deny: bool = False,
    max_entries: int = 1_000,
    keys: tuple[bytes, ...] = (KEY,),
    limit: float = 0.5,
) -> AsyncIterator[SharedList]:
    async with store_at(url, keys=keys, limit=limit) as store:
        made = SharedList(
            store,
            max_entries=max_entries,
            grace=grace,
            deny=deny,
            keep=3_600.0,
            observer=seen or Seen(),
        )
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


def names(listed: LocalList) -> set[str]:
    return {one.id for one in listed.held}


async def knows(listed: LocalList, *expected: str) -> None:
    await eventually(lambda: names(listed) == set(expected))


async def test_what_one_replica_revokes_another_knows(redis: RedisServer) -> None:
    seen = Seen()
    async with replica(redis.url) as one, replica(redis.url, seen) as other:
        await one.revoke(revocation("a"))
        await knows(other, "a")
    assert len(seen.lags) == 1


async def test_what_one_replica_lifts_another_lifts(redis: RedisServer) -> None:
    async with replica(redis.url) as one, replica(redis.url) as other:
        await one.revoke(revocation("a"))
        await knows(other, "a")
        assert await other.lift("a")
        await knows(one)


async def test_lifting_what_nobody_revoked_is_told(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        assert not await one.lift("a")


async def test_what_was_lifted_stays_so_for_a_replica_that_starts_later(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        await one.revoke(revocation("b"))
        await one.lift("a")
    async with replica(redis.url) as later:
        assert names(later) == {"b"}


async def test_a_long_list_is_read_to_its_end_at_the_start(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        for first in range(0, 450, 10):
            await asyncio.gather(*(one.revoke(revocation(f"r{first + number}")) for number in range(10)))
    async with replica(redis.url) as later:
        assert len(later.held) == 450


async def test_what_happened_while_redis_was_away_is_known_when_it_is_back(redis: RedisServer) -> None:
    seen = Seen()
    async with line_to(redis) as line, replica(line.url, seen) as one, replica(redis.url) as other:
        await other.revoke(revocation("before"))
        await knows(one, "before")
        await line.cut()
        await eventually(lambda: seen.unread)
        await other.revoke(revocation("meanwhile"))
        await line.mend()
        await knows(one, "before", "meanwhile")
        await eventually(lambda: seen.read_again)


async def test_an_outage_is_told_once(redis: RedisServer) -> None:
    seen = Seen()
    async with line_to(redis) as line, replica(line.url, seen):
        await line.cut()
        await asyncio.sleep(1.0)
    assert len(seen.unread) == 1


async def test_a_revocation_that_does_not_travel_is_not_made(redis: RedisServer) -> None:
    async with line_to(redis) as line, replica(line.url) as one:
        await one.revoke(revocation("a"))
        await line.cut()
        with pytest.raises(SourceUnavailable):
            await one.revoke(revocation("b"))
        with pytest.raises(SourceUnavailable):
            await one.lift("a")
        assert names(one) == {"a"}


async def test_the_last_known_list_counts_for_ever_where_nothing_else_is_said(redis: RedisServer) -> None:
    async with line_to(redis) as line, replica(line.url, grace=0.2) as one:
        await line.cut()
        await eventually(lambda: one.unread_for() > 0.6)
        assert one.outage() is None


async def test_the_last_known_list_counts_for_its_grace_where_that_is_said(redis: RedisServer) -> None:
    async with line_to(redis) as line, replica(line.url, grace=0.5, deny=True) as one:
        assert one.outage() is None
        await line.cut()
        await eventually(lambda: one.outage() is not None)
        assert one.unread_for() > 0.5
        await line.mend()
        await eventually(lambda: one.outage() is None)


async def test_a_list_that_was_never_read_has_no_grace(redis: RedisServer) -> None:
    async with line_to(redis) as line:
        await line.cut()
        async with replica(line.url, grace=60.0, deny=True) as one:
            assert one.outage() is not None


async def test_an_empty_list_is_one_that_was_read(redis: RedisServer) -> None:
    async with replica(redis.url, grace=60.0, deny=True) as one:
        assert one.outage() is None


@pytest.mark.parametrize("news", [False, True], ids=["quiet", "with a new one"])
async def test_what_redis_lost_is_put_back_by_one_replica(news: bool, redis: RedisServer) -> None:
    seen = Seen()
    async with replica(redis.url, seen) as one, replica(redis.url, seen) as other:
        for name in ("a", "b", "c"):
            await one.revoke(revocation(name))
        await knows(other, "a", "b", "c")
        with redis.admin() as admin:
            admin.flushall()
        if news:
            await one.revoke(revocation("d"))
        await eventually(lambda: sum(seen.restored) == 3)
        expected = {"a", "b", "c", *(["d"] if news else [])}
        async with replica(redis.url) as later:
            assert names(later) == expected
        assert names(one) == expected
        await eventually(lambda: names(other) == expected)
    assert seen.restored == [3]


async def test_a_list_from_before_is_brought_up_to_date(redis: RedisServer) -> None:
    """A failover to a replica of Redis that was behind: its list is older than the one that was read."""
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            before = admin.dump("verifier:revocations")
        await one.revoke(revocation("b"))
        await one.revoke(revocation("c"))
        with redis.admin() as admin:
            admin.restore("verifier:revocations", 0, before, replace=True)  # type: ignore[arg-type]
        await eventually(lambda: _is_listed(redis, {"a", "b", "c"}))


async def _is_listed(redis: RedisServer, expected: set[str], key: bytes = KEY) -> bool:
    async with replica(redis.url, keys=(key,)) as later:
        return names(later) == expected


async def test_what_is_over_is_taken_out_here_and_there(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        await one.revoke(revocation("short", lasts=0.4))
        await one.revoke(revocation("long"))
        await knows(one, "long")
        with redis.admin() as admin:
            await eventually(lambda: admin.xlen("verifier:revocations") == 1)


async def test_entries_that_end_do_not_look_like_a_loss(redis: RedisServer) -> None:
    seen = Seen()
    async with replica(redis.url, seen) as one, replica(redis.url, seen) as other:
        for number in range(20):
            await one.revoke(revocation(f"r{number}", lasts=0.3 + number / 50))
        await one.revoke(revocation("long"))
        await knows(one, "long")
        await knows(other, "long")
        await asyncio.sleep(0.6)
    assert seen.restored == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b'{"lift": 1}', b'{"kind": "sub"}', pack(revocation("x")).replace(b'"jti"', b'"other"')],
)
async def test_an_entry_that_says_nothing_hinders_no_other(content: bytes, redis: RedisServer) -> None:
    async with store_at(redis.url) as store, replica(redis.url) as one:
        await store.append("revocations", [(content, time() + 60)])
        await one.revoke(revocation("a"))
        await asyncio.sleep(0.6)
        assert names(one) == {"a"}
        async with replica(redis.url) as later:
            assert names(later) == {"a"}


async def test_an_entry_that_was_forged_revokes_nothing_and_stays_where_it_is(redis: RedisServer) -> None:
    """It stays, as it may be one of a key that another replica has already."""
    seen = StoreSeen()
    with redis.admin() as admin:
        admin.xadd("verifier:revocations", {"e": secrets.token_bytes(200)})
        admin.xadd("verifier:revocations", {"x": "y"})
    async with store_at(redis.url, seen=seen) as store:
        told = Seen()
        one = SharedList(store, max_entries=10, grace=1.0, deny=True, keep=3_600.0, observer=told)
        await one.start()
        await one.stop()
        assert (names(one), one.outage()) == (set(), None)
    assert len(seen.refused) == 2
    assert told.refused == [2]
    with redis.admin() as admin:
        assert admin.xlen("verifier:revocations") == 2


async def test_a_list_of_another_type_is_one_that_cannot_be_read(redis: RedisServer) -> None:
    with redis.admin() as admin:
        admin.set("verifier:revocations", "x")
    async with replica(redis.url, grace=1.0, deny=True) as one:
        assert one.outage() is not None


async def test_a_full_list_takes_no_more(redis: RedisServer) -> None:
    async with replica(redis.url, max_entries=2) as one:
        for name in ("a", "b"):
            await one.revoke(revocation(name))
        with pytest.raises(RevocationsFull):
            await one.revoke(revocation("c"))


async def test_a_list_of_one_process_ends_what_is_over() -> None:
    alone = LocalList(1)
    await alone.start()
    await alone.revoke(revocation("a", lasts=-1.0))
    await alone.revoke(revocation("b"))
    assert names(alone) == {"b"}
    assert await alone.lift("b")
    assert not await alone.lift("b")
    assert (alone.outage(), alone.unread_for()) == (None, 0.0)
    await alone.stop()


OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)


async def test_what_was_revoked_under_one_sealing_key_is_known_when_it_is_gone(redis: RedisServer) -> None:
    """All have both keys before the new one seals, and until everything is sealed with it."""
    async with replica(redis.url, keys=(OLD, NEW)) as before:
        for name in ("a", "b", "c"):
            await before.revoke(revocation(name))
        await before.lift("c")
        async with replica(redis.url, keys=(NEW, OLD)) as between, replica(redis.url, keys=(NEW, OLD)):
            await before.revoke(revocation("d"))
            await knows(between, "a", "b", "d")
            await eventually(lambda: _is_listed(redis, {"a", "b", "d"}, NEW))


async def test_copies_for_another_sealing_key_are_made_once(redis: RedisServer) -> None:
    async with replica(redis.url, keys=(OLD,)) as before:
        for name in ("a", "b", "c"):
            await before.revoke(revocation(name))
    async with replica(redis.url, keys=(NEW, OLD)), replica(redis.url, keys=(NEW, OLD)):
        await eventually(lambda: _is_listed(redis, {"a", "b", "c"}, NEW))
        await asyncio.sleep(0.8)
        with redis.admin() as admin:
            assert admin.xlen("verifier:revocations") == 6


async def test_an_entry_that_was_taken_out_is_missed_although_another_came(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            admin.xadd("verifier:revocations", {"e": b"junk"})
            found: Any = admin.xrange("verifier:revocations")
            admin.xdel("verifier:revocations", found[0][0])
        await eventually(lambda: _is_listed(redis, {"a"}))


async def test_a_claim_that_never_ends_keeps_nothing_from_being_put_back(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            admin.delete("verifier:revocations")
            admin.set("verifier:restore", "x")
        await eventually(lambda: _is_listed(redis, {"a"}), within=10.0)


async def test_a_log_that_takes_no_more_is_begun_anew(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            last = f"{2**64 - 1}-{2**64 - 1}"
            command(admin, "XADD", "verifier:revocations", last, "e", "junk")
        await eventually(lambda: _is_listed(redis, {"a"}))
        await one.revoke(revocation("b"))
        await eventually(lambda: _is_listed(redis, {"a", "b"}))


async def test_a_list_of_large_entries_is_read_in_smaller_pages(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            for _ in range(150):
                admin.xadd("verifier:revocations", {"e": secrets.token_bytes(2**20)})
        await one.revoke(revocation("b"))
        async with replica(redis.url) as later:
            await eventually(lambda: names(later) == {"a", "b"}, within=20.0)


async def test_a_log_without_end_does_not_hold_up_a_start(redis: RedisServer) -> None:
    """Copies of one entry, which open: more of them than there can be entries."""
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            found: Any = admin.xrange("verifier:revocations")
            pipeline = admin.pipeline(transaction=False)
            for _ in range(2_000):
                pipeline.xadd("verifier:revocations", found[0][1])
            pipeline.execute()
    async with replica(redis.url, max_entries=10, grace=1.0, deny=True) as later:
        assert later.outage() is not None
        await eventually(lambda: later.outage() is None, within=10.0)
        assert names(later) == {"a"}


async def test_a_list_settles_when_it_is_read_or_after_its_grace(redis: RedisServer) -> None:
    async with line_to(redis) as line:
        async with replica(line.url) as one:
            assert one.settled()
        await line.cut()
        async with replica(line.url, grace=0.5, deny=True) as one:
            assert not one.settled()
            await eventually(one.settled)
            assert one.unread_for() > 0.5


async def test_a_copy_that_is_gone_before_it_was_read_is_missed_too(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        await eventually(lambda: one.held)
        with redis.admin() as admin:
            for _ in range(100):
                found: Any = admin.xrange("verifier:revocations")
                if found:
                    admin.xdel("verifier:revocations", *[position for position, _ in found])
                await asyncio.sleep(0.01)
        await eventually(lambda: _is_listed(redis, {"a"}), within=10.0)


async def test_noise_does_not_hide_what_was_taken_out(redis: RedisServer) -> None:
    async with replica(redis.url) as one:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            found: Any = admin.xrange("verifier:revocations")
            await asyncio.sleep(0.5)
            for number in range(100):
                admin.xadd("verifier:revocations", {"e": b"noise"})
                if number == 20:
                    admin.xdel("verifier:revocations", found[0][0])
                await asyncio.sleep(0.02)
        assert await _is_listed(redis, {"a"})


async def test_copies_are_made_although_somebody_pretends_to_make_them(redis: RedisServer) -> None:
    async with replica(redis.url, keys=(OLD,)) as before:
        await before.revoke(revocation("a"))
    with redis.admin() as admin:
        admin.set("verifier:reseal", "x")
    async with replica(redis.url, keys=(NEW, OLD)):
        await eventually(lambda: _is_listed(redis, {"a"}, NEW), within=10.0)


async def test_a_log_that_is_far_too_long_is_read_in_the_end(redis: RedisServer) -> None:
    async with replica(redis.url, max_entries=10) as one, replica(redis.url, max_entries=10) as other:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            found: Any = admin.xrange("verifier:revocations")
            pipeline = admin.pipeline(transaction=False)
            for _ in range(2_000):
                pipeline.xadd("verifier:revocations", {"e": "noise"})
            pipeline.xdel("verifier:revocations", found[0][0])
            pipeline.execute()
        await one.revoke(revocation("b"))
        await eventually(lambda: names(other) == {"a", "b"}, within=10.0)


async def test_an_entry_that_is_too_large_to_be_read_is_removed_with_its_log(redis: RedisServer) -> None:
    async with replica(redis.url, limit=0.1) as one:
        await one.revoke(revocation("a"))
        with redis.admin() as admin:
            admin.xadd("verifier:revocations", {"e": bytes(200 * 2**20)})
        await eventually(lambda: _is_small(redis), within=25.0)
        await eventually(lambda: _is_listed(redis, {"a"}), within=10.0)


def _is_small(redis: RedisServer) -> bool:
    with redis.admin() as admin:
        return int(str(admin.memory_usage("verifier:revocations") or 0)) < 2**20


async def test_a_copy_that_comes_after_a_lift_revokes_nothing(redis: RedisServer) -> None:
    made = revocation("a")
    async with store_at(redis.url) as store, replica(redis.url) as one:
        await one.revoke(made)
        await one.lift("a")
        await store.append("revocations", [(pack(made), made.expires_at)])
        await one.revoke(revocation("b"))
        async with replica(redis.url) as later:
            assert names(later) == {"b"}
        await asyncio.sleep(0.6)
        assert names(one) == {"b"}


async def test_a_lift_that_redis_lost_is_put_back(redis: RedisServer) -> None:
    """A failover to a replica of Redis that was behind."""
    async with replica(redis.url) as one, replica(redis.url) as other:
        await one.revoke(revocation("a"))
        await knows(other, "a")
        with redis.admin() as admin:
            before = admin.dump("verifier:revocations")
        await one.lift("a")
        await knows(other)
        with redis.admin() as admin:
            admin.restore("verifier:revocations", 0, before, replace=True)  # type: ignore[arg-type]
        await eventually(lambda: _is_listed(redis, set()))
        assert names(one) == names(other) == set()


async def test_what_nobody_can_open_is_taken_out_in_the_end(redis: RedisServer) -> None:
    with redis.admin() as admin:
        command(admin, "XADD", "verifier:revocations", f"{int((time() - 3_601) * 1_000)}-0", "e", "noise")
        admin.xadd("verifier:revocations", {"e": "noise"})
        async with replica(redis.url):
            await eventually(lambda: admin.xlen("verifier:revocations") == 1)
