"""Plays the faults one after another, and writes ``docs/reliability.md``."""

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from benchmarks.suite.machine import cores
from tests.faults import report, scenarios
from tests.faults.outcome import FAULTS, Fault, NotRun, Record, Result
from tests.faults.stage import Stage

LONGEST = 120.0
"""Seconds that a scenario may take."""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    arguments.add_argument("--only", default="", help="numbers of faults with commas between; nothing is written")
    arguments.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="of the verifier")
    given = arguments.parse_args()
    scenarios.load()
    chosen = sorted(FAULTS.values(), key=lambda one: one.order)
    if given.only:
        wanted = set(given.only.split(","))
        unknown = wanted - set(FAULTS)
        if unknown:
            sys.exit(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(sorted(FAULTS))}")
        chosen = [one for one in chosen if one.number in wanted]
    results = asyncio.run(play(chosen, given.loop))
    if not given.only:
        report.write(results, given.loop)
    if any(result.is_dangerous for result in results):
        sys.exit(1)


async def play(chosen: Sequence[Fault], loop: str) -> list[Result]:
    mine = cores()
    # The other processes are put on cores of their own; this one belongs to none of them.
    os.sched_setaffinity(0, mine.load)
    results = []
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        for one in chosen:
            print(f"{one.number:>4}  {one.title} … ", end="", flush=True)
            with tempfile.TemporaryDirectory(prefix="verifier-faults-") as folder:
                result = await _play(one, Stage(Path(folder), mine, http, loop))
            results.append(result)
            print(f"{result.verdict.strip('*')} ({result.seconds:.0f} s)")
            for line in [*result.record.figures, *(f"! {text}" for text in result.record.shortfalls)]:
                print(f"        {line}")
            if result.missing or result.broke:
                print(f"        ! {result.missing or result.broke}")
            gc.collect()
    return results


async def _play(one: Fault, stage: Stage) -> Result:
    record, began = Record(), time.monotonic()
    missing = broke = ""
    try:
        async with asyncio.timeout(LONGEST):
            await one.run(stage, record)
    except NotRun as reason:
        missing = str(reason)
    except Exception as error:  # noqa: BLE001 - the others are still played, and the run fails
        broke = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    return Result(one, record, time.monotonic() - began, missing, broke)


if __name__ == "__main__":
    main()
