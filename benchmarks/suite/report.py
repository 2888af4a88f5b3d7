"""A run as JSON, with every sample, and as Markdown, with medians and ranges."""

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace

from benchmarks.suite.bars import Judged, judged
from benchmarks.suite.results import CACHED_RS256, PATH, Latency, Results, Spread, Throughput

ALSO = {
    CACHED_RS256: {
        "haproxy-rs256": "HAProxy jwt_verify, has no cache",
        "fastapi-rs256": "FastAPI with PyJWT, has no cache",
    },
    PATH: {"envoy-cached-rs256": "Envoy alone, jwt_authn with its cache"},
}
"""Rows that are shown in a second group too, for what they are there."""
ASKED_FOR = (
    "What this project wants to reach, and whether this run, on this machine, did. *missed* is no fault of an "
    "installation. A row whose core was shared with a neighbour, or that has a wide range, decides nothing; nor does a "
    "quick run.\n\n"
)
MARKS = {True: "met", False: "**missed**", None: "not measured"}


def as_json(results: Results) -> str:
    said = asdict(results)
    said["bars"] = [asdict(one) for one in judged(results)]
    return json.dumps(said, indent=1) + "\n"


def markdown(results: Results) -> str:
    parts = [
        _head(results),
        _bars(judged(results)),
        *(_group(group, rows) for group, rows in groups(results).items()),
        _latencies(results.latencies),
        _others(results),
        _list("Left out", results.left_out),
        _list("Wrong: begun, and no figure", results.wrong),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def groups(results: Results) -> dict[str, list[Throughput]]:
    """Rows by group, without those that failed; the fastest first."""
    found: dict[str, list[Throughput]] = {}
    for row in results.rows.values():
        if row.measured:
            found.setdefault(row.group, []).append(row)
    for group, titles in ALSO.items():
        for name, title in titles.items():
            if group in found and name in results.rows and results.rows[name].measured:
                found[group].append(replace(results.rows[name], title=title))
    return {name: sorted(rows, key=lambda row: -row.per_second.median) for name, rows in found.items()}


def _head(results: Results) -> str:
    machine, method = results.machine, results.method
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    virtual = " (virtual)" if machine.get("hypervisor") == "yes" else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores{virtual}, Linux {machine['kernel']}; {versions}.\n\n"
        "Each server has one core and one worker, unless its row says otherwise. "
        f"{method['connections']} connections, {method['tokens']:,} tokens, "
        f"{method['rounds']} rounds of {method['seconds']} s, one server at a time; median (range). "
        f"The core of the load {'was kept from going idle' if method.get('spinners') else 'could go idle'}."
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(spread: Spread, places: int = 0) -> str:
    return f"{spread.median:,.{places}f} ({spread.least:,.{places}f}–{spread.most:,.{places}f})"


def _bars(bars: Sequence[Judged]) -> str:
    rows = [
        [one.title, one.asked, "–" if one.value is None else f"{one.value:.2f}{one.unit}", MARKS[one.met]]
        for one in bars
    ]
    return "## Asked for\n\n" + ASKED_FOR + table(["What", "Asked", "Measured", ""], rows)


def _group(name: str, rows: Sequence[Throughput]) -> str:
    lines = [[row.title, shown(row.per_second), _cpu(row), f"{row.busy:.0%}", _memory(row)] for row in rows]
    return f"## Decisions per second: {name}\n\n" + table(
        ["Server", "1/s", "µs of a core each", "core busy", "MB (most)"], lines
    )


def _cpu(row: Throughput) -> str:
    """With the part of each program, where there are several."""
    names = list(row.samples[0].cpu)
    if len(names) == 1:
        return shown(row.cpu, 1)
    parts = (f"{name} {statistics.median(sample.cpu[name] for sample in row.samples):.1f}" for name in names)
    return f"{shown(row.cpu, 1)}: {' + '.join(parts)}"


def _memory(row: Throughput) -> str:
    now = statistics.median(sample.memory for sample in row.samples)
    return f"{now / 1e6:,.0f} ({max(sample.memory_most for sample in row.samples) / 1e6:,.0f})"


def _latencies(latencies: Sequence[Latency]) -> str:
    lines = [
        [
            one.title,
            f"{one.rate:,.0f}",
            one.meaning,
            *(shown(one.of(which), 2) for which in ("p50", "p99", "p999")),
            one.doubt,
        ]
        for one in sorted(latencies, key=lambda one: one.meaning == "the same for all")
        if one.samples and not one.error
    ]
    if not lines:
        return ""
    head = ["Server", "1/s", "which is", "p50", "p99", "p99.9", "doubtful as"]
    return "## Milliseconds to the answer, at a fixed rate\n\n" + table(head, lines)


def _others(results: Results) -> str:
    return "\n".join(_memory_and_start(results))


def _memory_and_start(results: Results) -> Iterator[str]:
    found = results.identities
    if found is not None or results.starts:
        yield "## Memory and start of the verifier\n"
    if found is not None:
        empty, full = found.empty / 1e6, found.full / 1e6
        yield f"- Empty {empty:.0f} MB; with {found.count:,} identities {full:.0f} MB, {found.each:,.0f} bytes each."
    if results.starts:
        yield f"- From start to ready: {shown(Spread.of(results.starts), 2)} s, of {len(results.starts)} starts."


def _list(title: str, entries: dict[str, str]) -> str:
    if not entries:
        return ""
    return f"## {title}\n\n" + "\n".join(f"- {name}: {why}" for name, why in entries.items())
