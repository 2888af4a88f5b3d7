"""The process itself: killed, halted, without descriptors, memory or disk (F27, F36, F37)."""

import asyncio
import os
import signal
import time

from benchmarks.suite.processes import family
from tests.faults.answers import said
from tests.faults.control_group import control_group
from tests.faults.outcome import Record, fault
from tests.faults.stage import Stage, milliseconds, seconds
from tests.faults.traffic import Stream

RATE = 300.0


@fault(
    "F27",
    "a worker is killed",
    did="SIGKILL to one of two workers, under load, three times",
    right="the other serves, the dead one is replaced, `/metrics` can be read all the time",
)
async def killed(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), workers=2, keys={"refresh": "1m"})
        async with stage.verifier(made) as verifier:
            scrapes: list[int] = []
            restarts: list[float] = []
            async with stage.load(verifier, [stage.good(issuer, RATE)], 12) as load:
                await asyncio.sleep(1.5)
                began = time.monotonic()
                for number in range(1, 4):
                    os.kill(verifier.lines("worker_started")[-1]["pid"], signal.SIGKILL)
                    at = time.monotonic()
                    while len(verifier.lines("worker_started")) < 2 + number and time.monotonic() < at + 5:
                        scrapes.append(await verifier.probe("/metrics", within=5))
                        await asyncio.sleep(0.05)
                    restarts.append(time.monotonic() - at)
                    await asyncio.sleep(1.2)
                answers = await load.answers()
            counted = await verifier.metric("worker_restarts_total")
        record.saw(answers)
        during = answers.since(began)
        lost = len(during) - len(during.with_status(200))
        record.note(f"{lost} of {len(during):,} requests lost ({said(during.statuses)}), p99 {during.p99:.0f} ms")
        record.note(f"replaced after {', '.join(map(seconds, restarts))}; restarts counted {counted:.0f}")
        record.note(f"{scrapes.count(200)} of {len(scrapes)} scrapes answered")
        record.expect(scrapes.count(200) == len(scrapes), "a scrape failed")
        record.expect(counted == 3, "restarts were not counted")
        record.expect(lost <= 3 * 64, "more was lost than can have been under way")


@fault(
    "F36",
    "the event loop stands still",
    did="the process is stopped for 300 ms, five times, under load",
    right="`/healthz` is answered within a second; times are as before at once",
)
async def stalled(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer, stage.verifier(stage.configuration(stage.trust(issuer))) as verifier:
        stalls: list[float] = []
        async with stage.load(verifier, [stage.good(issuer, RATE)], 10) as load:
            await asyncio.sleep(1.5)
            live = []
            for _ in range(5):
                os.kill(verifier.process.pid, signal.SIGSTOP)
                stalls.append(time.monotonic())
                probing = asyncio.create_task(verifier.probe("/healthz"))
                await asyncio.sleep(0.3)
                os.kill(verifier.process.pid, signal.SIGCONT)
                live.append(await probing)
                await asyncio.sleep(1)
            answers = await load.answers()
    record.saw(answers)
    late = [
        max((one.ended for one in answers.between(at, at + 1).all if one.took > 0.05), default=at + 0.3) - at - 0.3
        for at in stalls
    ]
    record.note(f"good tokens {answers.share(200):.2%}, longest {answers.longest:.0f} ms")
    record.note(f"the last answer above 50 ms at most {milliseconds(max(late))} after the halt; /healthz {live}")
    record.expect(answers.share(200) == 1.0, f"good tokens got {said(answers.statuses)}")
    record.expect(live == [200] * 5, "liveness flaps")
    record.expect(max(late) < 0.5, "it takes longer than half a second to catch up")


@fault(
    "F37a",
    "no descriptors are left",
    did="a limit of 256, 400 clients that stay connected, keys that are due meanwhile",
    right="clients beyond the bound are closed, those connected are served, keys are fetched",
)
async def descriptors(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer))
        async with stage.verifier(made, ["prlimit", "--nofile=256:256"]) as verifier:
            async with stage.load(verifier, [stage.good(issuer, RATE)], 8, connections=32) as load:
                await asyncio.sleep(1.5)
                began = time.monotonic()
                idle = [await asyncio.open_connection("127.0.0.1", verifier.port) for _ in range(400)]
                await asyncio.sleep(4)
                used = verifier.descriptors()
                answers = await load.answers()
                for _, writer in idle:
                    writer.transport.abort()
            refused = await verifier.metric("connections_refused_total")
            fetches = len(await issuer.asked(since=began))
            after = await verifier.until_status(issuer.token("after"), 200)
    record.saw(answers)
    record.note(f"{used} of 256 in use, {refused:.0f} connections refused, {fetches} fetches of keys")
    record.note(f"those connected {answers.share(200):.2%}; afterwards well within {milliseconds(after)}")
    record.expect(answers.share(200) == 1.0, f"those connected got {said(answers.statuses)}")
    record.expect(fetches >= 1, "keys were not fetched")
    record.expect(after is not None, "it is not well afterwards")


@fault(
    "F37b",
    "memory is limited",
    did="a cgroup of 128 MB, 20,000 new tokens with `cache.max_entries` 10,000",
    right="the bound on the cache holds; nothing is killed",
)
async def memory(stage: Stage, record: Record) -> None:
    with control_group(memory=128 * 2**20) as group:
        async with stage.issuer() as issuer:
            made = stage.configuration(stage.trust(issuer), cache={"max_entries": 10_000})
            async with stage.verifier(made) as verifier:
                group.take(*family(verifier.process.pid))
                streams = [stage.good(issuer, 2_000, 10, "new"), stage.good(issuer, RATE)]
                async with stage.load(verifier, streams, 10) as load:
                    answers = await load.answers()
                most, alive = verifier.process.memory().most, verifier.process.alive
                kills = group.kills()
    record.saw(answers)
    record.note(f"at most {most / 2**20:.0f} MB, {kills} kills")
    record.note(f"good tokens {answers.share(200):.2%}, p99 {answers.p99:.0f} ms")
    record.expect(alive and kills == 0, "it was killed")
    record.expect(answers.share(200) == 1.0, f"good tokens got {said(answers.statuses)}")


@fault(
    "F37c",
    "the disk for logs is full",
    did="standard error is /dev/full, every denial is a line",
    right="decisions go on; lines are lost and counted",
)
async def full_disk(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), log={"denials": True, "format": "json"})
        async with stage.verifier(made, ["sh", "-c", 'exec "$0" "$@" 2>/dev/full']) as verifier:
            good = stage.good(issuer, RATE)
            forged = Stream("forged", RATE, False, good.tokens, "signature")
            async with stage.load(verifier, [good, forged], 6) as load:
                answers = await load.answers()
            alive, dropped = verifier.process.alive, await verifier.metric("log_lines_dropped")
    record.saw(answers, undecided_is_right=False)
    record.note(f"good tokens {answers.of('good').share(200):.2%}, p99 {answers.p99:.0f} ms")
    record.note(f"forged tokens {said(answers.of('forged').statuses)}; lines dropped {dropped:.0f}")
    record.expect(alive, "it ended")
    record.expect(answers.of("good").share(200) == 1.0, f"good tokens got {said(answers.statuses)}")
    record.expect(dropped > 0, "lost lines are not counted")
