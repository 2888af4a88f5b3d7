from typing import Any

import pytest

from tests.support import AUD, ISS, NOW, claims, issuer
from verifier.core import claims as checks
from verifier.core.introspection import counts_until, identify
from verifier.core.issuer import Introspect, Introspection, Issuer
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Denied, Principal

ASKED = issuer(introspection=Introspection(Introspect.ALWAYS, None, ttl=60.0, denial_ttl=5.0))
TENANTS = issuer(identifiers=frozenset({ISS, "https://other.example/"}))


def answer(**changes: Any) -> dict[str, Any]:
    """What an issuer says of a good token; a change to None takes the member away."""
    return {"active": True, **claims(**changes)}


def signed(at: Issuer = ASKED, **changes: Any) -> Principal:
    """What a good signature vouches for."""
    return checks.principal(claims(**changes), at)


def refused(told: dict[str, Any], at: Issuer = ASKED, own: Principal | None = None) -> Reason:
    with pytest.raises(Rejected) as refusal:
        identify(told, at, own)
    return refusal.value.reason


def test_an_active_token_speaks_for_whom_the_issuer_names() -> None:
    found = identify(answer(jti="t1", client_id="web", nbf=NOW - 5), ASKED)
    assert (found.issuer, found.issuer_name, found.subject, found.client_id) == (ISS, "main", "alice", "web")
    assert (found.scopes, found.audiences, found.token_id) == (("read", "write"), (AUD,), "t1")
    assert (found.expires_at, found.not_before, found.issued_at) == (NOW + 300, NOW - 5, NOW)


def test_active_is_no_claim() -> None:
    assert identify(answer(), ASKED).claims == claims()


@pytest.mark.parametrize("active", [False, None, 1, 1.0, "true", "True", [True], {"active": True}, 0, ""])
def test_only_the_boolean_makes_a_token_active(active: object) -> None:
    assert refused({**answer(), "active": active}) is Reason.INACTIVE


def test_an_answer_that_does_not_say_active_means_inactive() -> None:
    assert refused(claims()) is Reason.INACTIVE


def test_a_signature_does_not_make_an_inactive_token_active() -> None:
    assert refused({"active": False}, own=signed()) is Reason.INACTIVE


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_token_may_be_borne(token_type: str) -> None:
    assert identify(answer(token_type=token_type), ASKED)


@pytest.mark.parametrize("typ", ["Bearer", "JWT", "at+jwt", "application/at+jwt", "AT+JWT"])
def test_a_typ_may_also_be_that_of_the_issuers_tokens(typ: str) -> None:
    assert identify(answer(typ=typ), ASKED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("token_type", value) for value in ("DPoP", "mac", "refresh_token", "N_A", "at+jwt", "", "Bearer ")),
        *(("typ", value) for value in ("Refresh", "ID", "Offline", "dpop+jwt", "", " Bearer")),
    ],
)
@pytest.mark.parametrize("own", [None, signed()], ids=["opaque", "signed"])
def test_a_token_of_another_type_is_wrong(name: str, value: str, own: Principal | None) -> None:
    assert refused(answer(**{name: value}), own=own) is Reason.WRONG_TOKEN_TYPE


@pytest.mark.parametrize("name", ["token_type", "typ"])
@pytest.mark.parametrize("value", [None, 1, True, [], ["Bearer"], {"Bearer": 1}])
def test_a_type_that_is_no_string_is_wrong(name: str, value: object) -> None:
    assert refused({**answer(), name: value}) is Reason.WRONG_TOKEN_TYPE


def test_an_answer_that_names_no_issuer_is_that_of_the_one_who_was_asked() -> None:
    assert identify(answer(iss=None), ASKED).issuer == ISS


def test_an_answer_that_names_another_issuer_is_not_trusted() -> None:
    assert refused(answer(iss="https://other.example/")) is Reason.UNTRUSTED_ISSUER


def test_an_answer_must_name_its_issuer_where_several_were_asked_as_one() -> None:
    assert refused(answer(iss=None), TENANTS) is Reason.UNTRUSTED_ISSUER


@pytest.mark.parametrize("iss", sorted(TENANTS.identifiers))
def test_each_of_several_issuers_may_name_itself(iss: str) -> None:
    assert identify(answer(iss=iss), TENANTS).issuer == iss


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": None}, Reason.MISSING_CLAIM),
        ({"exp": str(NOW)}, Reason.MALFORMED_CLAIM),
        ({"exp": 10**400}, Reason.MALFORMED_CLAIM),
        ({"sub": 1}, Reason.MALFORMED_CLAIM),
        ({"iss": [ISS]}, Reason.UNTRUSTED_ISSUER),
        ({"aud": None}, Reason.MISSING_CLAIM),
        ({"aud": "https://other.example"}, Reason.WRONG_AUDIENCE),
        ({"scope": {"read": True}}, Reason.MALFORMED_CLAIM),
    ],
)
def test_what_an_issuer_tells_is_checked_like_what_it_signs(changes: dict[str, Any], reason: Reason) -> None:
    assert refused(answer(**changes)) is reason


def test_an_answer_that_says_no_more_than_active_leaves_what_was_signed() -> None:
    own = signed(jti="t1", client_id="web")
    assert identify({"active": True}, ASKED, own) == own


def test_what_an_answer_adds_is_known_of_the_token() -> None:
    found = identify({"active": True, "jti": "t1", "username": "al"}, ASKED, signed())
    assert (found.token_id, found.claims["username"]) == ("t1", "al")


def test_what_an_answer_says_counts_over_what_was_signed() -> None:
    assert identify(answer(scope="read"), ASKED, signed(scope="read write admin")).scopes == ("read",)


@pytest.mark.parametrize("name", ["iss", "sub", "jti"])
@pytest.mark.parametrize("value", ["another", None, 1, [], {}])
def test_an_answer_about_another_token_makes_this_one_inactive(name: str, value: object) -> None:
    own = signed(jti="t1")
    assert refused({**answer(jti="t1"), name: value}, own=own) is Reason.INACTIVE


def test_an_answer_of_another_tenant_makes_the_token_inactive() -> None:
    assert refused(answer(iss="https://other.example/"), TENANTS, signed(TENANTS)) is Reason.INACTIVE


def test_what_was_not_signed_is_not_compared() -> None:
    found = identify(answer(sub="bob", jti="t2"), ASKED, signed(sub=None))
    assert (found.subject, found.token_id) == ("bob", "t2")


@pytest.mark.parametrize(
    ("told", "own", "earliest"),
    [(NOW + 100, NOW + 300, NOW + 100), (NOW + 900, NOW + 300, NOW + 300), (None, NOW + 300, NOW + 300)],
)
def test_of_two_expiries_the_earlier_counts(told: int | None, own: int, earliest: int) -> None:
    found = identify(answer(exp=told), ASKED, signed(exp=own))
    assert (found.expires_at, found.claims["exp"]) == (earliest, earliest)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": "soon"}, Reason.MALFORMED_CLAIM),
        ({"exp": None}, Reason.MALFORMED_CLAIM),
        ({"exp": True}, Reason.MALFORMED_CLAIM),
        ({"aud": "https://other.example"}, Reason.WRONG_AUDIENCE),
        ({"client_id": 1}, Reason.MALFORMED_CLAIM),
    ],
)
def test_an_answer_about_a_signed_token_is_checked_too(changes: dict[str, Any], reason: Reason) -> None:
    assert refused({"active": True, **changes}, own=signed()) is reason


def test_a_detail_repeats_nothing_of_the_answer() -> None:
    with pytest.raises(Rejected) as refusal:
        identify(answer(sub="private"), ASKED, signed())
    assert refusal.value.detail == "the issuer's answer names another sub than the token"


def test_a_principal_counts_for_its_time() -> None:
    assert counts_until(signed(), ASKED, NOW) == NOW + 60


def test_a_principal_does_not_count_past_its_expiry() -> None:
    assert counts_until(signed(exp=NOW + 20), ASKED, NOW) == NOW + 20


def test_a_principal_within_the_leeway_counts_no_longer() -> None:
    assert counts_until(signed(exp=NOW), ASKED, NOW + 29.9) == NOW


def test_a_principal_that_is_over_counts_as_long_as_a_refusal() -> None:
    assert counts_until(signed(exp=NOW), ASKED, NOW + 30) == NOW + 30 + 5


def test_a_refusal_counts_for_its_own_time() -> None:
    assert counts_until(Denied(Reason.INACTIVE, "no"), ASKED, NOW) == NOW + 5


@pytest.mark.parametrize("outcome", [signed(), Denied(Reason.INACTIVE, "no")])
def test_nothing_counts_for_an_issuer_that_is_not_asked(outcome: Principal | Denied) -> None:
    assert counts_until(outcome, issuer(), NOW) == NOW


@pytest.mark.parametrize("use", ["id", "refresh_token", "refresh", "", None, 1, []])
def test_a_token_for_another_use_is_no_access_token(use: object) -> None:
    assert refused({**answer(), "token_use": use}) is Reason.WRONG_TOKEN_TYPE


@pytest.mark.parametrize("use", ["access", "access_token"])
def test_a_token_for_access_may_be_used(use: str) -> None:
    assert identify(answer(token_use=use), ASKED).subject is not None


@pytest.mark.parametrize("name", ["sid", "client_id", "azp"])
def test_an_answer_that_names_another_session_or_client_is_about_another_token(name: str) -> None:
    own = signed(ASKED, **{name: "one"})
    assert refused(answer(**{name: "other"}), own=own) is Reason.INACTIVE
    assert identify(answer(**{name: "one"}), ASKED, own).claims[name] == "one"


@pytest.mark.parametrize(
    ("own", "told", "expected"),
    [
        ({"iat": NOW - 100}, {"iat": NOW}, NOW - 100),
        ({"iat": NOW}, {"iat": NOW - 100}, NOW - 100),
        ({"iat": None}, {"iat": NOW - 1}, NOW - 1),
        ({"iat": NOW - 1}, {"iat": None}, NOW - 1),
        ({"iat": None}, {"iat": None}, None),
    ],
)
def test_a_token_is_as_old_as_either_says(own: dict[str, Any], told: dict[str, Any], expected: float | None) -> None:
    assert identify(answer(**told), ASKED, signed(**own)).issued_at == expected


@pytest.mark.parametrize(
    ("own", "told", "expected"),
    [
        ({"nbf": NOW + 100}, {"nbf": 0}, NOW + 100),
        ({"nbf": 0}, {"nbf": NOW + 100}, NOW + 100),
        ({}, {"nbf": NOW}, NOW),
        ({"nbf": NOW}, {}, NOW),
        ({}, {}, None),
    ],
)
def test_a_token_is_valid_when_both_say_so(own: dict[str, Any], told: dict[str, Any], expected: float | None) -> None:
    assert identify(answer(**told), ASKED, signed(**own)).not_before == expected


def test_the_scopes_of_an_answer_replace_those_of_the_token_whatever_their_claims_are_called() -> None:
    assert identify(answer(scope="read"), ASKED, signed(scope="write", scp=["admin"])).scopes == ("read",)


def test_an_answer_without_scopes_leaves_the_token_its_own() -> None:
    told = answer(scope=None)
    assert identify(told, ASKED, signed(scope="write", scp=["admin"])).scopes == ("write", "admin")
