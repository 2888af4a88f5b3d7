"""What one row of the report is: a server, how it is set up, and which tokens it is asked about."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.suite.asking import get
from benchmarks.suite.machine import Cores
from benchmarks.suite.processes import Process
from benchmarks.suite.tokens import Tokens


class WrongRun(Exception):  # noqa: N818 - it is about a run, and the run is the error
    """What was measured is not what was to be measured. The row says so, and has no figure."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is set up."""

    folder: Path
    cores: Cores


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is up. ``hits`` counts the answers that it gave out of the cache that the row is about."""

    port: int
    processes: dict[str, Process] = field(default_factory=dict)
    hits: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """``hits``: which share of the answers must come out of a cache, where the server can tell. ``passes``: how often
    all tokens are asked about beforehand, so that caches are full. ``main``: whether it belongs to a quick run."""

    name: str
    title: str
    group: str
    algorithm: str
    serve: Callable[[Place, Tokens], AbstractContextManager[Running]]
    path: str = "/verify"
    hits: Literal["all", "none"] | None = None
    passes: int = 0
    judges: bool = True
    main: bool = True


def check(row: Row, running: Running, tokens: Tokens) -> None:
    """Refuse to measure a server that does not do the work."""
    status = get(running.port, row.path, tokens.good[0]).status
    if not 200 <= status < 300:
        raise WrongRun(f"it answers a good token with {status}")
    if not row.judges:
        return
    for what, bad in tokens.bad.items():
        status = get(running.port, row.path, bad).status
        if status not in {401, 403}:
            raise WrongRun(f"it answers {status} to a token with {what}")
