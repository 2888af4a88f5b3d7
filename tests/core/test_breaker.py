import pytest

from tests.support import NOW
from verifier.core.breaker import FAILURES, PAUSE, Breaker


def after(failures: int, at: float = NOW) -> Breaker:
    """A breaker that opens on the third failure and then pauses for ten seconds."""
    breaker = Breaker(failures=3, pause=10.0)
    for _ in range(failures):
        breaker.failed(at)
    return breaker


@pytest.mark.parametrize(("failures", "is_open"), [(0, False), (1, False), (2, False), (3, True), (4, True)])
def test_it_opens_on_the_failure_that_reaches_the_limit(failures: int, is_open: bool) -> None:
    assert after(failures).is_open is is_open


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_while_it_is_closed_everybody_may_ask(failures: int) -> None:
    breaker = after(failures)
    assert [breaker.may_ask(NOW) for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize(
    ("later", "may"), [(-1.0, False), (0.0, False), (9.9, False), (10.0, True), (10.1, True), (999.0, True)]
)
def test_once_it_is_open_nobody_asks_before_the_pause_is_over(later: float, may: bool) -> None:
    assert after(3).may_ask(NOW + later) is may


def test_after_a_pause_one_attempt_is_made_and_no_second() -> None:
    breaker = after(3)
    assert [breaker.may_ask(NOW + 10) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(("later", "may"), [(19.9, False), (20.0, True)])
def test_an_attempt_that_nobody_reports_on_is_followed_by_another_pause(later: float, may: bool) -> None:
    breaker = after(3)
    breaker.may_ask(NOW + 10)
    assert breaker.may_ask(NOW + later) is may


@pytest.mark.parametrize(("later", "may"), [(24.9, False), (25.0, True)])
def test_an_attempt_that_fails_starts_the_pause_anew(later: float, may: bool) -> None:
    breaker = after(3)
    breaker.may_ask(NOW + 10)
    breaker.failed(NOW + 15)
    assert breaker.may_ask(NOW + later) is may


def test_an_attempt_alone_does_not_close_it() -> None:
    breaker = after(3)
    breaker.may_ask(NOW + 10)
    assert breaker.is_open


def test_a_success_closes_it() -> None:
    breaker = after(3)
    breaker.succeeded()
    assert [breaker.may_ask(NOW) for _ in range(2)] == [True, True]


def test_only_failures_in_a_row_count() -> None:
    breaker = after(2)
    breaker.succeeded()
    breaker.failed(NOW)
    breaker.failed(NOW)
    assert not breaker.is_open


def test_unless_told_otherwise_it_opens_after_three_failures() -> None:
    breaker = Breaker()
    found = []
    for _ in range(FAILURES):
        breaker.failed(NOW)
        found.append(breaker.is_open)
    assert found == [False, False, True]


@pytest.mark.parametrize(("later", "may"), [(0.9, False), (1.0, True)])
def test_unless_told_otherwise_it_pauses_for_a_second(later: float, may: bool) -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(NOW)
    assert (breaker.may_ask(NOW + later), PAUSE) == (may, 1.0)
