"""What a load came to, and what is written about it."""

from array import array
from pathlib import Path

import pytest

from tests.faults import report, scenarios
from tests.faults.answers import Answer, Answers, said
from tests.faults.outcome import FAULTS, Fault, Record, Result
from tests.faults.soak import slope
from tests.faults.traffic import End, Stream, forged
from tests.support import claims, sign

GOOD, BAD = Stream("good", 1, True, ""), Stream("bad", 1, False, "")
ABOUT = {
    "date": "2026-01-01",
    "cpu": "a processor",
    "cores": 4,
    "memory_mb": 8_000,
    "kernel": "6.1",
    "event_loop": "uvloop",
}


def answers(*statuses: int, stream: Stream = GOOD) -> Answers:
    return Answers([Answer(stream, status, float(place), 0.001 * (place + 1)) for place, status in enumerate(statuses)])


async def _nothing(_stage: object, _record: Record) -> None: ...


def result(record: Record, **more: str) -> Result:
    return Result(Fault("F1", "a title", "what was done", "what is right", _nothing), record, 1.0, **more)


def seen(given: Answers, *, undecided_is_right: bool = True) -> Record:
    record = Record()
    record.saw(given, undecided_is_right=undecided_is_right)
    return record


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    file.write_bytes(array("d", [1, 401, 5.0, 0.25]).tobytes())
    assert Answers.read(file, [GOOD, BAD]).all == [Answer(BAD, 401, 5.0, 0.25)]


def test_an_allow_of_what_must_be_refused_is_wrong() -> None:
    assert seen(answers(200, 401, stream=BAD)).wrong_allows == 1
    assert seen(answers(200, 401)).wrong_allows == 0


def test_an_answer_about_another_token_is_a_wrong_allow() -> None:
    assert seen(answers(200, End.MIXED_UP)).wrong_allows == 1


def test_an_error_of_the_server_counts_and_503_where_nothing_is_away() -> None:
    assert seen(answers(500, 503, 401, stream=BAD)).client_errors == 1
    assert seen(answers(500, 503, 401, stream=BAD), undecided_is_right=False).client_errors == 2


def test_requests_that_were_given_up_on_purpose_are_no_part_of_a_share() -> None:
    assert answers(200, End.CANCELLED, 200).share(200) == 1.0
    assert answers(200, End.LOST).share(200) == 0.5


def test_a_percentile_is_in_milliseconds() -> None:
    given = answers(*[200] * 100)
    assert given.percentile(0.5) == pytest.approx(51.0)
    assert given.longest == pytest.approx(100.0)
    assert Answers([]).p99 == 0.0


def test_a_part_is_by_when_it_was_due() -> None:
    assert answers(200, 401, 503).between(1, 2).statuses == {401: 1}


def test_statuses_are_said_in_words() -> None:
    assert said(answers(200, 200, End.LATE).statuses) == "2 × 200, 1 × late"


@pytest.mark.parametrize(
    ("record", "more", "verdict", "dangerous"),
    [
        (Record(), {}, "as it should be", False),
        (Record(shortfalls=["too slow"]), {}, "falls short", False),
        (Record(wrong_allows=1), {}, "**wrong**", True),
        (Record(client_errors=1, shortfalls=["too slow"]), {}, "**wrong**", True),
        (Record(), {"broke": "an error"}, "**wrong**", True),
        (Record(), {"missing": "a program"}, "not run", False),
    ],
)
def test_a_verdict_hides_nothing(record: Record, more: dict[str, str], verdict: str, dangerous: bool) -> None:
    made = result(record, **more)
    assert (made.verdict, made.is_dangerous) == (verdict, dangerous)


def test_the_page_has_every_figure_and_every_shortfall() -> None:
    record = Record(figures=["p99 7 ms"], shortfalls=["slow | late"], requests=1_000)
    text = report.page("# Head\n", [result(record), result(Record(), missing="no program")], ABOUT, {"python": "3.11"})
    assert text.startswith("# Head\n")
    assert "| F1 | **a title**: what was done | what is right | p99 7 ms | 0 | 0 | falls short |" in text
    assert "- F1, a title: slow | late\n" in text
    assert "1 faults and 1,000 requests of load: **0 wrong allows" in text
    assert "| no program |  |  | not run |" in text


@pytest.mark.parametrize("what", ["signature", "kid", "opaque"])
def test_what_is_forged_is_never_the_same_and_never_genuine(what: str) -> None:
    genuine = sign(claims(), algorithm="EdDSA")
    made = {forged(what, genuine) for _ in range(100)}
    assert len(made) == 100
    assert genuine not in made


def test_a_slope_is_by_least_squares() -> None:
    assert slope([1.0, 3.0, 5.0]) == pytest.approx(2.0)
    assert slope([4.0, 4.0, 4.0]) == 0.0
    assert slope([4.0]) == 0.0


def test_every_fault_is_known_by_its_number() -> None:
    scenarios.load()
    assert {"F1", "F12", "F24", "F28", "F31", "F35a", "F38", "F40"} <= set(FAULTS)
    assert all(one.number == number for number, one in FAULTS.items())
