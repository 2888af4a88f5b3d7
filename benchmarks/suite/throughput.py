"""Decisions in a second, and what they take: a closed loop of 32 connections, sent by wrk from a core of its own."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.asking import HEADERS
from benchmarks.suite.machine import Cores
from benchmarks.suite.processes import kept_awake, pinned
from benchmarks.suite.results import Sample
from benchmarks.suite.row import Row, Running, WrongRun
from tests.e2e.gateways.programs import find

CONNECTIONS = 32
SCRIPT = Path(__file__).with_name("wrk.lua")
NEARLY = 0.02
"""Look-ups of the check and of the last moment are counted with those that were measured."""


@dataclass(frozen=True, slots=True)
class Load:
    answers: int
    seconds: float


def wrk(port: int, path: str, tokens: Path, seconds: float, core: int) -> Load:
    """Raises ``WrongRun`` unless all answers were good. wrk takes whole seconds only."""
    program = find("wrk")
    if program is None:
        raise RuntimeError("there is no wrk")
    options = ["-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds:.0f}s", "-s", str(SCRIPT)]
    headers = [f"{name}: {value}" for name, value in HEADERS.items()]
    command = [
        *pinned([core]),
        program,
        *options,
        f"http://127.0.0.1:{port}",
        "--",
        str(tokens),
        path,
        *headers,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20, check=False)
    if done.returncode:
        raise WrongRun(f"wrk ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    said = json.loads(done.stdout.splitlines()[-1])
    if said["denied"] or said["broken"] or not said["answers"]:
        raise WrongRun(f"{said['denied']} of {said['answers']} answers were no 2xx, {said['broken']} broken")
    return Load(said["answers"], said["microseconds"] / 1e6)


def measure(row: Row, running: Running, tokens: Path, cores: Cores, seconds: float, *, spin: bool) -> Sample:
    """``running`` is up, checked and has seen its tokens.

    wrk has one thread: it can ask for more than any of the servers answers, and two of them sleep more often, so that
    the server spends a fifth of its time on waking them.
    """
    core = cores.load[0]
    with kept_awake([core] if spin else ()):
        wrk(running.port, row.path, tokens, 1, core)  # warms up
        hits = running.hits()
        before = {name: process.cpu_seconds() for name, process in running.processes.items()}
        load = wrk(running.port, row.path, tokens, seconds, core)
        cpu = {
            name: 1e6 * (process.cpu_seconds() - before[name]) / load.answers
            for name, process in running.processes.items()
        }
    check_hits(row, (running.hits() - hits) / load.answers)
    memories = [process.memory() for process in running.processes.values()]
    return Sample(load.answers / load.seconds, cpu, sum(one.now for one in memories), sum(one.most for one in memories))


def check_hits(row: Row, share: float) -> None:
    """A row must have measured what its name says."""
    if row.hits == "all" and share < 1 - NEARLY:
        raise WrongRun(f"only {share:.1%} of the tokens were found in the cache")
    if row.hits == "none" and share > NEARLY:
        raise WrongRun(f"{share:.1%} of the tokens were found in a cache")
