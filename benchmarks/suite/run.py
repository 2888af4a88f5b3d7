"""Carries a plan out: round after round, every server once in each, each round beginning elsewhere.

Servers are started one at a time, and ended when their turn is over. So nobody else is on the machine while one is
measured, and the chance of one start (addresses, hashes) is not taken for a property of the server.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import SubprocessError

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.suite import latency, machine, plan, resources, throughput
from benchmarks.suite.machine import Cores
from benchmarks.suite.results import Latency, Rate, Results, Throughput
from benchmarks.suite.row import Place, Row, Running, WrongRun, check
from benchmarks.suite.tokens import COUNT, Mint, Tokens

SAMPLE = 200
"""Tokens asked about before a server without a cache is measured."""
Failures = (WrongRun, RuntimeError, OSError, ValueError, SubprocessError)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured; ``other_rounds`` are those of rows that are not main ones."""

    rounds: int
    other_rounds: int
    seconds: int
    latency_rounds: int
    latency_seconds: float
    starts: int
    quick: bool


FULL = Extent(rounds=5, other_rounds=3, seconds=3, latency_rounds=3, latency_seconds=3, starts=9, quick=False)
QUICK = Extent(rounds=2, other_rounds=0, seconds=1, latency_rounds=1, latency_seconds=2, starts=3, quick=True)


def rotated(rows: Sequence[Row], turn: int, turns: int) -> list[Row]:
    """Each turn begins at another row, so that a machine that gets slower harms none more than others."""
    first = turn * len(rows) // turns
    return [*rows[first:], *rows[:first]]


class Suite:
    """One run."""

    def __init__(
        self, folder: Path, cores: Cores, extent: Extent, only: Sequence[str], console: Console, *, spin: bool
    ) -> None:
        """``spin``: whether the core of the load is kept from going idle."""
        self._folder = folder
        self._cores = cores
        self._extent = extent
        self._only = tuple(only)
        self._spin = spin
        self._mint = Mint(folder)
        self._progress = Progress(
            TextColumn("{task.description:56}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=None)
        method: dict[str, str | int | float] = {
            **asdict(extent),
            "tokens": COUNT,
            "connections": throughput.CONNECTIONS,
            "spinners": spin,
        }
        self.results = Results(machine.description(), machine.versions(), method)

    def run(self) -> Results:
        rows = self._rows()
        timed = [row for row in rows if row.name in plan.LATENCY] if self._wants("latency") else []
        steps = sum(self._rounds(row) for row in rows) + self._extent.latency_rounds * len(timed)
        with self._progress:
            self._progress.update(self._task, total=steps + 2)
            for row in rows:
                self.results.rows[row.name] = Throughput(row.name, row.title, row.group, row.algorithm)
            for turn in range(self._extent.rounds):
                for row in rotated(rows, turn, self._extent.rounds):
                    if turn < self._rounds(row):
                        self._throughput(row, turn)
            self._latencies(timed)
            self._attempt("memory", self._memory)
            self._attempt("start", self._starts)
        return self.results

    def _wants(self, name: str) -> bool:
        return not self._only or name.startswith(self._only)

    def _rounds(self, row: Row) -> int:
        """What is asked for by name is measured whatever the extent."""
        return self._extent.rounds if row.main or self._only else self._extent.other_rounds

    def _rows(self) -> list[Row]:
        rows = []
        for one in plan.planned(self._cores):
            if not self._wants(one.row.name):
                continue
            if one.lacks:
                self.results.left_out[f"{one.row.title}, {one.row.algorithm}"] = one.lacks
            elif self._rounds(one.row):
                rows.append(one.row)
        return rows

    def _says(self, what: str) -> None:
        self._progress.update(self._task, description=what, refresh=True)
        if not self._progress.console.is_terminal:  # where a bar is shown at the end only
            self._progress.console.print(what)

    def _step(self) -> None:
        self._progress.advance(self._task)
        self._progress.refresh()

    def _served(self, row: Row, measure: Callable[[Place, Running, Tokens], None]) -> None:
        """Start it, check it, fill its caches, measure it."""
        tokens = self._mint.of(row.algorithm)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            place = Place(Path(folder), self._cores)
            with row.serve(place, tokens) as running:
                check(row, running, tokens)
                latency.ask_each_once(row, place, running, tokens.file, (row.passes * COUNT) or SAMPLE)
                measure(place, running, tokens)

    def _throughput(self, row: Row, turn: int) -> None:
        self._says(f"round {turn + 1}: {row.title}, {row.algorithm}")
        result = self.results.rows[row.name]

        def measure(_: Place, running: Running, tokens: Tokens) -> None:
            seconds = self._extent.seconds
            sample = throughput.measure(row, running, tokens.file, self._cores, seconds, spin=self._spin)
            result.samples.append(sample)

        if not result.error:
            try:
                self._served(row, measure)
            except Failures as error:
                result.error = str(error)
        self._step()

    def _latencies(self, rows: Sequence[Row]) -> None:
        wanted = {row.name: self._at_rates(row) for row in rows}
        self.results.latencies += [one for found in wanted.values() for one in found]
        for turn in range(self._extent.latency_rounds):
            for row in rotated(rows, turn, self._extent.latency_rounds):
                self._says(f"latency, round {turn + 1}: {row.title}")
                self._times(row, [one for one in wanted[row.name] if not one.error])
                self._step()

    def _at_rates(self, row: Row) -> list[Latency]:
        """The null responder is asked at the rate of the verifier, with which it is compared."""
        meaning: Rate = "half of its own maximum"
        source = row.name
        if row.name == "null":
            meaning, source = "half of the verifier's maximum", "verifier-cached-rs256"
        most = self.results.per_second(source)
        found = [Latency(row.name, row.title, round(most / 2, -2), meaning)] if most else []
        if not self._extent.quick:
            found.append(Latency(row.name, row.title, latency.LOW_RATE, "the same for all"))
        return found

    def _times(self, row: Row, wanted: Sequence[Latency]) -> None:
        def measure(place: Place, running: Running, tokens: Tokens) -> None:
            for one in wanted:
                seconds = self._extent.latency_seconds
                latency.measure(row, place, running, tokens.file, one.rate, seconds / 4)  # warms up
                one.samples.append(latency.measure(row, place, running, tokens.file, one.rate, seconds))

        try:
            self._served(row, measure)
        except Failures as error:
            for one in wanted:
                one.error = str(error)

    def _attempt(self, name: str, measure: Callable[[], None]) -> None:
        if self._wants(name):
            try:
                measure()
            except Failures as error:
                self.results.failed[name] = str(error)
        self._step()

    def _memory(self) -> None:
        if self._extent.quick and not self._only:
            self.results.left_out["memory"] = "not part of a quick run"
            return
        self._says("memory: 100,000 identities")
        self.results.identities = resources.identities(self._mint, self._cores)

    def _starts(self) -> None:
        self._says("start: until ready")
        tokens = self._mint.of("RS256")
        for _ in range(self._extent.starts):
            self.results.starts.append(resources.seconds_until_ready(tokens, self._cores))
