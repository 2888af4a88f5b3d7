"""A clock that jumps (F30)."""

import asyncio
import time
from pathlib import Path

from tests.faults.answers import said
from tests.faults.outcome import NotRun, Record, fault
from tests.faults.stage import IssuerProcess, Stage, Verifier
from tests.faults.traffic import Stream

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)
LEEWAY = 30


@fault(
    "F30",
    "the wall clock jumps",
    did="+5 minutes, −5 minutes and +1 day while tokens are asked about; the monotonic clock goes on as it was "
    "(libfaketime)",
    right="no token is allowed beyond `exp` and leeway by the clock that the machine then shows; nothing hangs",
)
async def jump(stage: Stage, record: Record) -> None:
    library = next((path for path in LIBRARIES if Path(path).exists()), None)
    if library is None:
        raise NotRun("libfaketime is not installed (apt-get install faketime)")
    offset = stage.path("offset", "+0s")
    environment = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with stage.issuer() as issuer:
        made = stage.configuration(stage.trust(issuer), keys={"refresh": "1m"})
        async with stage.verifier(made, environment=environment) as verifier:
            for jump in ("+0s", "+300s", "-300s", "+86400s", "+0s"):
                offset.write_text(jump)
                await asyncio.sleep(0.3)
                await _judge(stage, verifier, issuer, record, jump)


async def _judge(stage: Stage, verifier: Verifier, issuer: IssuerProcess, record: Record, jump: str) -> None:
    """Tokens by what they should be when the clock has made this ``jump`` from ours. The same ones are known from
    the second time on."""
    shown = int(time.time()) + int(jump.removesuffix("s"))
    over = {"iat": shown - 600, "exp": shown - LEEWAY - 2}
    to_come = {"iat": shown - 5, "nbf": shown + LEEWAY + 20, "exp": shown + 600}
    current = {"iat": shown - 5, "exp": shown + 60}
    streams = [
        Stream("current", 100, True, stage.tokens(issuer, 20, None, **current)),
        Stream("expired", 100, False, stage.tokens(issuer, 20, None, **over)),
        Stream("not yet", 100, False, stage.tokens(issuer, 20, None, **to_come)),
    ]
    async with stage.load(verifier, streams, 1.5) as load:
        answers = await load.answers()
    record.saw(answers, undecided_is_right=False)
    refused = len(answers.of("current")) - len(answers.of("current").with_status(200))
    record.note(f"{jump}: good tokens refused {refused}, p99 {answers.p99:.0f} ms")
    record.expect(refused == 0, f"{jump}: good tokens got {said(answers.of('current').statuses)}")
