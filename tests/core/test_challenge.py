import re

import pytest

from verifier.core import challenge
from verifier.core.reasons import FAMILY, Family, Reason
from verifier.core.verdict import Denied


@pytest.mark.parametrize(
    ("reason", "status", "error"),
    [
        (Reason.MISSING_TOKEN, 401, None),
        (Reason.MALFORMED_CREDENTIALS, 400, "invalid_request"),
        (Reason.EXPIRED, 401, "invalid_token"),
        (Reason.CLAIM_NOT_SATISFIED, 403, "insufficient_scope"),
    ],
)
def test_a_family_has_its_status_and_error_code(reason: Reason, status: int, error: str | None) -> None:
    denied = Denied(reason, "why")
    assert challenge.status(denied) == status
    found = re.search(r'error="(\w+)"', challenge.www_authenticate(denied) or "")
    assert (found and found.group(1)) == error


def test_an_outage_is_503_without_a_challenge() -> None:
    denied = Denied(Reason.KEYS_UNAVAILABLE, "why")
    assert (challenge.status(denied), challenge.www_authenticate(denied)) == (503, None)


def test_a_challenge_names_the_scopes_that_are_lacking() -> None:
    denied = Denied(Reason.INSUFFICIENT_SCOPE, "why", scopes=("a", "b"))
    assert 'scope="a b"' in (challenge.www_authenticate(denied) or "")


def test_scopes_are_named_for_no_other_reason() -> None:
    assert "scope=" not in (challenge.www_authenticate(Denied(Reason.EXPIRED, "why", scopes=("a",))) or "")


def test_a_scope_cannot_break_out_of_the_challenge() -> None:
    denied = Denied(Reason.INSUFFICIENT_SCOPE, "why", scopes=('a", b="\r\nX: y',))
    assert (challenge.www_authenticate(denied) or "").endswith("scope=\"a', b='''X: y\"")


def test_a_detail_cannot_break_out_of_the_challenge() -> None:
    written = challenge.www_authenticate(Denied(Reason.EXPIRED, 'a"b\\c\r\nX: y\x00é'))
    assert written == "Bearer realm=\"verifier\", error=\"invalid_token\", error_description=\"a'b'c''X: y''\""


def test_a_problem_document_has_the_members_that_programs_and_people_read() -> None:
    assert challenge.problem(Denied(Reason.EXPIRED, "why")) == {
        "type": "urn:token-verifier:reason:expired",
        "title": "The bearer token is not accepted",
        "status": 401,
        "detail": "why",
        "allowed": False,
        "reason": "expired",
    }


@pytest.mark.parametrize("family", Family)
def test_every_family_has_a_status_and_a_title(family: Family) -> None:
    assert challenge.STATUS[family] in (400, 401, 403, 503)
    assert challenge.TITLE[family]


def test_every_reason_can_be_answered() -> None:
    assert {challenge.status(Denied(reason, "why")) for reason in Reason} == {400, 401, 403, 503}
    assert set(FAMILY) == set(Reason)


def test_a_challenge_names_no_scopes_where_any_of_several_would_do() -> None:
    """RFC 6750 §3: a scope attribute names at least one."""
    assert "scope=" not in (challenge.www_authenticate(Denied(Reason.INSUFFICIENT_SCOPE, "why")) or "")
