from contextlib import nullcontext
from typing import Literal

import pytest

from benchmarks.suite.row import Row, Running, WrongRun
from benchmarks.suite.throughput import check_hits


def row(hits: Literal["all", "none"] | None) -> Row:
    return Row("row", "row", "group", "RS256", lambda *_: nullcontext(Running(1)), hits=hits)


@pytest.mark.parametrize(("hits", "share"), [("all", 0.9), ("none", 0.1)])
def test_a_row_that_measured_something_else_than_its_name_says_is_wrong(
    hits: Literal["all", "none"], share: float
) -> None:
    with pytest.raises(WrongRun, match="found in"):
        check_hits(row(hits), share)


@pytest.mark.parametrize(("hits", "share"), [("all", 1.0), ("none", 0.0), (None, 0.5)])
def test_a_row_that_measured_what_its_name_says_counts(hits: Literal["all", "none"] | None, share: float) -> None:
    check_hits(row(hits), share)
