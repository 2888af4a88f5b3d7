from typing import Any

import pytest

from tests.core.test_claims import identified
from verifier.core.policy import NOTHING, Requirement, check
from verifier.core.reasons import Reason, Rejected


@pytest.mark.parametrize(
    "demands",
    [NOTHING, Requirement(("read",)), Requirement(("read", "write")), Requirement((), ("https://api.example", "x"))],
)
def test_demands_that_a_token_meets_are_met(demands: Requirement) -> None:
    check(demands, identified())


@pytest.mark.parametrize(
    ("demands", "reason"),
    [
        (Requirement(("read", "admin")), Reason.INSUFFICIENT_SCOPE),
        (Requirement(("rea",)), Reason.INSUFFICIENT_SCOPE),
        (Requirement((), ("x",)), Reason.WRONG_AUDIENCE),
    ],
)
def test_a_demand_that_a_token_does_not_meet_refuses_it(demands: Any, reason: Reason) -> None:
    with pytest.raises(Rejected) as refusal:
        check(demands, identified())
    assert refusal.value.reason is reason
