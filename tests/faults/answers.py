"""What came of a load, as values: nothing here measures."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.faults.traffic import End, Stream


class Answer(NamedTuple):
    """``due`` in seconds of the machine's monotonic clock, ``took`` from then on. ``status`` may be an ``End``."""

    stream: Stream
    status: int
    due: float
    took: float

    @property
    def ended(self) -> float:
        return self.due + self.took


@dataclass(frozen=True, slots=True)
class Answers:
    """Those of one load, or a part of them."""

    all: Sequence[Answer]

    @classmethod
    def read(cls, file: Path, streams: Sequence[Stream]) -> "Answers":
        flat = array("d")
        flat.frombytes(file.read_bytes())
        rows = zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        return cls([Answer(streams[int(stream)], int(status), due, took) for stream, status, due, took in rows])

    @classmethod
    def together(cls, several: Iterable["Answers"]) -> "Answers":
        return cls(sorted((one for answers in several for one in answers.all), key=lambda answer: answer.due))

    def of(self, *names: str) -> "Answers":
        return self._that(lambda answer: answer.stream.name in names)

    def between(self, begin: float, end: float) -> "Answers":
        """What was due then."""
        return self._that(lambda answer: begin <= answer.due < end)

    def since(self, begin: float) -> "Answers":
        return self.between(begin, float("inf"))

    def with_status(self, *statuses: int) -> "Answers":
        return self._that(lambda answer: answer.status in statuses)

    def _that(self, holds: Callable[[Answer], bool]) -> "Answers":
        return Answers([answer for answer in self.all if holds(answer)])

    def __len__(self) -> int:
        return len(self.all)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.all)

    def share(self, *statuses: int) -> float:
        """Of those that were not given up on purpose; 1 where there are none."""
        counted = self.statuses
        asked = len(self.all) - counted[End.CANCELLED]
        return sum(counted[status] for status in statuses) / asked if asked else 1.0

    def percentile(self, share: float) -> float:
        """Milliseconds; 0 where there are none."""
        times = sorted(answer.took for answer in self.all)
        return 1_000 * times[min(int(share * len(times)), len(times) - 1)] if times else 0.0

    @property
    def p99(self) -> float:
        return self.percentile(0.99)

    @property
    def longest(self) -> float:
        return self.percentile(1.0)

    @property
    def wrong_allows(self) -> int:
        """An allow of what must be denied, or about another token."""
        refused = sum(answer.status == 200 and not answer.stream.allowed for answer in self.all)
        return refused + self.statuses[End.MIXED_UP]

    def errors(self, *, undecided_is_right: bool) -> int:
        """Answers of 5xx. ``undecided_is_right``: what the service depends on is away, so that 503 is none."""
        return sum(answer.status >= 500 and not (undecided_is_right and answer.status == 503) for answer in self.all)


def said(statuses: Counter[int]) -> str:
    """Statuses for a reader, the most frequent first."""
    words = {End.LOST: "lost", End.LATE: "late", End.UNSENT: "unsent", End.CANCELLED: "given up", End.MIXED_UP: "mixed"}
    return ", ".join(f"{number:,} × {words.get(status, str(status))}" for status, number in statuses.most_common())  # type: ignore[call-overload]
