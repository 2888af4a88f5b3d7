"""Keys that come and go (F10 to F13)."""

import asyncio
import time

from tests.faults.answers import said
from tests.faults.outcome import Record, fault
from tests.faults.stage import Stage, milliseconds, seconds
from tests.faults.traffic import Stream
from tests.support import private_key, public_jwk

RATE = 200.0


@fault(
    "F10",
    "one key of five is malformed",
    did="a set of four good keys and one whose point is cut short",
    right="four keys are used, one is counted as dropped",
)
async def malformed_key(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        keys = [private_key("EdDSA", f"five-{number}") for number in range(4)]
        odd = public_jwk(private_key("EdDSA", "five-4"))
        await issuer.publish(*keys, {**odd, "x": odd["x"][:20]})
        async with stage.verifier(stage.configuration(stage.trust(issuer))) as verifier:
            statuses = [await verifier.verify(issuer.token(place, key)) for place, key in enumerate(keys)]
            forged = await verifier.verify(issuer.token("odd", private_key("EdDSA", "five-4")))
            loaded = await verifier.metric("key_set_keys", issuer="main")
            dropped = await verifier.metric("keys_dropped", issuer="main")
        record.note(f"{loaded:.0f} keys used, {dropped:.0f} dropped; their tokens {statuses}, the odd one's {forged}")
        record.expect((loaded, dropped) == (4, 1), "not exactly the odd one was dropped")
        record.expect(statuses == [200] * 4 and forged == 401, "tokens were answered in another way")


@fault(
    "F11",
    "a new key is used before it is known",
    did="1,000 first tokens of a new key at once, while known tokens go on; `unknown_kid_cooldown` 1 s",
    right="one fetch, then 200 for all of them",
)
async def early_rotation(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), keys={"unknown_kid_cooldown": "1s"})
        async with stage.verifier(made) as verifier:
            new = private_key("EdDSA", "rotated")
            tokens = stage.tokens(issuer, 1_000, new)
            good = stage.good(issuer, RATE)
            herd = Stream("herd", 20_000, True, tokens)
            await asyncio.sleep(1.1)  # the cooldown of the first fetch
            async with stage.load(verifier, [good], 5) as load:
                await asyncio.sleep(1)
                await issuer.publish(issuer.signing, new)
                began = time.monotonic()
                async with stage.load(verifier, [herd], 0.05, connections=1_000) as first:
                    firsts = await first.answers()
                asked = await issuer.asked(since=began)
                answers = await load.answers()
        record.saw(answers)
        record.saw(firsts)
        record.note(
            f"{len(firsts):,} first tokens: {said(firsts.statuses)}, p50 {firsts.percentile(0.5):.0f} ms, "
            f"p99 {firsts.p99:.0f} ms; fetches {len(asked)}"
        )
        record.note(f"known tokens {answers.share(200):.2%}, p99 {answers.p99:.1f} ms")
        record.expect(firsts.share(200) == 1.0, "first tokens of a new key were refused")
        record.expect(len(asked) == 1, "more than one fetch")
        record.expect(answers.share(200) == 1.0, f"known tokens got {said(answers.statuses)}")


@fault(
    "F12",
    "a key leaves the set",
    did="of two keys one is taken away; its tokens are known to two workers; `refresh` 2 s",
    right="its tokens are refused by all workers after the next fetch, cached allows included",
)
async def removed_key(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        leaving = private_key("EdDSA", "leaving")
        await issuer.publish(issuer.signing, leaving)
        async with stage.verifier(stage.configuration(stage.trust(issuer), workers=2)) as verifier:
            kept = stage.good(issuer, RATE)
            gone = Stream("gone", RATE, True, stage.tokens(issuer, 50, leaving))
            async with stage.load(verifier, [kept, gone], 6) as load:
                await asyncio.sleep(1.5)
                began = time.monotonic()
                await issuer.publish(issuer.signing)
                answers = await load.answers()
        record.saw(answers)
        last = max(answer.ended for answer in answers.of("gone").with_status(200).all) - began
        late = answers.of("gone").since(began + 2.5)
        record.note(f"last allow {seconds(last)} after the key left, then {said(late.statuses)}")
        record.note(f"tokens of the other key {answers.of('good').share(200):.2%}")
        record.expect(last <= 2.5, "an allow after the next fetch was due")
        record.expect(set(late.statuses) == {401}, "refusals are not all 401")
        record.expect(answers.of("good").share(200) == 1.0, "tokens of the other key were refused")


@fault(
    "F13",
    "all keys are replaced at once",
    did="a new set, from one moment to the next all tokens are signed with it; unknown `kid`s are sent besides",
    right="well again within a cooldown; no more fetches than one a cooldown",
)
async def all_replaced(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), keys={"unknown_kid_cooldown": "1s"})
        async with stage.verifier(made) as verifier:
            new = private_key("EdDSA", "emergency")
            old = stage.good(issuer, RATE, name="old")
            replaced = Stream("new", 2 * RATE, True, stage.tokens(issuer, int(8 * RATE), new))
            unknown = Stream("unknown", RATE, False, old.tokens, "kid")
            async with stage.load(verifier, [unknown, old], 6) as load:
                await asyncio.sleep(1.5)
                await issuer.publish(new)
                began = time.monotonic()
                async with stage.load(verifier, [replaced], 4) as after:
                    tokens = await after.answers()
                answers = await load.answers()
                asked = await issuer.asked(since=began)
        record.saw(answers)
        record.saw(tokens)
        refused = [answer for answer in tokens.all if answer.status != 200]
        last = max((answer.ended for answer in refused), default=began) - began
        old_last = max((one.ended for one in answers.of("old").with_status(200).all), default=began) - began
        record.note(f"{len(refused)} of {len(tokens):,} new tokens refused, the last one after {milliseconds(last)}")
        record.note(f"last allow of an old token after {milliseconds(old_last)}; fetches {len(asked)} in 4.5 s")
        record.expect(last <= 1.5, "new tokens were refused for longer than a cooldown")
        record.expect(old_last <= 1.5, "old tokens were allowed for longer than a cooldown")
        record.expect(len(asked) <= 6, "more fetches than one a cooldown")
