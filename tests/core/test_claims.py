from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import AUD, ISS, NOW, claims, issuer, sign
from verifier.core import token
from verifier.core.claims import (
    IDENTITY,
    check_audience,
    check_client,
    check_dates,
    check_scopes,
    check_standing,
    check_texts,
    identify,
    media_type,
    principal,
    satisfies,
    stands_until,
)
from verifier.core.issuer import Issuer, RequiredClaim
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Principal


def identified(at: Issuer | None = None, typ: str | None = "JWT", **changes: Any) -> Principal:
    return identify(token.parse(sign(claims(**changes), algorithm="EdDSA", typ=typ)), at or issuer())


def refused(at: Issuer | None = None, typ: str | None = "JWT", **changes: Any) -> Reason:
    with pytest.raises(Rejected) as refusal:
        identified(at, typ, **changes)
    return refusal.value.reason


def standing(at: Issuer | None = None, now: float = NOW, **changes: Any) -> Reason | None:
    principal = identified(at, **changes)
    try:
        check_standing(principal, at or issuer(), now)
    except Rejected as refusal:
        return refusal.reason
    return None


def test_a_principal_says_who_the_token_speaks_for() -> None:
    found = identified(jti="t1", client_id="web", nbf=NOW - 5)
    assert (found.issuer, found.issuer_name, found.subject, found.client_id) == (ISS, "main", "alice", "web")
    assert (found.scopes, found.audiences, found.token_id) == (("read", "write"), (AUD,), "t1")
    assert (found.expires_at, found.not_before, found.issued_at) == (NOW + 300, NOW - 5, NOW)


def test_what_a_token_does_not_say_is_none() -> None:
    found = identified(sub=None, iat=None, scope=None)
    assert (found.subject, found.client_id, found.token_id, found.issued_at, found.scopes) == (
        None,
        None,
        None,
        None,
        (),
    )


def test_the_repr_of_a_principal_shows_no_claims() -> None:
    assert "private" not in repr(identified(email="private"))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/JWT", None])
def test_a_type_is_compared_as_a_media_type(typ: str | None) -> None:
    assert identified(typ=typ)


@pytest.mark.parametrize("typ", ["dpop+jwt", "id+jwt", "", "text/jwt", "JWT "])
def test_another_type_is_wrong(typ: str) -> None:
    assert refused(typ=typ) is Reason.WRONG_TOKEN_TYPE


def test_an_absent_type_is_a_plain_jwt_and_not_an_access_token() -> None:
    assert refused(issuer(token_types=frozenset({"at+jwt"})), typ=None) is Reason.WRONG_TOKEN_TYPE


def test_media_types_lose_their_prefix_and_case() -> None:
    assert media_type("Application/AT+jwt") == "at+jwt"


def test_a_signed_issuer_that_is_no_text_is_not_that_of_the_key() -> None:
    assert refused(iss=[ISS]) is Reason.UNTRUSTED_ISSUER


def test_the_signed_issuer_must_be_that_of_the_key() -> None:
    assert refused(iss="https://other.example/") is Reason.UNTRUSTED_ISSUER


def test_a_token_without_exp_is_refused() -> None:
    assert refused(exp=None) is Reason.MISSING_CLAIM


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1700000000", True, [], {}, -1, 10**12, 10**400, 1e308, "", False])
def test_a_date_that_no_clock_shows_is_malformed(name: str, value: object) -> None:
    assert refused(None, "JWT", **{name: value}) is Reason.MALFORMED_CLAIM


@pytest.mark.parametrize("name", ["exp", "nbf", "iat", "sub", "jti", "aud", "client_id", "azp"])
def test_null_is_not_the_same_as_absent(name: str) -> None:
    raw = claims(jti="j", client_id="c", azp="c")
    with pytest.raises(Rejected) as refusal:
        identify(token.parse(sign({**raw, name: None}, algorithm="EdDSA")), issuer(client_ids=frozenset({"c"})))
    assert refusal.value.reason is Reason.MALFORMED_CLAIM


def test_dates_may_have_fractions() -> None:
    assert identified(exp=NOW + 0.5).expires_at == NOW + 0.5


@pytest.mark.parametrize("name", ["sub", "jti"])
@pytest.mark.parametrize("value", [1, True, [], {}])
def test_a_subject_or_token_id_that_is_no_string_is_malformed(name: str, value: object) -> None:
    assert refused(None, "JWT", **{name: value}) is Reason.MALFORMED_CLAIM


@pytest.mark.parametrize("aud", [AUD, [AUD], ["https://other.example", AUD]])
def test_one_accepted_audience_is_enough(aud: object) -> None:
    assert identified(aud=aud)


@pytest.mark.parametrize("aud", ["https://other.example", [], AUD + "/", AUD.upper(), [AUD[:-1]], "", AUD + " x"])
def test_no_accepted_audience_is_a_wrong_one(aud: object) -> None:
    assert refused(aud=aud) is Reason.WRONG_AUDIENCE


@pytest.mark.parametrize("aud", [1, {AUD: 1}, [1], [AUD, None], True])
def test_an_audience_of_another_form_is_malformed(aud: object) -> None:
    assert refused(aud=aud) is Reason.MALFORMED_CLAIM


def test_an_absent_audience_is_a_missing_claim() -> None:
    assert refused(aud=None) is Reason.MISSING_CLAIM


def test_where_no_audience_is_accepted_and_no_client_named_an_absent_one_is_missing() -> None:
    assert refused(issuer(audiences=frozenset()), aud=None) is Reason.MISSING_CLAIM


def test_any_audience_must_be_said_out_loud() -> None:
    relaxed = issuer(audiences=None)
    assert identified(relaxed, aud="https://other.example").audiences == ("https://other.example",)
    assert identified(relaxed, aud=None).audiences == ()


def test_a_configured_client_stands_in_for_an_absent_audience() -> None:
    assert identified(issuer(client_ids=frozenset({"web"})), aud=None, client_id="web").client_id == "web"


def test_a_configured_client_does_not_make_up_for_a_wrong_audience() -> None:
    at = issuer(client_ids=frozenset({"web"}))
    assert refused(at, aud="https://other.example", client_id="web") is Reason.WRONG_AUDIENCE


@pytest.mark.parametrize("name", ["client_id", "azp"])
def test_a_client_that_is_not_configured_is_wrong(name: str) -> None:
    assert refused(issuer(client_ids=frozenset({"web"})), **{name: "other"}) is Reason.WRONG_CLIENT


def test_every_claim_that_names_a_client_must_name_a_configured_one() -> None:
    at = issuer(client_ids=frozenset({"web"}))
    assert refused(at, client_id="web", azp="other") is Reason.WRONG_CLIENT


def test_a_token_that_names_no_client_lacks_a_claim_where_clients_are_configured() -> None:
    assert refused(issuer(client_ids=frozenset({"web"}))) is Reason.MISSING_CLAIM


def test_clients_do_not_matter_where_none_is_configured() -> None:
    assert identified(client_id="web", azp="other").client_id == "web"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scope": "a b"}, ("a", "b")),
        ({"scope": " a  b a "}, ("a", "b")),
        ({"scope": ["a", "b c"]}, ("a", "b c")),
        ({"scope": "a", "scp": ["b", "a"]}, ("a", "b")),
        ({"scope": ""}, ()),
        ({"scope": []}, ()),
        ({"scope": "a\tb"}, ("a\tb",)),
    ],
)
def test_scopes_are_gathered_from_strings_and_arrays(changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert identified(**changes).scopes == expected


@pytest.mark.parametrize("scope", [1, {"a": 1}, ["a", 1], True, [["a"]]])
def test_scopes_of_another_form_are_malformed(scope: object) -> None:
    assert refused(scope=scope) is Reason.MALFORMED_CLAIM


def test_scopes_are_found_inside_of_claims() -> None:
    at = issuer(scope_claims=(("realm_access", "roles"),))
    assert identified(at, realm_access={"roles": ["staff"]}).scopes == ("staff",)


def test_a_token_stands_until_its_exp_and_the_leeway() -> None:
    assert standing(now=NOW + 329.9) is None
    assert standing(now=NOW + 330) is Reason.EXPIRED


def test_without_leeway_a_token_is_over_on_its_exp() -> None:
    assert standing(issuer(leeway=0.0), now=NOW + 300) is Reason.EXPIRED


def test_a_token_is_not_valid_before_its_nbf_less_the_leeway() -> None:
    assert standing(nbf=NOW + 31) is Reason.NOT_YET_VALID
    assert standing(nbf=NOW + 30) is None


def test_a_token_from_the_future_is_not_valid_yet() -> None:
    assert standing(iat=NOW + 31) is Reason.NOT_YET_VALID
    assert standing(iat=NOW + 30) is None


def test_a_token_may_get_as_old_as_is_allowed_and_the_leeway() -> None:
    at = issuer(max_age=100.0)
    assert standing(at, iat=NOW - 130) is None
    assert standing(at, iat=NOW - 131) is Reason.TOO_OLD


def test_a_token_of_unknown_age_lacks_a_claim_where_age_matters() -> None:
    assert standing(issuer(max_age=100.0), iat=None) is Reason.MISSING_CLAIM


@pytest.mark.parametrize("value", ["x", ["x", "z"], "y"])
def test_a_required_claim_holds_by_value_or_by_one_of_an_array(value: object) -> None:
    assert standing(issuer(required_claims=(RequiredClaim(("c",), ("x", "y")),)), c=value) is None


@pytest.mark.parametrize("value", [None, "z", [], ["z"], {"x": 1}, "xy", ["xy"], [["x"]]])
def test_a_required_claim_without_a_demanded_value_is_not_satisfied(value: object) -> None:
    at = issuer(required_claims=(RequiredClaim(("c",), ("x", "y")),))
    assert standing(at, c=value) is Reason.CLAIM_NOT_SATISFIED


def test_every_required_claim_counts() -> None:
    at = issuer(required_claims=(RequiredClaim(("a",), (1,)), RequiredClaim(("b",), (2,))))
    assert standing(at, a=1, b=3) is Reason.CLAIM_NOT_SATISFIED


def test_an_expired_token_is_expired_whatever_it_claims() -> None:
    at = issuer(required_claims=(RequiredClaim(("c",), ("x",)),))
    assert standing(at, now=NOW + 999, c="z") is Reason.EXPIRED


@pytest.mark.parametrize(("found", "value"), [(1, True), (True, 1), (0, False), ("1", 1), ("true", True), (None, 0)])
def test_values_of_another_json_type_do_not_satisfy(found: object, value: Any) -> None:
    assert not satisfies(found, (value,))


@pytest.mark.parametrize(("found", "value"), [(1, 1), (1.0, 1), (True, True), ("a", "a")])
def test_equal_values_satisfy(found: object, value: Any) -> None:
    assert satisfies(found, (value,))


@pytest.mark.parametrize(
    ("check", "name", "said"),
    [
        (check_dates, "exp", "the exp of the token is not a number of seconds since 1970"),
        (check_dates, "nbf", "the nbf of the token is not a number of seconds since 1970"),
        (check_dates, "iat", "the iat of the token is not a number of seconds since 1970"),
        (check_texts, "sub", "the sub of the token is not a string"),
        (check_texts, "jti", "the jti of the token is not a string"),
        (check_audience, "aud", "the aud of the token is neither a string nor an array of strings"),
        (check_client, "client_id", "the client_id of the token is not a string"),
        (check_scopes, "scope", "the claim scope is neither a string nor an array of strings"),
        (check_scopes, "scp", "the claim scp is neither a string nor an array of strings"),
    ],
)
def test_a_check_asked_alone_names_the_malformed_claim(check: Any, name: str, said: str) -> None:
    with pytest.raises(Rejected) as refusal:
        check(claims() | {name: {}}, issuer())
    assert (refusal.value.reason, refusal.value.detail) == (Reason.MALFORMED_CLAIM, said)


@pytest.mark.parametrize("date", [0, 253_402_300_799])
def test_the_first_and_the_last_second_that_a_clock_shows_are_dates(date: int) -> None:
    assert identified(exp=date, nbf=date, iat=date).issued_at == date


@pytest.mark.parametrize("date", [-0.001, 253_402_300_799.5])
def test_a_date_just_outside_is_malformed(date: float) -> None:
    assert refused(exp=date) is Reason.MALFORMED_CLAIM


@pytest.mark.parametrize(
    ("changes", "now", "detail"),
    [
        ({}, NOW + 400, "the token expired 100 seconds ago"),
        ({"nbf": NOW + 60}, NOW, "the token is valid in 60 seconds (nbf)"),
        ({"iat": NOW + 70}, NOW, "the token will be issued in 70 seconds (iat)"),
        ({"iat": NOW - 90}, NOW, "the token was issued 90 seconds ago, allowed are 10"),
    ],
)
def test_a_refusal_for_time_says_by_how_much(changes: dict[str, Any], now: float, detail: str) -> None:
    at = issuer(max_age=10.0)
    with pytest.raises(Rejected) as refusal:
        check_standing(identified(at, **changes), at, now)
    assert refusal.value.detail == detail


@pytest.mark.parametrize(
    ("max_age", "changes", "end"),
    [
        (None, {}, NOW + 300),
        (1_000.0, {}, NOW + 300),
        (100.0, {}, NOW + 100),
        (None, {"iat": None}, NOW + 300),
    ],
)
def test_a_principal_stands_until_it_expires_or_is_too_old(
    max_age: float | None, changes: dict[str, Any], end: float
) -> None:
    at = issuer(max_age=max_age)
    assert stands_until(identified(at, **changes), at) == end


def test_texts_that_many_tokens_have_alike_are_in_memory_once() -> None:
    one, other = (identified(client_id="web", scope="read write", sub="alice") for _ in range(2))
    for name in ("client_id", "scopes", "audiences"):
        assert getattr(one, name) is getattr(other, name)
    assert {id(name) for name in one.claims} == {id(name) for name in other.claims}
    assert one.claims["scope"] is other.claims["scope"]


def test_texts_that_are_longer_than_usual_are_not_kept_for_others() -> None:
    long = "a" * 300
    one, other = (identified(aud=[AUD, long], client_id=long, scope=f"{long} b b") for _ in range(2))
    assert one == other
    assert one.scopes == (long, "b")
    assert one.client_id is not other.client_id
    assert one.scopes is not other.scopes


def test_a_single_long_audience_is_one_too() -> None:
    long = "a" * 300
    assert identified(issuer(audiences=frozenset({long})), aud=long).audiences == (long,)


def claim_sets() -> st.SearchStrategy[dict[str, Any]]:
    """With anything under the names that are checked."""
    odd = st.sampled_from([None, 7, -1, True, 1e300, "", "x", ISS, AUD, [], [AUD], ["x"], [1], {"a": 1}, "read write"])
    names = ("iss", "aud", "sub", "exp", "nbf", "iat", "jti", "client_id", "azp", "scope", "scp")
    good = claims()
    return st.fixed_dictionaries(
        {}, optional={name: odd if name not in good else st.one_of(st.just(good[name]), odd) for name in names}
    )


@pytest.mark.parametrize("at", [issuer(), issuer(client_ids=frozenset({"x"})), issuer(audiences=None)])
@settings(max_examples=300, derandomize=True, deadline=None)
@given(found=claim_sets())
def test_a_principal_is_refused_as_the_first_of_the_checks_of_an_identity_refuses(
    at: Issuer, found: dict[str, Any]
) -> None:
    def refusal(attempt: Callable[[dict[str, Any], Issuer], object]) -> Reason | None:
        try:
            attempt(found, at)
        except Rejected as rejected:
            return rejected.reason
        return None

    assert refusal(principal) == next(filter(None, map(refusal, IDENTITY)), None)
