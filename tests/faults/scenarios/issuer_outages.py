"""An issuer that is away, slow, or talks nonsense (F1 to F9, F14)."""

import asyncio
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

from tests.faults.answers import Answers, said
from tests.faults.outcome import Record, fault
from tests.faults.stage import PROMPT_KEYS, IssuerProcess, Stage, Verifier, milliseconds, seconds
from tests.faults.traffic import Stream
from tests.redis_servers import redis_server

RATE = 200.0
CALM = 50.0
"""Milliseconds: a p99 above it would be seen by those who ask."""


def _lasting(stage: Stage, issuer: IssuerProcess) -> dict[str, Any]:
    """Keys that are looked at often, and stay for longer than any scenario takes."""
    trusted = stage.trust(issuer, jwks_uri=f"{issuer.url}/jwks")
    return stage.configuration(trusted, keys={**PROMPT_KEYS, "max_stale": "1m"})


async def _outage(
    stage: Stage, record: Record, begin: Any, lasts: float, end: Any = None
) -> tuple[Answers, Answers, list[float], Verifier]:
    """Good and bad tokens before ``begin`` and during it: answers before and since, and when the issuer was asked."""
    async with stage.issuer() as issuer, stage.verifier(_lasting(stage, issuer)) as verifier:
        known = stage.good(issuer, RATE)
        streams = [
            known,
            stage.good(issuer, RATE / 4, lasts + 2, name="new"),
            Stream("forged", RATE / 10, False, known.tokens, "signature"),
        ]
        async with stage.load(verifier, streams, lasts + 1.5) as load:
            await asyncio.sleep(1.5)
            began = time.monotonic()
            await begin(issuer)
            answers = await load.answers()
        record.saw(answers)
        if end is not None:
            await end(issuer)
        asked = await issuer.asked(since=began)
        record.note(f"key age at the end {await verifier.metric('key_set_age_seconds', issuer='main'):.1f} s")
        errors = await verifier.metric("key_fetches_total", issuer="main", result="error")
        record.note(f"failed fetches {errors:.0f}")
        return answers.between(0, began), answers.since(began), asked, verifier


def _unharmed(record: Record, before: Answers, during: Answers) -> None:
    good, usual = during.of("good", "new"), before.of("good", "new")
    record.note(f"good tokens {good.share(200):.2%} of {len(good):,}")
    record.note(f"p99 {good.p99:.1f} ms (before {usual.p99:.1f} ms)")
    record.expect(good.share(200) == 1.0, f"good tokens were answered with {said(good.statuses)}")
    record.expect(good.p99 < max(CALM, 3 * usual.p99), "answers took longer than before")


@fault(
    "F1",
    "the issuer refuses connections",
    did="its port closed for 5 s while keys are fresh; known, new and forged tokens",
    right="no effect; fetches are tried again with pauses that grow",
)
async def refused(stage: Stage, record: Record) -> None:
    before, during, _, _ = await _outage(stage, record, IssuerProcess.refuse, 5)
    _unharmed(record, before, during)


@fault(
    "F2",
    "the issuer is away beyond `keys.refresh`",
    did="500 for 5 s, `refresh` 2 s, `max_stale` 6 s",
    right="the last keys serve; their age and the failures are in the metrics, the failure in the log",
)
async def stale(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer, stage.verifier(_lasting(stage, issuer)) as verifier:
        async with stage.load(verifier, [stage.good(issuer, RATE, 6)], 5) as load:
            began = time.monotonic()
            await issuer.misbehave("throttling")
            alert = await verifier.until("key_fetches_total", lambda value: value > 0, issuer="main", result="error")
            answers = await load.answers()
        record.saw(answers)
        age = await verifier.metric("key_set_age_seconds", issuer="main")
        record.note(f"good tokens {answers.share(200):.2%}, key age {age:.1f} s")
        record.note(f"in the metrics after {seconds(alert)}, {len(await issuer.asked(since=began))} fetches tried")
        record.expect(answers.share(200) == 1.0, f"good tokens were answered with {said(answers.statuses)}")
        record.expect(alert is not None, "no failure in the metrics")
        record.expect(bool(verifier.lines("keys_unavailable")), "no failure in the log")


@fault(
    "F3",
    "the issuer is away beyond `keys.max_stale`",
    did="refused for 11 s with `max_stale` 6 s, beside an issuer that is well",
    right="503 for its tokens alone, from the limit on; the other issuer's are answered as before; well at once",
)
async def beyond_stale(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer, stage.issuer("other") as other:
        made = stage.configuration(stage.trust(issuer), stage.trust(other))
        async with stage.verifier(made) as verifier:
            streams = [stage.good(issuer, RATE), stage.good(other, RATE, name="other")]
            async with stage.load(verifier, streams, 12.5) as load:
                await asyncio.sleep(1.5)
                began = time.monotonic()
                await issuer.refuse()
                answers = await load.answers()
            age = await verifier.metric("key_set_age_seconds", issuer="main")
            await issuer.accept()
            back = await verifier.until_status(issuer.token("back"), 200)
        record.saw(answers)
        allowed = answers.of("good").with_status(200).all
        last = max(answer.ended for answer in allowed) - began
        late = answers.of("good").since(began + 6.5)
        others, usual = answers.of("other").since(began), answers.of("other").between(0, began)
        record.note(f"last allow {last:.1f} s after the outage began, then {said(late.statuses)}")
        record.note(f"the other issuer {others.share(200):.2%}, p99 {others.p99:.1f} ms (before {usual.p99:.1f} ms)")
        record.note(f"allows again {seconds(back)} after the issuer is back (key age {age:.1f} s)")
        record.expect(last <= 6.6, "keys were used beyond max_stale")
        record.expect(set(late.statuses) == {503}, "answers beyond max_stale are not all 503")
        record.expect(others.share(200) == 1.0, f"the other issuer's tokens got {said(others.statuses)}")
        record.expect(back is not None, "no recovery within 15 s")


@fault(
    "F4",
    "a cold start while the issuer is away, with keys in Redis",
    did="a second replica is started while connections to the issuer are refused",
    right="it takes the keys of the first one, and is ready",
)
async def cold_with_redis(stage: Stage, record: Record) -> None:
    with redis_server() as redis:
        async with AsyncExitStack() as stack:
            issuer = await stack.enter_async_context(stage.issuer())
            shared = {"redis": {"url": redis.url, "key_file": stage.sealing_key()}, "keys": {"refresh": "1m"}}
            first = await stack.enter_async_context(stage.verifier(stage.configuration(stage.trust(issuer), **shared)))
            await first.until_status(issuer.token("first"), 200)
            await issuer.refuse()
            began = time.monotonic()
            made = stage.configuration(stage.trust(issuer), **shared)
            second = await stack.enter_async_context(stage.verifier(made, ready=False))
            ready = time.monotonic() - began
            good, bad = await second.until_status(issuer.token("second"), 200), await second.verify("forged")
            record.note(f"ready {milliseconds(ready)} after its start, first allow {milliseconds(good)} later")
            record.expect(good is not None and good < 1, "no allow within a second")
            record.expect(bad == 401, f"a forged token got {bad}")


@fault(
    "F5",
    "a cold start while the issuer is away, without Redis",
    did="refused for 6 s from before the start",
    right="it starts, says that it is not ready, answers 503, and recovers by itself",
)
async def cold(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        await issuer.refuse()
        async with stage.verifier(stage.configuration(stage.trust(issuer)), ready=False) as verifier:
            streams = [stage.good(issuer, 50), Stream("bad", 50, False, "", "opaque")]
            async with stage.load(verifier, streams, 5) as load:
                probes = {await verifier.probe("/readyz"), await verifier.probe("/healthz")}
                answers = await load.answers()
            await issuer.accept()
            back = await verifier.until_status(issuer.token("back"), 200)
            ready = await verifier.probe("/readyz")
        record.saw(answers)
        record.note(f"good tokens: {said(answers.of('good').statuses)}, probes {sorted(probes)}")
        record.note(f"first allow {seconds(back)} after the issuer came back, then /readyz {ready}")
        record.expect(set(answers.of("good").statuses) == {503}, "answers without keys are not all 503")
        record.expect(probes == {200, 503}, "a service without keys says that it is ready, or is not alive")
        record.expect(back is not None and ready == 200, "no recovery within 15 s")


@fault(
    "F6",
    "the issuer is slow",
    did="silent for 4 s, then one byte a second; `deadline` 1 s",
    right="each fetch ends at its deadline; tokens of known keys do not wait",
)
async def slow(stage: Stage, record: Record) -> None:
    async def begin(issuer: IssuerProcess) -> None:
        await issuer.misbehave("silent")
        await asyncio.sleep(2)
        await issuer.misbehave("trickle")

    before, during, asked, _ = await _outage(stage, record, begin, 5)
    _unharmed(record, before, during)
    record.note(f"fetches tried {len(asked)}")
    record.expect(len(asked) <= 6, "fetches follow each other too soon")


NONSENSE = {
    "html": "a page of a captive portal",
    "empty": "an empty body",
    "noise": "bytes that are no HTTP",
    "truncated": "a body that is cut off",
    "short": "a wrong Content-Length",
    "gzip": "a bad gzip",
}


async def _nonsense(stage: Stage, record: Record, *kinds: str) -> None:
    async def begin(issuer: IssuerProcess) -> None:
        for kind in kinds:
            await issuer.misbehave(kind, only="/jwks")
            await asyncio.sleep(2.2)

    before, during, asked, verifier = await _outage(stage, record, begin, 2.2 * len(kinds) + 0.5)
    _unharmed(record, before, during)
    record.note(f"{len(asked)} fetches ({', '.join(NONSENSE[kind] for kind in kinds)})")
    lines = [line for line in verifier.lines("keys") if line.get("keys") != 1]
    record.expect(not lines, "another key set was taken")


@fault(
    "F7",
    "the issuer answers 200 with what is no key set",
    did="a page of HTML, an empty body, bytes that are no HTTP, 2 s each",
    right="the last keys stay",
)
async def no_key_set(stage: Stage, record: Record) -> None:
    await _nonsense(stage, record, "html", "empty", "noise")


@fault(
    "F9",
    "the key set is cut off",
    did="a body that ends too soon, a wrong `Content-Length`, a bad gzip, 2 s each",
    right="the last keys stay",
)
async def cut_off(stage: Stage, record: Record) -> None:
    await _nonsense(stage, record, "truncated", "short", "gzip")


@fault(
    "F8",
    "the issuer answers 500 and 429 in bursts",
    did="both in turn for 8 s, with `Retry-After: 3`, while unknown `kid`s are sent",
    right="`Retry-After` is kept to, whoever asks",
)
async def throttled(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer, stage.verifier(_lasting(stage, issuer)) as verifier:
        good = stage.good(issuer, RATE)
        streams = [good, Stream("unknown", RATE, False, good.tokens, "kid")]
        await issuer.misbehave("throttling", retry_after=3)
        began = time.monotonic()
        async with stage.load(verifier, streams, 9) as load:
            answers = await load.answers()
        asked = await issuer.asked(since=began)
        record.saw(answers)
        gaps = [later - at for at, later in pairwise(asked)]
        rate = 60 * len(asked) / 9
        record.note(f"{len(asked)} fetches in 9 s ({rate:.0f} a minute), shortest pause {min(gaps, default=9):.1f} s")
        record.note(f"good tokens {answers.of('good').share(200):.1%}, unknown {said(answers.of('unknown').statuses)}")
        record.expect(min(gaps, default=9.0) >= 2.9, "Retry-After is not kept to")
        late = answers.of("good").between(began, began + 6)
        record.expect(late.share(200) == 1.0, f"good tokens got {said(late.statuses)}")


@fault(
    "F14",
    "one of two issuers is broken for long",
    did="silent for 8 s with `refresh` 2 s",
    right="the other is fetched when it is due",
)
async def one_of_two(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer, stage.issuer("other") as other:
        made = stage.configuration(stage.trust(issuer), stage.trust(other))
        async with stage.verifier(made) as verifier:
            await issuer.misbehave("silent")
            began, oldest = time.monotonic(), 0.0
            async with stage.load(verifier, [stage.good(other, RATE, 9)], 8) as load:
                while time.monotonic() - began < 8:
                    oldest = max(oldest, await verifier.metric("key_set_age_seconds", issuer="other"))
                    await asyncio.sleep(0.2)
                answers = await load.answers()
            fetches = len(await other.asked(since=began))
        record.saw(answers)
        record.note(f"the other's keys at most {oldest:.1f} s old, {fetches} fetches in 8 s")
        record.note(f"its tokens {answers.share(200):.2%}, p99 {answers.p99:.1f} ms")
        record.expect(oldest <= 2.5, "its keys grew older than keys.refresh")
        record.expect(answers.share(200) == 1.0, f"its tokens got {said(answers.statuses)}")
