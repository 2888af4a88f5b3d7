"""A Redis that is gone, silent, slow, full, flushed, forged or closed to us (F17 to F25)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults.answers import Answers, said
from tests.faults.outcome import Record, fault
from tests.faults.stage import IssuerProcess, Stage, Verifier, milliseconds, seconds
from tests.faults.traffic import Stream
from tests.redis_servers import Line, RedisServer, command, line_to, redis_sentinels, redis_server
from tests.support import ADMIN_TOKEN

RATE = 100.0
BUDGET = 100.0
"""Milliseconds: twice the time limit of a command (50 ms), which new tokens may wait for."""


@dataclass
class Play:
    """All that takes part: a verifier that shares every identity through ``redis``, over ``line``."""

    stage: Stage
    issuer: IssuerProcess
    asked: IssuerProcess
    verifier: Verifier
    redis: RedisServer
    line: Line

    def streams(self, lasts: float) -> list[Stream]:
        new = self.stage.good(self.issuer, RATE, lasts, "new")
        return [
            self.stage.good(self.issuer, RATE, name="known"),
            new,
            Stream("opaque", RATE / 2, True, self.stage.opaque(int(RATE / 2 * lasts))),
            Stream("forged", RATE / 2, False, new.tokens, "signature"),
        ]


@asynccontextmanager
async def _play(stage: Stage, *options: str) -> AsyncIterator[Play]:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_server(*options))
        line = await stack.enter_async_context(line_to(redis))
        issuer = await stack.enter_async_context(stage.issuer())
        asked = await stack.enter_async_context(stage.issuer("asked"))
        shared = {"url": line.url, "key_file": stage.sealing_key(), "timeout": "50ms"}
        made = stage.configuration(
            stage.trust(issuer), stage.ask(asked), redis=shared, cache={"share": "always"}, keys={"refresh": "1m"}
        )
        verifier = await stack.enter_async_context(stage.verifier(made))
        yield Play(stage, issuer, asked, verifier, redis, line)


async def _sick(
    play: Play,
    record: Record,
    begin: Callable[[], Awaitable[None] | None],
    end: Callable[[], Awaitable[None] | None],
    *,
    lasts: float = 5.0,
    breaks: bool = True,
) -> Answers:
    """Load before, during and after; how soon it is noticed, and how soon over. Returns what came during it."""
    total = lasts + 4.0
    async with play.stage.load(play.verifier, play.streams(total), total) as load:
        await asyncio.sleep(2)
        began = time.monotonic()
        await _done(begin())
        noticed = await play.verifier.until("redis_breaker_open", bool, within=lasts) if breaks else None
        await asyncio.sleep(max(0.0, began + lasts - time.monotonic()))
        await _done(end())
        healed = time.monotonic()
        over = await play.verifier.until("redis_breaker_open", lambda value: not value, within=10)
        answers = await load.answers()
    record.saw(answers, undecided_is_right=False)
    before, during = answers.between(0, began), answers.between(began, healed)
    good, usual = during.of("known", "new", "opaque"), before.of("known", "new", "opaque")
    record.note(
        f"good tokens {good.share(200):.2%} of {len(good):,}, p99 {good.p99:.1f} ms (before {usual.p99:.1f} ms)"
    )
    if breaks:
        record.note(f"breaker open after {milliseconds(noticed)}, closed {seconds(over)} after the end")
        record.expect(noticed is not None, "the breaker did not open")
        record.expect(over is not None, "the breaker did not close within 10 s")
    record.expect(answers.of("known", "new", "opaque").share(200) == 1.0, f"good tokens got {said(good.statuses)}")
    record.expect(good.p99 <= max(BUDGET, 3 * usual.p99), f"p99 is beyond {BUDGET:.0f} ms")
    return during


async def _done(what: Awaitable[None] | None) -> None:
    if what is not None:
        await what


@fault("F17", "Redis refuses connections", did="cut off for 5 s", right="every token is decided without it")
async def refused(stage: Stage, record: Record) -> None:
    async with _play(stage) as play:
        await _sick(play, record, play.line.cut, play.line.mend)


@fault(
    "F18",
    "Redis accepts and never answers",
    did="its process stopped for 5 s",
    right="a command has 50 ms, then a breaker opens (without a limit, its client would wait for a minute)",
)
async def silent(stage: Stage, record: Record) -> None:
    async with _play(stage) as play:
        await _sick(play, record, play.redis.pause, play.redis.resume)


@fault("F19", "Redis is slow", did="200 ms for each answer, for 5 s", right="as when it never answers")
async def slow(stage: Stage, record: Record) -> None:
    async with _play(stage) as play:
        await _sick(play, record, lambda: setattr(play.line, "delay", 0.2), lambda: setattr(play.line, "delay", 0.0))


@fault(
    "F20",
    "the network to Redis drops everything",
    did="nothing passes in either direction for 5 s, and nothing is reset",
    right="as when it never answers; well again without a restart",
)
async def partition(stage: Stage, record: Record) -> None:
    async with _play(stage) as play:
        await _sick(play, record, play.line.open.clear, play.line.open.set)


@fault(
    "F21",
    "Redis fails over",
    did="the primary is killed under Sentinels, an empty one comes in its place; a token was revoked before",
    right="errors for seconds, and no allow that was taken back appears again",
)
async def failover(stage: Stage, record: Record) -> None:
    async with AsyncExitStack() as stack:
        watched = stack.enter_context(redis_sentinels())
        issuer = await stack.enter_async_context(stage.issuer())
        shared = {"url": watched.url, "key_file": stage.sealing_key(), "timeout": "50ms"}
        made = stage.configuration(stage.trust(issuer), redis=shared, cache={"share": "always"}, keys={"refresh": "1m"})
        verifier = await stack.enter_async_context(stage.verifier(made))
        revoked = issuer.token("revoked", jti="taken-back")
        first = await verifier.verify(revoked)
        made_it = await verifier.admin("POST", "/revocations", json={"issuer": "main", "jti": "taken-back"})
        await verifier.until_status(revoked, 401)
        known = stage.good(issuer, RATE)
        bad = Stream("revoked", RATE / 2, False, str(stage.path("revoked", f"{revoked}\n")))
        async with stage.load(verifier, [known, stage.good(issuer, RATE, 13, "new"), bad], 12) as load:
            await asyncio.sleep(2)
            assert watched.primary.process is not None
            watched.primary.process.kill()
            began = time.monotonic()
            await verifier.until("redis_errors_total", bool, within=5)
            over = await verifier.until("redis_breaker_open", lambda value: not value, within=9)
            answers = await load.answers()
        errors = await verifier.metric("redis_errors_total")
        with watched.replica.admin() as admin:
            admin.flushall()
        async with stage.load(verifier, [known, bad], 4) as load:
            after = await load.answers()
        record.saw(answers, undecided_is_right=False)
        record.saw(after, undecided_is_right=False)
        good = answers.of("good", "new").since(began)
        record.expect((first, made_it) == (200, 201), f"the revocation was not made: {first}, {made_it}")
        record.note(f"good tokens {good.share(200):.2%}, p99 {good.p99:.1f} ms; errors {errors:.0f}")
        record.note(f"breaker closed {seconds(over)} after the kill")
        record.note(f"the revoked token: {said(answers.of('revoked').statuses)}")
        record.note(f"with an empty Redis: {said(after.of('revoked').statuses)}")
        record.expect(good.share(200) == 1.0, f"good tokens got {said(good.statuses)}")


@fault(
    "F22",
    "Redis is full",
    did="`maxmemory` 1 with `noeviction` for 5 s: every write gets `OOM`",
    right="every token is decided; what cannot be written is counted",
)
async def full(stage: Stage, record: Record) -> None:
    async with _play(stage) as play:

        def limit(to: str) -> None:
            with play.redis.admin() as admin:
                admin.config_set("maxmemory", to)

        await _sick(play, record, lambda: limit("1"), lambda: limit("0"), breaks=False)
        errors = await play.verifier.metric("redis_errors_total")
        record.note(f"commands that failed {errors:.0f}")
        record.expect(errors > 0, "no failure in the metrics")


@fault(
    "F23",
    "Redis is flushed under load",
    did="FLUSHALL three times, a second apart, with 400 known opaque tokens at two replicas",
    right="memory still knows them: no herd at the issuers",
)
async def flushed(stage: Stage, record: Record) -> None:
    async with _play(stage) as play:
        made = {**play.verifier.configuration, **_own_ports(stage)}
        async with stage.verifier(made) as second:
            streams = [Stream("opaque", 400, True, stage.opaque(400)), stage.good(play.issuer, RATE)]
            async with stage.load(play.verifier, streams, 7) as load, stage.load(second, streams, 7) as other:
                await asyncio.sleep(3)  # until each of them knows all tokens
                began = time.monotonic()
                for _ in range(3):
                    with play.redis.admin() as admin:
                        admin.flushall()
                    await asyncio.sleep(1)
                answers = Answers.together([await load.answers(), await other.answers()])
            asked = await play.asked.asked("/introspect", since=began)
            fetched = await play.issuer.asked(since=began)
        record.saw(answers, undecided_is_right=False)
        late = answers.since(began)
        busiest = max((sum(at <= one < at + 1 for one in asked) for at in asked), default=0)
        record.note(f"good tokens {late.share(200):.2%}, p99 {late.p99:.1f} ms")
        record.note(
            f"asked again about {len(asked)} tokens, at most {busiest} a second; fetches of keys {len(fetched)}"
        )
        record.expect(late.share(200) == 1.0, f"good tokens got {said(late.statuses)}")
        record.expect(busiest <= 100, "a herd at introspection")


def _own_ports(stage: Stage) -> dict[str, object]:
    fresh = stage.configuration()
    return {name: fresh[name] for name in ("listen", "ops")}


@fault(
    "F24",
    "entries of Redis are forged",
    did="every entry swapped with another, then cut short, then replaced by noise; a replica with an empty "
    "memory reads them each time",
    right="none is believed, and all are counted",
)
async def poisoned(stage: Stage, record: Record) -> None:
    async with _play(stage) as play:
        tokens = stage.opaque(200)
        denied = stage.opaque(200, good=False)
        streams = [Stream("good", 400, True, tokens), Stream("bad", 400, False, denied)]
        async with stage.load(play.verifier, streams, 1) as load:
            record.saw(await load.answers(), undecided_is_right=False)
        await asyncio.sleep(0.5)
        for spoil in (_swap, _cut, _noise):
            count = _spoil(play.redis, spoil)
            async with stage.verifier({**play.verifier.configuration, **_own_ports(stage)}) as fresh:
                async with stage.load(fresh, streams, 1) as load:
                    answers = await load.answers()
                refused = await fresh.metric("sealed_entries_refused_total")
            record.saw(answers, undecided_is_right=False)
            what = spoil.__name__.strip("_")
            record.note(f"{what}: {count} entries, {refused:.0f} refused, good {answers.of('good').share(200):.2%}")
            record.expect(answers.of("good").share(200) == 1.0, f"good tokens got {said(answers.of('good').statuses)}")
            record.expect(answers.of("bad").share(401) == 1.0, f"bad tokens got {said(answers.of('bad').statuses)}")
            record.expect(refused > 0, f"{what}: nothing was counted")


def _swap(values: list[bytes]) -> list[bytes]:
    return [*values[1:], *values[:1]]


def _cut(values: list[bytes]) -> list[bytes]:
    return [value[: len(value) // 2] for value in values]


def _noise(values: list[bytes]) -> list[bytes]:
    return [bytes(byte ^ 0x55 for byte in value) for value in values]


def _spoil(redis: RedisServer, how: Callable[[list[bytes]], list[bytes]]) -> int:
    """How many entries there were."""
    with redis.admin() as admin:
        names: list[Any] = command(admin, "KEYS", "*identity:*")
        values: list[bytes] = [command(admin, "GET", name) for name in names]
        for name, value in zip(names, how(values), strict=True):
            admin.set(name, value, keepttl=True)
    return len(names)


@fault(
    "F25",
    "Redis does not let us in any more",
    did="the user is switched off and its connections are ended, for 5 s",
    right="as when it refuses connections, and loud",
)
async def locked_out(stage: Stage, record: Record) -> None:
    async with _play(stage) as play:
        secret = ADMIN_TOKEN
        with play.redis.admin() as admin:
            command(admin, "ACL SETUSER", "sidecar", "on", f">{secret}", "~*", "&*", "+@all")
        made = {**play.verifier.configuration, **_own_ports(stage)}
        made["redis"] = {**made["redis"], "url": f"redis://sidecar:{secret}@127.0.0.1:{play.line.port}"}

        def lock() -> None:
            with play.redis.admin() as admin:
                command(admin, "ACL SETUSER", "sidecar", "off")
                command(admin, "CLIENT KILL", "USER", "sidecar")

        def unlock() -> None:
            with play.redis.admin() as admin:
                command(admin, "ACL SETUSER", "sidecar", "on")

        async with stage.verifier(made) as verifier:
            own = Play(stage, play.issuer, play.asked, verifier, play.redis, play.line)
            await _sick(own, record, lock, unlock)
            record.expect(bool(verifier.lines("redis_unavailable")), "nothing in the log")
