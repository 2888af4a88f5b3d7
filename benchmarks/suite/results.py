"""What a run found out, as values: nothing here measures, and nothing of it needs a machine."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

CACHED_RS256, CACHED_ES256 = "answered from a cache, RS256", "answered from a cache, ES256"
ANEW_RS256, ANEW_ES256 = "verified anew, RS256", "verified anew, ES256"
ANEW_OTHERS, PATH = "verified anew, other algorithms", "the whole path, RS256"


@dataclass(frozen=True, slots=True)
class Spread:
    """Of several rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one row. ``cpu``: microseconds of a core per request, by the program that took them. Memory in
    bytes."""

    per_second: float
    cpu: dict[str, float]
    memory: int
    memory_most: int


@dataclass(slots=True)
class Throughput:
    """A row, with one sample a round. With an ``error``, no figure of it counts."""

    name: str
    title: str
    group: str
    algorithm: str
    samples: list[Sample] = field(default_factory=list)
    error: str = ""

    @property
    def per_second(self) -> Spread:
        return Spread.of([sample.per_second for sample in self.samples])

    @property
    def cpu(self) -> Spread:
        return Spread.of([sum(sample.cpu.values()) for sample in self.samples])

    @property
    def busy(self) -> float:
        """Which share of a core its busiest program took. Well below 1, it was not the server that set the pace."""
        return statistics.median(max(one.cpu.values()) * one.per_second / 1e6 for one in self.samples)

    @property
    def measured(self) -> bool:
        return bool(self.samples) and not self.error


Rate = Literal["half of its own maximum", "half of the verifier's maximum", "the same for all"]


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds, at a rate that was asked for and one that was achieved. ``late`` is the share of requests that the
    generator sent more than 1 ms after their time; ``waited``, how often no connection was free; ``neighbours``, the
    share of the server's core that others took meanwhile."""

    p50: float
    p99: float
    p999: float
    achieved: float
    late: float
    waited: int
    neighbours: float = 0.0


@dataclass(slots=True)
class Latency:
    """A server at one rate, with one sample a round."""

    name: str
    title: str
    rate: float
    meaning: Rate
    samples: list[Times] = field(default_factory=list)
    error: str = ""

    def of(self, which: Literal["p50", "p99", "p999"]) -> Spread:
        return Spread.of([getattr(sample, which) for sample in self.samples])

    @property
    def doubt(self) -> str:
        """What the generator could not do, and what others did."""
        achieved = statistics.median(sample.achieved for sample in self.samples)
        late = statistics.median(sample.late for sample in self.samples)
        said = []
        if achieved < 0.98 * self.rate:
            said.append(f"only {achieved:,.0f}/s were achieved")
        if late > 0.001:
            said.append(f"{late:.1%} were sent late")
        neighbours = statistics.median(sample.neighbours for sample in self.samples)
        if neighbours > 0.03:
            said.append(f"others took {neighbours:.0%} of the core")
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Identities:
    """Bytes of the verifier with an empty cache, and with so many identities in it."""

    count: int
    empty: int
    full: int

    @property
    def each(self) -> float:
        return (self.full - self.empty) / self.count


@dataclass(slots=True)
class Results:
    """One run. ``left_out``: what was not measured, and why. ``failed``: what went wrong besides the rows."""

    machine: dict[str, str | int]
    versions: dict[str, str]
    method: dict[str, str | int | float]
    rows: dict[str, Throughput] = field(default_factory=dict)
    latencies: list[Latency] = field(default_factory=list)
    identities: Identities | None = None
    starts: list[float] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def per_second(self, name: str) -> float | None:
        row = self.rows.get(name)
        return row.per_second.median if row is not None and row.measured else None

    def p99(self, name: str, meaning: Rate) -> float | None:
        found = [one for one in self.latencies if (one.name, one.meaning) == (name, meaning)]
        return found[0].of("p99").median if found and found[0].samples and not found[0].error else None

    @property
    def wrong(self) -> dict[str, str]:
        """What was begun and gave no figure."""
        rows = {row.title: row.error for row in self.rows.values() if row.error}
        latencies = {f"latency, {one.title}": one.error for one in self.latencies if one.error}
        return rows | latencies | self.failed
