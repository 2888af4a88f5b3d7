"""Clients that hang up, send forged tokens without end, or send nothing (F26, F31, F32, F40)."""

import asyncio
import os
import re
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.suite.processes import ROOT
from tests.faults.answers import said
from tests.faults.outcome import Record, fault
from tests.faults.stage import Stage, Verifier, seconds
from tests.faults.traffic import End, Stream
from tests.redis_servers import RedisServer, command, line_to, redis_server

RATE = 200.0


@fault(
    "F26",
    "clients hang up while they wait",
    did="30 % of requests are given up within 30 ms, with Redis and introspection 20 ms away",
    right="no answer is about another token; connections to Redis and issuers stay as many as they were",
)
async def cancelled(stage: Stage, record: Record) -> None:
    with redis_server() as redis:
        async with line_to(redis) as line, stage.issuer() as issuer, stage.issuer("asked") as asked:
            line.delay = 0.01
            await asked.tell(delay=0.02)
            shared = {"url": line.url, "key_file": stage.sealing_key(), "timeout": "200ms"}
            made = stage.configuration(
                stage.trust(issuer), stage.ask(asked), redis=shared, cache={"share": "always", "max_entries": 10}
            )
            async with stage.verifier(made) as verifier:
                opaque = Stream("opaque", RATE, True, stage.opaque(4_000), cancelled=0.3)
                good = stage.good(issuer, RATE, 9)
                signed = Stream("signed", RATE, True, good.tokens, cancelled=0.3)
                async with stage.load(verifier, [opaque, signed], 2, connections=256) as load:
                    record.saw(await load.answers(), undecided_is_right=False)
                await asyncio.sleep(1)
                before, pool = verifier.descriptors(), _clients(redis)
                async with stage.load(verifier, [opaque, signed], 8, connections=256) as load:
                    answers = await load.answers()
                await asyncio.sleep(1)
                after, pool_after = verifier.descriptors(), _clients(redis)
                well, undecided = await verifier.until_status("good-at-last", 200), await verifier.undecided()
    record.saw(answers, undecided_is_right=False)
    mixed = answers.statuses[End.MIXED_UP]
    record.note(f"{said(answers.statuses)}; answers about another token {mixed}")
    record.note(f"undecided {undecided}")
    record.note(f"descriptors {before} before and {after} after, connections to Redis {pool} and {pool_after}")
    record.expect(answers.share(200) == 1.0, f"those who stayed got {said(answers.statuses)}")
    record.expect(after <= before + 8, "descriptors were left behind")
    record.expect(well is not None, "it is not well afterwards")


def _clients(redis: RedisServer) -> int:
    """Connections, but for our own."""
    with redis.admin() as admin:
        return int(command(admin, "INFO", "clients")["connected_clients"]) - 1


@fault(
    "F31",
    "a flood of forged tokens",
    did="10,000 distinct bad tokens a second were asked for, for 15 s, over 96 connections: bad signatures, unknown "
    "`kid`s, random opaque ones; beside known and new good tokens; two workers",
    right="good tokens are answered, not much later than before; no memory is kept; nothing is fetched for it",
)
async def flood(stage: Stage, record: Record) -> None:
    async with stage.issuer() as issuer:
        made = stage.configuration(
            stage.trust(issuer), workers=2, keys={"refresh": "1m"}, cache={"max_entries": 20_000}
        )
        async with stage.verifier(made) as verifier:
            known = stage.good(issuer, RATE)
            good = [known, stage.good(issuer, RATE / 2, 22, "new")]
            bad = [Stream(what, 10_000 / 3, False, known.tokens, what) for what in ("signature", "kid", "opaque")]
            async with stage.load(verifier, good, 20) as load:
                await asyncio.sleep(2)
                began, cpu, memory = time.monotonic(), verifier.process.cpu_seconds(), []
                async with stage.load(verifier, bad, 15, connections=96, apart=True) as forging:
                    while time.monotonic() - began < 14:
                        memory.append((time.monotonic(), verifier.process.memory().now))
                        await asyncio.sleep(0.5)
                    busy = (verifier.process.cpu_seconds() - cpu) / (time.monotonic() - began)
                    forged = await forging.answers()
                answers = await load.answers()
            fetches = len(await issuer.asked(since=began))
        record.saw(answers)
        record.saw(forged, undecided_is_right=False)
        during, usual = answers.between(began, began + 15), answers.between(0, began)
        answered = forged.with_status(401)
        grown = (memory[-1][1] - memory[len(memory) // 2][1]) / (memory[-1][0] - memory[len(memory) // 2][0])
        record.note(
            f"{len(answered) / 15:,.0f} bad tokens a second were answered ({said(forged.statuses)}), CPU {busy:.0%}"
        )
        record.note(f"good {during.share(200):.2%}, p99 {during.p99:.0f} ms (before {usual.p99:.0f} ms)")
        record.note(f"memory {grown / 2**20:+.2f} MB a second in the second half, fetches of keys {fetches}")
        record.expect(during.share(200) == 1.0, f"good tokens got {said(during.statuses)}")
        record.expect(during.p99 <= max(100, 5 * usual.p99), "good tokens waited for more than 100 ms")
        record.expect(grown < 2**20, "memory grows by more than 1 MB a second")
        record.expect(fetches <= 2 * 5, "more fetches than one a cooldown and worker")


HEAD = b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def _crowd(verifier: Verifier, number: int, begin: bytes, drip: bytes) -> AsyncIterator[list[float]]:
    """Clients that send ``begin`` and then a ``drip`` each second; gives when each of them was closed."""
    closed: list[float] = []

    async def one() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", verifier.port)
        except OSError:
            closed.append(time.monotonic())
            return
        writer.write(begin)
        ended = asyncio.ensure_future(reader.read())
        try:
            while not (await asyncio.wait({ended}, timeout=1))[0]:
                writer.write(drip)
        finally:
            closed.append(time.monotonic())
            ended.cancel()
            writer.transport.abort()

    tasks = []
    for place in range(number):
        tasks.append(asyncio.create_task(one()))
        if place % 250 == 249:
            await asyncio.sleep(0.05)
    try:
        yield closed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@fault(
    "F32",
    "slow clients",
    did="2,500 whose heads and 2,500 whose bodies come a byte a second, with `read_timeout` 5 s and room for 4,096 "
    "connections",
    right="closed within `read_timeout`; whoever is connected is served meanwhile",
)
async def slow_clients(stage: Stage, record: Record) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), limits={"read_timeout": "5s"})
        async with stage.verifier(made) as verifier, stage.load(verifier, [stage.good(issuer, RATE)], 14) as load:
            await asyncio.sleep(1.5)
            began = time.monotonic()
            async with (
                _crowd(verifier, 2_500, HEAD, b"x") as heads,
                _crowd(verifier, 2_500, HEAD + b"Content-Length: 5000\r\n\r\n{", b" ") as bodies,
            ):
                all_there = time.monotonic()
                most = await verifier.metric("connections")
                newcomer = await verifier.until_status(issuer.token("new"), 200)
                while len(heads) + len(bodies) < 5_000 and time.monotonic() < all_there + 9:
                    await asyncio.sleep(0.1)
                left = 5_000 - len(heads) - len(bodies)
                last = max([*heads, *bodies], default=0.0) - all_there
            answers = await load.answers()
            refused = await verifier.metric("connections_refused_total")
    record.saw(answers)
    during, usual = answers.since(began), answers.between(0, began)
    record.note(
        f"{most:,.0f} connections open, {refused:,.0f} refused; the last one closed {seconds(last)} after, {left} left"
    )
    record.note(f"those connected {during.share(200):.2%}, p99 {during.p99:.0f} ms (before {usual.p99:.0f} ms)")
    record.note(f"a newcomer was answered after {seconds(newcomer)}")
    record.expect(left == 0, f"{left} slow clients were still connected after 9 s")
    record.expect(during.share(200) == 1.0, f"those connected got {said(during.statuses)}")
    record.expect(newcomer is not None and newcomer < 7, "newcomers waited for longer than read_timeout")


@fault(
    "F40",
    "bytes of any kind",
    did="2,000 bad inputs over HTTP (`make fuzz` sends 50,000)",
    right="2xx or 4xx and no defect",
)
async def fuzz(stage: Stage, record: Record) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/fuzz"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, "FUZZ_EXAMPLES": "2000"},
    )
    out, _ = await process.communicate()
    text = out.decode(errors="replace")
    summary = re.search(r"\d+ (?:passed|failed).*", text)
    record.requests += 2_000
    record.note(f"2,000 inputs: {summary[0] if summary else 'no summary'}")
    if process.returncode:
        record.client_errors += text.count("assert status < 500")
        record.expect(False, "the fuzz suite fails")
