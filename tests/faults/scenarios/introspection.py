"""An issuer that is asked about its tokens, and is slow or fails (F15, F16)."""

import asyncio
import time

from tests.faults.answers import said
from tests.faults.outcome import Record, fault
from tests.faults.stage import Stage, seconds
from tests.faults.traffic import Stream


@fault(
    "F15",
    "introspection hangs",
    did="silent for 6 s at 100 new opaque tokens a second, `deadline` 1 s, beside JWTs of another issuer",
    right="503 in time for the tokens that cannot be known, a breaker that opens; known tokens and JWTs as before",
)
async def hanging(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer, stage.issuer("asked") as asked:
        made = stage.configuration(stage.trust(issuer), stage.ask(asked, deadline="1s"))
        async with stage.verifier(made) as verifier:
            streams = [
                stage.good(issuer, 150),
                Stream("opaque", 100, True, stage.opaque(1_200)),
                Stream("known", 50, True, stage.opaque(20)),
            ]
            async with stage.load(verifier, streams, 9, connections=400) as load:
                await asyncio.sleep(2)
                began = time.monotonic()
                await asked.misbehave("silent")
                breaker = await verifier.until("introspection_breaker_open", bool, within=5, issuer="asked")
                await asyncio.sleep(max(0, began + 5 - time.monotonic()))
                await asked.behave()
                healed = time.monotonic()
                answers = await load.answers()
            back = await verifier.until_status("good-again", 200)
            depth = (await asked.tell())["most_under_way"]
        record.saw(answers)
        jwts, usual = answers.of("good").between(began, healed), answers.of("good").between(0, began)
        opaque = answers.of("opaque").between(began + 0.1, healed - 1)
        known = answers.of("known").between(began, healed)
        record.note(f"JWTs {jwts.share(200):.2%}, p99 {jwts.p99:.1f} ms (before {usual.p99:.1f} ms)")
        record.note(
            f"new opaque tokens {said(opaque.statuses)}, longest {opaque.longest:.0f} ms; known {known.share(200):.2%}"
        )
        record.note(f"breaker open after {seconds(breaker)}, calls at once at most {depth}; well {seconds(back)} later")
        record.expect(jwts.share(200) == 1.0, f"JWTs got {said(jwts.statuses)}")
        record.expect(known.share(200) == 1.0, f"known opaque tokens got {said(known.statuses)}")
        record.expect(set(opaque.statuses) <= {503, 200}, "opaque tokens got something else than 503")
        record.expect(opaque.longest <= 1_500, "answers took longer than the deadline")
        record.expect(breaker is not None, "the breaker did not open")
        record.expect(back is not None, "no recovery within 15 s")


@fault(
    "F16",
    "introspection fails half of the time",
    did="every other call gets 500 for 6 s, 100 new opaque tokens a second",
    right="503 where it failed and never a denial of a good token; none of it is kept",
)
async def flapping(stage: Stage, record: Record) -> None:
    async with stage.issuer("asked") as asked, stage.verifier(stage.configuration(stage.ask(asked))) as verifier:
        await asked.misbehave("flapping")
        good = stage.opaque(600)
        streams = [Stream("good", 100, True, good), Stream("bad", 50, False, stage.opaque(300, good=False))]
        async with stage.load(verifier, streams, 6) as load:
            answers = await load.answers()
        await asked.behave()
        await verifier.until_status("good-again", 200)
        async with stage.load(verifier, [Stream("good", 600, True, good)], 1) as load:
            again = await load.answers()
    record.saw(answers)
    record.saw(again, undecided_is_right=False)
    denied = answers.of("good").share(401)
    record.note(f"good tokens {said(answers.of('good').statuses)}; bad {said(answers.of('bad').statuses)}")
    record.note(f"denials of good tokens {denied:.1%}; the same tokens afterwards {said(again.statuses)}")
    record.expect(denied == 0, "good tokens were denied")
    record.expect(again.share(200) == 1.0, "something of the failures was kept")
