"""A decision explained as the rules are, and with what is on trial enforced."""

from dataclasses import replace

import pytest

from tests.support import issuer
from verifier.core.explanation import Outcome, Step
from verifier.core.issuer import Issuers
from verifier.core.reasons import Reason
from verifier.core.routes import Access, Route, Routes, Target, parse
from verifier.core.trial import Explanation, explained

STRICTER = replace(issuer(), audiences=frozenset({"stricter"}))
ENFORCED, TRYING = Issuers([issuer()]), Issuers([issuer(trial=STRICTER)])
OPEN = Routes([], default=Access.AUTHENTICATED)
CLOSING = Routes([Route("closed", parse("/**"), access=Access.DENIED, report_only=True)], default=Access.AUTHENTICATED)


def judge(issuers: Issuers, table: Routes) -> tuple[Step, ...]:
    """Holds both to what is enforced in this module."""
    is_stricter = any(one.audiences == STRICTER.audiences for one in issuers)
    is_closed = table.rule(Target("GET", None, "/")).access is Access.DENIED
    return (
        Step("size", Outcome.HOLDS, "", ""),
        Step("audience", Outcome.FAILS, "", "", Reason.WRONG_AUDIENCE)
        if is_stricter
        else Step("audience", Outcome.HOLDS, "", ""),
        Step("route", Outcome.FAILS, "", "", Reason.ROUTE_DENIED)
        if is_closed
        else Step("route", Outcome.NOT_REACHED, "", ""),
    )


@pytest.mark.parametrize(
    ("issuers", "table", "failing"),
    [
        (ENFORCED, OPEN, []),
        (TRYING, OPEN, [Reason.WRONG_AUDIENCE]),
        (ENFORCED, CLOSING, [Reason.ROUTE_DENIED]),
        (TRYING, CLOSING, [Reason.WRONG_AUDIENCE, Reason.ROUTE_DENIED]),
    ],
)
def test_what_is_allowed_is_explained_with_all_that_fails_on_trial(
    issuers: Issuers, table: Routes, failing: list[Reason]
) -> None:
    found = explained(judge, issuers, table)
    assert (found.steps, found.reason) == (judge(ENFORCED, OPEN), None)
    assert [step.reason for step in found.on_trial] == failing


def test_the_first_that_fails_on_trial_is_why_it_would_be_denied() -> None:
    assert explained(judge, TRYING, CLOSING).would_deny is Reason.WRONG_AUDIENCE
    assert explained(judge, ENFORCED, OPEN).would_deny is None


def test_what_is_refused_is_not_tried() -> None:
    closed = Routes([], default=Access.DENIED)
    assert explained(judge, TRYING, closed) == Explanation(judge(ENFORCED, closed))
    assert explained(judge, TRYING, closed).reason is Reason.ROUTE_DENIED


def test_issuers_on_trial_are_the_stricter_ones_and_those_that_try_nothing() -> None:
    other = issuer(name="other", identifiers=frozenset({"https://other.example/"}))
    assert list(Issuers([issuer(trial=STRICTER), other]).on_trial()) == [STRICTER, other]
