"""Which faults there are, and what was found out about each."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.faults.answers import Answers

if TYPE_CHECKING:
    from tests.faults.stage import Stage


class NotRun(Exception):  # noqa: N818 - reads as what it says
    """What is missing on this machine."""


@dataclass
class Record:
    """What a scenario found. It falls short of the right behaviour where ``shortfalls`` say how."""

    figures: list[str] = field(default_factory=list)
    shortfalls: list[str] = field(default_factory=list)
    wrong_allows: int = 0
    client_errors: int = 0
    requests: int = 0

    def note(self, figure: str) -> None:
        self.figures.append(figure)

    def expect(self, holds: bool, shortfall: str) -> None:
        if not holds:
            self.shortfalls.append(shortfall)

    def saw(self, answers: Answers, *, undecided_is_right: bool = True) -> None:
        """Count the two figures that every scenario has."""
        self.requests += len(answers)
        self.wrong_allows += answers.wrong_allows
        self.client_errors += answers.errors(undecided_is_right=undecided_is_right)


Scenario = Callable[["Stage", Record], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """``number`` is how it is named; ``did`` and ``right`` are for the reader of the report."""

    number: str
    title: str
    did: str
    right: str
    run: Scenario

    @property
    def order(self) -> tuple[int, str]:
        digits = "".join(letter for letter in self.number if letter.isdigit())
        return int(digits), self.number


FAULTS: dict[str, Fault] = {}


def fault(number: str, title: str, *, did: str, right: str) -> Callable[[Scenario], Scenario]:
    """Make a scenario one of ``FAULTS``."""

    def register(run: Scenario) -> Scenario:
        if number in FAULTS:
            raise ValueError(f"{number} is there twice")
        FAULTS[number] = Fault(number, title, did, right, run)
        return run

    return register


@dataclass(frozen=True, slots=True)
class Result:
    """Of one fault. ``missing``: why it was not run; ``broke``: an error of the scenario itself."""

    fault: Fault
    record: Record
    seconds: float
    missing: str = ""
    broke: str = ""

    @property
    def is_dangerous(self) -> bool:
        """What must never be, whatever else falls short."""
        return bool(self.record.wrong_allows or self.record.client_errors or self.broke)

    @property
    def verdict(self) -> str:
        if self.missing:
            return "not run"
        if self.is_dangerous:
            return "**wrong**"
        return "falls short" if self.record.shortfalls else "as it should be"
