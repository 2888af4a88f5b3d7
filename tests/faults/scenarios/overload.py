"""More than it can do (F35)."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.suite.processes import family
from tests.faults.answers import Answers, said
from tests.faults.control_group import control_group
from tests.faults.outcome import Record, fault
from tests.faults.stage import Stage, Verifier
from tests.faults.traffic import Stream

ALL_CONNECTIONS = 4_096
"""The default of ``limits.connections``; a share of a core gets that share of them, so that the queue is as long in
seconds as that of a whole one."""
PATIENCE = 1.0
"""Seconds after which a gateway gives up."""
QUEUE = 0.05
"""Seconds that a request waits at the gateway for a connection."""
BEGINNING = 2.0
"""Seconds in which connections are made, which costs more than to answer. What comes then is counted and not judged."""
LASTS = 5.0
"""Seconds after that."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Per second, and milliseconds."""

    times: int
    goodput: float
    p99: float
    others: str

    def __str__(self) -> str:
        return f"{self.times}×: {self.goodput:,.0f}/s, p99 {self.p99:,.0f} ms, {self.others}"


async def _capacity(stage: Stage, verifier: Verifier, stream: Stream) -> float:
    """Answers a second of a closed loop: 32 connections that always have something to send."""
    async with stage.load(verifier, [stream], 3, connections=32, timeout=PATIENCE, patience=QUEUE) as load:
        answers = await load.answers()
    return len(answers.with_status(200)) / 3


async def _overload(stage: Stage, record: Record, made: dict[str, Any], tokens: str, share: float) -> None:
    """``share``: of a core, so little that ten times what it can do can be sent by Python."""
    known, connections = made["cache"]["max_entries"] > 10, round(share * ALL_CONNECTIONS)
    with control_group(cores=share) as group:
        async with stage.verifier(made) as verifier:
            group.take(*family(verifier.process.pid))
            if known:
                async with stage.load(verifier, [Stream("good", 500, True, tokens)], 2) as load:
                    await load.answers()
            capacity = await _capacity(stage, verifier, Stream("good", 8_000, True, tokens))
            record.note(f"capacity {capacity:,.0f}/s with {share:.0%} of a core, {connections} connections")
            memory = verifier.process.memory().now
            for times in (2, 5, 10):
                stream = Stream("good", times * capacity, True, tokens)
                async with stage.load(
                    verifier,
                    [stream],
                    BEGINNING + LASTS,
                    connections=connections,
                    timeout=PATIENCE,
                    patience=QUEUE,
                    generators=2,
                ) as load:
                    answers = await load.answers()
                measured = _measured(times, answers.since(load.began + BEGINNING))
                record.saw(answers)
                record.note(str(measured))
                record.expect(measured.goodput > 0.7 * capacity, f"{times}×: goodput fell to {measured.goodput:,.0f}/s")
                record.expect(measured.p99 < 1_000 * PATIENCE, f"{times}×: whoever is served waits for too long")
                await asyncio.sleep(1.2)
            grown = verifier.process.memory().now - memory
            well = await verifier.until_status(first_of(tokens), 200)
            record.note(f"memory {grown / 2**20:+.0f} MB, well {0 if well is None else 1_000 * well:.0f} ms afterwards")
            record.expect(well is not None, "it is not well afterwards")
            record.expect(grown < 64 * 2**20, "memory grew by more than 64 MB")


def first_of(tokens: str) -> str:
    return Path(tokens).read_text().split(maxsplit=1)[0]


def _measured(times: int, answers: Answers) -> Measured:
    served = answers.with_status(200)
    others = answers.statuses
    del others[200]
    return Measured(times, len(served) / LASTS, served.p99, said(others))


@fault(
    "F35a",
    "too many known tokens",
    did="2, 5 and 10 times what was measured before, sent whatever becomes of it by gateways that have all "
    "connections open and give up after a second; the verifier has a small share of a core",
    right="as many are served as before, in time; the others are turned away or never begun; memory stays",
)
async def known(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), keys={"refresh": "1m"}, cache={"max_entries": 1_000})
        await _overload(stage, record, made, stage.tokens(issuer, 200), 0.05)


@fault(
    "F35b",
    "too many new tokens",
    did="the same, each token verified anew (EdDSA)",
    right="the same",
)
async def new(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), keys={"refresh": "1m"}, cache={"max_entries": 10})
        await _overload(stage, record, made, stage.tokens(issuer, 3_000), 0.2)


@fault(
    "F35c",
    "too many new tokens beside known ones",
    did="new tokens at 5 times what was measured, known ones at a tenth of it, over connections of their own",
    right="known tokens are served in time",
)
async def mixed(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), keys={"refresh": "1m"})
        tokens = stage.tokens(issuer, 100)
        with control_group(cores=0.2) as group:
            async with stage.verifier(made) as verifier:
                group.take(*family(verifier.process.pid))
                fresh = Stream("bad", 3_000, False, tokens, "signature")
                async with stage.load(verifier, [fresh], 3, connections=32, timeout=PATIENCE, patience=QUEUE) as load:
                    capacity = len((await load.answers()).with_status(401)) / 3
                known_ones = Stream("known", capacity / 10, True, tokens)
                flood = Stream("bad", 5 * capacity, False, tokens, "signature")
                async with stage.load(
                    verifier, [known_ones], 60, connections=32, timeout=PATIENCE, patience=QUEUE
                ) as load:
                    async with stage.load(
                        verifier,
                        [flood],
                        BEGINNING + LASTS,
                        connections=round(0.2 * ALL_CONNECTIONS),
                        timeout=PATIENCE,
                        patience=QUEUE,
                        apart=True,
                    ) as flooding:
                        forged = await flooding.answers()
                    answers = await load.stop()
        record.saw(answers)
        record.saw(forged)
        begins = flooding.began + BEGINNING
        during = answers.between(begins, begins + LASTS)
        record.note(f"capacity {capacity:,.0f} new tokens a second; of the flood {said(forged.statuses)}")
        times = f"p50 {during.percentile(0.5):.0f} ms, p99 {during.p99:.0f} ms"
        record.note(f"known tokens {during.share(200):.2%} in time, {times}")
        record.expect(during.share(200) > 0.99, f"known tokens got {said(during.statuses)}")
