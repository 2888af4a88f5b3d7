"""Stops, rolling restarts and new configurations, under load (F28, F29, F38)."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

import yaml

from tests.e2e.gateways.programs import find
from tests.faults.answers import Answers, said
from tests.faults.outcome import NotRun, Record, fault
from tests.faults.stage import IssuerProcess, Stage, Verifier, milliseconds, seconds
from tests.faults.traffic import Stream
from tests.support import free_port

RATE = 200.0
DRAIN = 2.0
"""Seconds of ``drain_delay``. Who follows ``/readyz`` has long left when it is over."""


async def _exit(verifier: Verifier) -> tuple[int, float]:
    """Its exit code, and how long it took from now; -1 where it has not ended in 15 seconds."""
    began = time.monotonic()
    code = await asyncio.to_thread(_wait, verifier)
    return code, time.monotonic() - began


def _wait(verifier: Verifier) -> int:
    try:
        return verifier.process._process.wait(timeout=15)
    except TimeoutError:
        return -1


async def _unready(verifier: Verifier) -> float:
    """Seconds until it says that it is not ready."""
    began = time.monotonic()
    while await verifier.probe("/readyz") == 200:
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@fault(
    "F28",
    "SIGTERM under load",
    did="20 times, with `drain_delay` 2 s: whoever asks follows `/readyz` and leaves within a second; some "
    "requests wait 300 ms for introspection",
    right="not ready at once, every request answered, those in flight too, exit code 0 in time",
)
async def terminated(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer, stage.issuer("asked") as asked:
        await asked.tell(delay=0.3)
        tokens, opaque = stage.good(issuer, RATE), stage.opaque(4_000)
        streams = [tokens, Stream("opaque", 40, True, opaque)]
        ends: list[tuple[int, float]] = []
        unready: list[float] = []
        every: list[Answers] = []

        async def one() -> None:
            made = stage.configuration(
                stage.trust(issuer),
                stage.ask(asked),
                drain_delay=f"{DRAIN:g}s",
                stop_timeout="5s",
                cache={"max_entries": 10},
            )
            async with (
                stage.verifier(made, cores=[stage.cores.server, stage.cores.second]) as verifier,
                stage.load(verifier, streams, 30, connections=32) as load,
            ):
                await asyncio.sleep(0.7)
                os.kill(verifier.process.pid, signal.SIGTERM)
                ending = asyncio.create_task(_exit(verifier))
                unready.append(await _unready(verifier))
                await asyncio.sleep(max(0.0, DRAIN / 2 - unready[-1]))
                every.append(await load.stop())
                ends.append(await ending)

        async def several() -> None:
            for _ in range(5):
                await one()

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(several())
    answers = Answers.together(every)
    record.saw(answers, undecided_is_right=False)
    failed = len(answers) - len(answers.with_status(200))
    codes, took = {code for code, _ in ends}, sorted(took for _, took in ends)
    record.note(f"{len(ends)} stops: {failed} of {len(answers):,} requests failed ({said(answers.statuses)})")
    record.note(
        f"not ready after at most {milliseconds(max(unready))}, ended after {took[0]:.1f} to {took[-1]:.1f} s, "
        f"exit codes {sorted(codes)}"
    )
    record.expect(failed == 0, f"{failed} requests failed")
    record.expect(codes == {0}, f"exit codes {sorted(codes)}")
    record.expect(took[-1] < DRAIN + 5, "a stop took longer than drain_delay and stop_timeout")


PROXY = """
global
    maxconn 4096
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
frontend in
    bind 127.0.0.1:{port}
    default_backend verifiers
backend verifiers
    balance roundrobin
    option httpchk GET /readyz
    default-server inter 200ms fall 1 rise 1
{servers}
"""


@fault(
    "F29",
    "a rolling restart behind HAProxy",
    did="three replicas, one after another stopped and started anew, at 300 requests a second through HAProxy, which "
    "follows `/readyz` and repeats nothing",
    right="no request fails; issuers are asked by one replica at a time",
)
async def rolling(stage: Stage, record: Record) -> None:
    program = find("haproxy")
    if program is None:
        raise NotRun("haproxy is not installed")
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(stage.issuer())
        asked = await stack.enter_async_context(stage.issuer("asked"))
        made = [
            stage.configuration(
                stage.trust(issuer), stage.ask(asked), drain_delay=f"{DRAIN:g}s", keys={"refresh": "1m"}
            )
            for _ in range(3)
        ]
        replicas = [await _replica(stage, stack, one) for one in made]
        port = free_port()
        servers = [
            f"    server r{place} {one['listen']} check port {one['ops']['listen'].rpartition(':')[2]}"
            for place, one in enumerate(made)
        ]
        config = stage.path("haproxy.cfg", PROXY.format(port=port, servers="\n".join(servers)))
        proxy = await asyncio.create_subprocess_exec(
            program, "-q", "-db", "-f", config, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await asyncio.sleep(1)
            answers, asking = await _rolled(stage, stack, issuer, asked, made, replicas, port)
        finally:
            proxy.kill()
            await proxy.wait()
    record.saw(answers, undecided_is_right=False)
    failed = len(answers) - len(answers.with_status(200))
    fetched, introspected = asking
    busiest = max((sum(at <= one < at + 1 for one in introspected) for at in introspected), default=0)
    record.note(f"{failed} of {len(answers):,} requests failed ({said(answers.statuses)}), p99 {answers.p99:.0f} ms")
    record.note(f"fetches of keys {len(fetched)}; introspections at most {busiest} a second")
    record.expect(failed == 0, f"{failed} requests failed")
    record.expect(len(fetched) <= 6, "more fetches than one for each start")


async def _replica(stage: Stage, stack: AsyncExitStack, made: dict[str, Any]) -> Verifier:
    return await stack.enter_async_context(stage.verifier(made, cores=[stage.cores.server, stage.cores.second]))


async def _rolled(
    stage: Stage,
    stack: AsyncExitStack,
    issuer: IssuerProcess,
    asked: IssuerProcess,
    made: list[dict[str, Any]],
    replicas: list[Verifier],
    port: int,
) -> tuple[Answers, tuple[list[float], list[float]]]:
    """What came of the load, and when keys were fetched and tokens asked about."""
    streams = [
        stage.good(issuer, RATE),
        stage.good(issuer, RATE / 4, 40, "new"),
        Stream("opaque", RATE / 4, True, stage.opaque(50)),
    ]
    async with stage.load(port, streams, 60) as load:
        await asyncio.sleep(1)
        began = time.monotonic()
        for place, verifier in enumerate(replicas):
            os.kill(verifier.process.pid, signal.SIGTERM)
            await _exit(verifier)
            await _replica(stage, stack, made[place])
            await asyncio.sleep(0.6)  # until HAProxy has noticed
        answers = await load.stop()
    return answers, (await issuer.asked(since=began), await asked.asked("/introspect", since=began))


BAD: tuple[dict[str, Any], ...] = ({"algorithms": ["RS999"]}, {"audiences": []}, {})
"""What is changed of the issuer; where that is nothing, there is a route that cannot be."""


@fault(
    "F38",
    "a bad configuration, and many good ones",
    did="an unknown algorithm, an empty audience and a broken route are pushed with SIGHUP, then 20 good ones, to two "
    "workers under load",
    right="the bad ones are refused and the old one serves; the good ones are applied without a failed request",
)
async def reloaded(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), workers=2, keys={"refresh": "1m"})
        async with stage.verifier(made) as verifier:
            known = stage.good(issuer, RATE)
            forged = Stream("forged", RATE / 2, False, known.tokens, "signature")
            async with stage.load(verifier, [known, stage.good(issuer, RATE / 2, 60, "new"), forged], 60) as load:
                await asyncio.sleep(1)
                refused = 0.0
                for change in BAD:
                    routes = [] if change else [{"path": "no slash"}]
                    _push(verifier, {**made, "issuers": [{**made["issuers"][0], **change}], "routes": routes})
                    wanted = refused + 1
                    await verifier.until(
                        "config_reloads_total", lambda n, wanted=wanted: n >= wanted, 5, result="refused"
                    )
                    refused = await verifier.metric("config_reloads_total", result="refused")
                flag = await verifier.metric("config_last_reload_successful")
                took = []
                for number in range(20):
                    applied = await verifier.metric("config_reloads_total", result="applied")
                    _push(verifier, {**made, "decision_max_age": f"{number + 1}s"})
                    after = await verifier.until(
                        "config_reloads_total", lambda n, was=applied: n > was, 5, result="applied"
                    )
                    took.append(after)
                    await asyncio.sleep(0.1)
                answers = await load.stop()
            well = await verifier.metric("config_last_reload_successful")
    record.saw(answers, undecided_is_right=False)
    good = answers.of("good", "new")
    failed = len(good) - len(good.with_status(200))
    applied_all = [one for one in took if one is not None]
    record.note(f"bad ones refused {refused:.0f}, last_reload_successful {flag:.0f} then {well:.0f}")
    record.note(f"{len(applied_all)} of 20 good ones applied, slowest {seconds(max(applied_all, default=None))}")
    record.note(f"{failed} of {len(good):,} good requests failed, p99 {good.p99:.0f} ms")
    record.note(f"forged tokens {said(answers.of('forged').statuses)}")
    record.expect(refused >= 3 and flag == 0 and well == 1, "the metrics do not tell")
    record.expect(len(applied_all) == 20, "not all good ones were applied")
    record.expect(failed == 0, f"{failed} good requests failed ({said(good.statuses)})")


def _push(verifier: Verifier, configuration: dict[str, Any]) -> None:
    """As deployments do: another file in the place of the old one, and SIGHUP."""
    new = verifier.file.with_suffix(".new")
    new.write_text(yaml.safe_dump(configuration))
    new.rename(verifier.file)
    os.kill(verifier.process.pid, signal.SIGHUP)
