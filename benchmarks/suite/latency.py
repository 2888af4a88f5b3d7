"""Drives the generators: how long answers take at a fixed rate, and asking about many tokens once."""

import json
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.suite.generator import Order, Outcome
from benchmarks.suite.machine import Cores
from benchmarks.suite.processes import ROOT, core_seconds, pinned
from benchmarks.suite.results import Times
from benchmarks.suite.row import Place, Row, Running, WrongRun

CONNECTIONS = 64
"""Of each generator: many more than are under way at half of what a server can do."""
LOW_RATE = 1_000.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What all generators saw together."""

    outcomes: list[Outcome]
    seconds: list[float]


@contextmanager
def _generating(orders: Sequence[Order], cores: Cores) -> Iterator[list["subprocess.Popen[str]"]]:
    started = []
    try:
        for order, core in zip(orders, cores.load, strict=True):
            program = [sys.executable, "-m", "benchmarks.suite.generator", json.dumps(asdict(order))]
            started.append(subprocess.Popen([*pinned([core]), *program], stdout=subprocess.PIPE, text=True, cwd=ROOT))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def _carry_out(orders: Sequence[Order], cores: Cores, within: float) -> Answered:
    outcomes, seconds = [], array("d")
    with _generating(orders, cores) as started:
        for process, order in zip(started, orders, strict=True):
            said, _ = process.communicate(timeout=within)
            if process.returncode:
                raise WrongRun(f"a generator ended with {process.returncode}")
            outcomes.append(Outcome(**json.loads(said)))
            seconds.frombytes(Path(order.times).read_bytes())
    asked, good = sum(order.requests for order in orders), sum(one.good for one in outcomes)
    if good != asked:
        raise WrongRun(f"{asked - good} of {asked} requests got no answer of 2xx")
    return Answered(outcomes, sorted(seconds))


def _orders(place: Place, running: Running, path: str, tokens: Path, requests: int, rate: float) -> list[Order]:
    step = len(place.cores.load)
    share = [len(range(first, requests, step)) for first in range(step)]
    return [
        Order(
            running.port,
            path,
            str(tokens),
            first,
            step,
            share[first],
            rate / step,
            CONNECTIONS if rate else 16,
            str(place.folder / f"times-{first}"),
        )
        for first in range(step)
    ]


def ask_each_once(row: Row, place: Place, running: Running, tokens: Path, count: int) -> None:
    """Fills caches, and makes sure that all tokens are good."""
    orders = _orders(place, running, row.path, tokens, count, rate=0.0)
    _carry_out(orders, place.cores, within=60 + count / 500)


def measure(row: Row, place: Place, running: Running, tokens: Path, rate: float, seconds: float) -> Times:
    requests = int(rate * seconds)
    core, processes = place.cores.server, running.processes.values()
    began, theirs = time.monotonic(), core_seconds(core) - sum(one.cpu_seconds() for one in processes)
    answered = _carry_out(_orders(place, running, row.path, tokens, requests, rate), place.cores, 30 + 2 * seconds)
    theirs = core_seconds(core) - sum(one.cpu_seconds() for one in processes) - theirs
    times, outcomes = answered.seconds, answered.outcomes

    def percentile(share: float) -> float:
        return 1_000 * times[min(int(share * len(times)), len(times) - 1)]

    return Times(
        p50=percentile(0.5),
        p99=percentile(0.99),
        p999=percentile(0.999),
        achieved=sum(one.good / one.seconds for one in outcomes),
        late=sum(one.late for one in outcomes) / requests,
        waited=sum(one.waited for one in outcomes),
        neighbours=max(0.0, theirs / (time.monotonic() - began)),
    )
