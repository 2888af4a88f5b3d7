"""A run as a page and as JSON."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite.machine import description, versions
from tests.faults.outcome import Result

DOCS = Path(__file__).parents[2] / "docs"
HEAD, PAGE, DATA = (DOCS / name for name in ("reliability.head.md", "reliability.md", "reliability.json"))
SHOWN = ("python", "verifier", "aiohttp", "cryptography", "redis", "uvloop", "haproxy", "redis-server")


def write(results: Sequence[Result], loop: str) -> None:
    about = {**description(), "event_loop": loop, "date": time.strftime("%Y-%m-%d", time.gmtime())}
    known = {name: version for name, version in versions().items() if name in SHOWN}
    PAGE.write_text(page(HEAD.read_text("utf-8"), results, about, known), "utf-8")
    DATA.write_text(as_json(results, about, known), "utf-8")


def page(head: str, results: Sequence[Result], about: dict[str, Any], known: dict[str, str]) -> str:
    return (
        "\n".join(
            [
                head.rstrip(),
                "",
                "## The last run",
                "",
                f"{about['date']}, {about['cpu']} with {about['cores']} cores and {about['memory_mb']:,} MB, "
                f"kernel {about['kernel']}, {about['event_loop']}; "
                f"{', '.join(f'{name} {version}' for name, version in known.items())}.",
                "",
                _summary(results),
                "",
                "| | Fault, and what was done | Right behaviour | Measured | Wrong allows | 5xx | Verdict |",
                "|---|---|---|---|---|---|---|",
                *map(_row, results),
                "",
                *_shortfalls(results),
            ]
        ).rstrip()
        + "\n"
    )


def _summary(results: Sequence[Result]) -> str:
    run = [result for result in results if not result.missing]
    short = sum(bool(result.record.shortfalls) for result in run)
    requests = sum(result.record.requests for result in run)
    wrong = sum(result.record.wrong_allows for result in run)
    errors = sum(result.record.client_errors for result in run)
    return (
        f"{len(run)} faults and {requests:,} requests of load: **{wrong} wrong allows, {errors} answers of 5xx that "
        f"clients caused**. {short} fell short in some other way, {len(results) - len(run)} could not be run."
    )


def _row(result: Result) -> str:
    fault, record = result.fault, result.record
    cells = [
        fault.number,
        f"**{fault.title}**: {fault.did}",
        fault.right,
        result.missing or "; ".join(record.figures),
        "" if result.missing else str(record.wrong_allows),
        "" if result.missing else str(record.client_errors),
        result.verdict,
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _shortfalls(results: Sequence[Result]) -> list[str]:
    said = [
        f"- {result.fault.number}, {result.fault.title}: {'; '.join([*result.record.shortfalls, result.broke][:6])}"
        for result in results
        if result.record.shortfalls or result.broke
    ]
    return ["## What fell short", "", *(line.removesuffix("; ") for line in said), ""] if said else []


def as_json(results: Sequence[Result], about: dict[str, Any], known: dict[str, str]) -> str:
    faults = [
        {
            "fault": result.fault.number,
            "title": result.fault.title,
            "verdict": result.verdict.strip("*"),
            "measured": result.record.figures,
            "fell_short": result.record.shortfalls,
            "wrong_allows": result.record.wrong_allows,
            "client_errors": result.record.client_errors,
            "requests": result.record.requests,
            "seconds": round(result.seconds, 1),
            "not_run": result.missing,
            "broke": result.broke,
        }
        for result in results
    ]
    return json.dumps({"about": about, "versions": known, "faults": faults}, indent=1) + "\n"
