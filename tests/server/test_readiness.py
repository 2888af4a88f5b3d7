"""What several processes are together."""

from dataclasses import replace

import pytest

from verifier.server.readiness import Keys, State, of_all

WELL = State(ready=True, settled=True, issuers={"main": Keys(2, 5.0, None)}, unread=0.1)
ILL = State(ready=False, settled=True, issuers={"main": Keys(0, 90.0, "refused")}, unread=0.2)
NEW = State(ready=False, settled=False, issuers={"main": Keys(0, None, None)}, unread=3.0)


@pytest.mark.parametrize(
    ("states", "ready"),
    [([], False), ([WELL], True), ([WELL, WELL], True), ([WELL, ILL], False), ([WELL, NEW], True), ([NEW], False)],
    ids=["none", "one", "all", "one is not", "one is new", "all are new"],
)
def test_all_are_ready_when_one_is_and_none_is_not(states: list[State], ready: bool) -> None:
    assert of_all(states, 0.0).ready is ready


def test_of_each_issuer_the_worst_is_shown() -> None:
    shown = of_all([WELL, ILL], 0.0)
    assert shown.issuers == {"main": Keys(0, 90.0, "refused")}
    assert shown.unread == 0.2


def test_keys_that_were_never_fetched_are_the_oldest() -> None:
    never = replace(ILL, issuers={"main": Keys(0, None, None)})
    assert of_all([WELL, never, ILL], 0.0).issuers["main"].age is None


def test_one_that_is_new_is_shown_only_where_all_are() -> None:
    assert of_all([WELL, NEW], 0.0).issuers == WELL.issuers
    assert of_all([NEW, NEW], 0.0).issuers == NEW.issuers


def test_a_list_that_the_supervisor_cannot_read_shows() -> None:
    assert of_all([WELL], 7.0).unread == 7.0


def test_a_service_that_is_about_to_end_is_not_ready_whatever_a_worker_says() -> None:
    """One that was started a moment ago does not know."""
    shown = of_all([WELL], 0.0, draining=True)
    assert (shown.ready, shown.draining) == (False, True)


def test_of_each_time_the_worst_is_shown() -> None:
    soon, late = Keys(2, 5.0, None, 1.0, 3600.0), Keys(2, 5.0, None, 9.0, 1800.0)
    both = of_all([replace(WELL, issuers={"main": keys}) for keys in (soon, late)], 0.0)
    assert both.issuers["main"] == Keys(2, 5.0, None, 9.0, 1800.0)
