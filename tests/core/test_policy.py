from typing import Any

import pytest

from tests.core.test_claims import identified
from tests.support import NOW
from verifier.core.issuer import RequiredClaim
from verifier.core.policy import NEVER, NOTHING, Requirement, check, met_until
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Principal

AUDIENCE = "https://api.example"
STAFF = RequiredClaim(("groups",), ("staff", "admins"))


def principal(**claims: Any) -> Principal:
    one = identified()
    return one._replace(client_id="web", claims={**one.claims, "groups": ["staff"], "auth_time": NOW - 60, **claims})


@pytest.mark.parametrize(
    "demands",
    [
        NOTHING,
        Requirement(),
        Requirement(scopes=("read",)),
        Requirement(scopes=("read", "write")),
        Requirement(any_scopes=("admin", "write")),
        Requirement(audiences=(AUDIENCE, "x")),
        Requirement(claims=(STAFF,)),
        Requirement(issuers=("other", "main")),
        Requirement(client_ids=("mobile", "web")),
        Requirement(max_auth_age=60.0),
        Requirement(max_auth_age=30.0),
    ],
)
def test_demands_that_a_token_meets_are_met(demands: Requirement) -> None:
    check(demands, principal(), leeway=30.0, now=NOW)


@pytest.mark.parametrize(
    ("demands", "reason"),
    [
        (Requirement(scopes=("read", "admin")), Reason.INSUFFICIENT_SCOPE),
        (Requirement(scopes=("rea",)), Reason.INSUFFICIENT_SCOPE),
        (Requirement(any_scopes=("admin", "owner")), Reason.INSUFFICIENT_SCOPE),
        (Requirement(audiences=("x",)), Reason.WRONG_AUDIENCE),
        (Requirement(claims=(RequiredClaim(("groups",), ("admins",)),)), Reason.CLAIM_NOT_SATISFIED),
        (Requirement(claims=(STAFF, RequiredClaim(("email",), ("x",)))), Reason.CLAIM_NOT_SATISFIED),
        (Requirement(issuers=("other",)), Reason.ROUTE_DENIED),
        (Requirement(client_ids=("mobile",)), Reason.ROUTE_DENIED),
        (Requirement(max_auth_age=29.9), Reason.STALE_AUTHENTICATION),
    ],
)
def test_a_demand_that_a_token_does_not_meet_refuses_it(demands: Requirement, reason: Reason) -> None:
    with pytest.raises(Rejected) as refusal:
        check(demands, principal(), leeway=30.0, now=NOW)
    assert refusal.value.reason is reason


@pytest.mark.parametrize("auth_time", [None, "1700000000", True, [], {}, NOW + 31, NOW * 1_000, 10**400])
def test_a_sign_in_of_which_nobody_knows_when_is_too_long_ago(auth_time: object) -> None:
    with pytest.raises(Rejected) as refusal:
        check(Requirement(max_auth_age=60.0), principal(auth_time=auth_time), leeway=30.0, now=NOW)
    assert refusal.value.reason is Reason.STALE_AUTHENTICATION


@pytest.mark.parametrize(
    ("demands", "end"),
    [
        (NOTHING, NEVER),
        (Requirement(scopes=("read",)), NEVER),
        (Requirement(max_auth_age=100.0), NOW + 40),
    ],
)
def test_a_demand_is_met_until_the_sign_in_is_too_long_ago(demands: Requirement, end: float) -> None:
    assert met_until(demands, principal()) == end
