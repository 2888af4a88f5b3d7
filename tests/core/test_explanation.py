from typing import Any

import pytest

from tests.support import AUD, ISS, NOW, claims, issuer, private_key, public_jwk, sign
from verifier.core import claims as claim_checks
from verifier.core import explanation, keys, routes
from verifier.core.explanation import Outcome, Step
from verifier.core.issuer import Introspect, Introspection, Issuer, Issuers, RequiredClaim
from verifier.core.policy import NOTHING, Requirement
from verifier.core.reasons import Reason
from verifier.core.revocation import Kind, Revocation, Revocations
from verifier.core.routes import Access, Route, Routes, Target

KEYS = keys.load_jwks({"keys": [public_jwk(private_key("EdDSA"))]})


def explained(
    text: str | None = None,
    at: Issuer | None = None,
    demands: Requirement = NOTHING,
    held: keys.KeySet | str = KEYS,
    besides: explanation.Besides = lambda *_: (),
    **changes: Any,
) -> dict[str, Step]:
    text = sign(claims(**changes), algorithm="EdDSA") if text is None else text
    issuers = Issuers([at or issuer()])
    steps = explanation.explain(
        text, issuers, lambda _issuer: held, NOW, max_bytes=4096, demands=demands, besides=besides
    )
    return {step.check: step for step in steps}


def refused_by(steps: dict[str, Step]) -> Reason | None:
    return explanation.refused_by(tuple(steps.values()))


def test_every_check_of_a_good_token_holds() -> None:
    steps = explained()
    assert {step.outcome for step in steps.values()} == {Outcome.HOLDS}
    assert refused_by(steps) is None


def test_the_steps_stand_in_the_order_of_the_decision() -> None:
    order = list(explained())
    expected = ["size", "form", "issuer", "algorithm", "key", "signature", "type", "signed issuer", "dates", "names"]
    expected += ["audience", "client", "scopes", "expiry", "not before", "issued at", "age", "required claims"]
    assert order == [*expected, "demanded audience", "demanded scopes"]


def test_every_check_of_the_claims_has_its_words() -> None:
    assert tuple(explanation.IDENTITY_TEXTS) == claim_checks.IDENTITY
    assert tuple(explanation.STANDING_TEXTS) == claim_checks.STANDING


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 5000])
def test_a_text_that_is_no_token_ends_the_explanation(text: str) -> None:
    assert list(explained(text)) == ["size", "form"]


def test_an_issuer_without_its_slash_is_told_which_character_differs() -> None:
    step = explained(iss=ISS[:-1])["issuer"]
    assert step.reason is Reason.UNTRUSTED_ISSUER
    assert step.hint == f"the slash at its end is missing: character {len(ISS)} should be '/' and is the end"


def test_an_issuer_that_is_no_text_has_no_near_miss() -> None:
    assert "exactly" in (explained(iss=["x"])["issuer"].hint or "")


def test_keys_that_cannot_be_had_are_said_so_and_the_claims_still_shown() -> None:
    steps = explained(held="cannot be had: refused")
    assert (steps["key"].reason, steps["key"].found) == (Reason.KEYS_UNAVAILABLE, "cannot be had: refused")
    assert steps["signature"].outcome is Outcome.NOT_REACHED
    assert steps["expiry"].outcome is Outcome.HOLDS


def test_a_missing_key_lists_those_there_are() -> None:
    steps = explained(sign(claims(), algorithm="EdDSA", kid="other"))
    assert steps["key"].reason is Reason.UNKNOWN_KEY
    assert steps["key"].found == "'k1' (Ed25519)"


def test_an_issuer_without_keys_is_said_so() -> None:
    assert explained(held=keys.load_jwks({"keys": []}))["key"].found == "no usable key"


def test_an_algorithm_that_is_not_listed_is_named() -> None:
    steps = explained(at=issuer(algorithms=frozenset({"RS256"})))
    assert refused_by(steps) is Reason.ALGORITHM_NOT_ALLOWED
    assert steps["signature"].outcome is Outcome.NOT_REACHED


def test_a_bad_signature_is_told_from_a_good_one() -> None:
    steps = explained(sign(claims(), private_key("EdDSA", which=1), "EdDSA"))
    assert steps["signature"].found == "made with another, or the token was changed"
    assert steps["audience"].outcome is Outcome.HOLDS


def test_all_that_is_wrong_is_shown_and_the_first_of_it_decides() -> None:
    at = issuer(max_age=10.0, required_claims=(RequiredClaim(("group",), ("staff",)),))
    steps = explained(at=at, aud="other", exp=NOW - 100, iat=NOW - 200, group="guest")
    failed = [check for check, step in steps.items() if step.outcome is Outcome.FAILS]
    assert failed == ["audience", "expiry", "age", "required claims"]
    assert refused_by(steps) is Reason.WRONG_AUDIENCE


def test_an_audience_that_nearly_fits_is_named() -> None:
    assert "slash" in (explained(aud=[f"{AUD}/"])["audience"].hint or "")


def test_claims_of_a_wrong_form_leave_later_checks_unreached() -> None:
    steps = explained(exp="tomorrow")
    assert refused_by(steps) is Reason.MALFORMED_CLAIM
    unreached = [name for name, step in steps.items() if step.outcome is Outcome.NOT_REACHED]
    assert (unreached[0], unreached[-1]) == ("expiry", "demanded scopes")


def test_what_is_expected_and_found_is_put_into_words() -> None:
    at = issuer(
        required_claims=(RequiredClaim(("a",), ("x", "y")), RequiredClaim(("b", "c"), (1,))), client_id_claims=()
    )
    steps = explained(at=at, demands=Requirement(("read",), (AUD,)), a="x", b={"c": 1}, nbf=NOW)
    assert steps["required claims"].expected == "a is 'x' or 'y'; /b/c is '1'"
    assert steps["required claims"].found == "a 'x'; /b/c 1"
    assert (steps["expiry"].found, steps["not before"].found) == (
        f"{NOW + 300}, 300 seconds ahead",
        f"{NOW}, 0 seconds ahead",
    )
    assert (steps["demanded audience"].expected, steps["demanded scopes"].expected) == (f"'{AUD}'", "read")
    assert (steps["client"].found, steps["signature"].found) == ("nothing", "it is")


def test_where_nothing_is_demanded_it_says_so() -> None:
    steps = explained(exp=NOW + 5, iat=NOW - 5)
    assert (steps["required claims"].expected, steps["demanded scopes"].expected) == ("none", "none")
    assert (steps["demanded audience"].expected, steps["client"].expected) == ("any", "any")
    assert steps["issued at"].found == f"{NOW - 5}, 5 seconds ago"


def test_absent_dates_are_called_absent() -> None:
    assert explained(iat=None)["issued at"].found == "absent"


def test_a_token_type_that_does_not_fit_does_not_hide_the_rest() -> None:
    steps = explained(sign(claims(exp=NOW - 100), algorithm="EdDSA", typ="dpop+jwt"))
    assert (steps["type"].reason, steps["expiry"].reason) == (Reason.WRONG_TOKEN_TYPE, Reason.EXPIRED)


def test_a_token_without_type_and_with_clients_is_explained() -> None:
    at = issuer(client_ids=frozenset({"web"}), audiences=None)
    steps = explained(sign(claims(azp="web"), algorithm="EdDSA", typ=None), at)
    assert refused_by(steps) is None
    assert steps["client"].expected == "'web'"


def test_demands_are_checked_last() -> None:
    steps = explained(demands=Requirement(("admin",), (AUD,)))
    assert refused_by(steps) is Reason.INSUFFICIENT_SCOPE
    assert steps["demanded audience"].outcome is Outcome.HOLDS


def test_a_text_that_is_a_token_is_described_by_its_header() -> None:
    assert explained()["form"].found == "alg 'EdDSA', kid 'k1', typ 'JWT'"


def test_an_issuer_that_is_not_known_ends_the_explanation() -> None:
    assert list(explained(iss="other")) == ["size", "form", "issuer"]


def test_what_holds_needs_no_hint() -> None:
    at = issuer(identifiers=frozenset({ISS, ISS[:-1]}))
    assert {step.hint for step in explained(at=at).values()} == {None}


def test_an_absent_audience_is_not_a_near_miss() -> None:
    assert explained(aud=None)["audience"].hint == "the token has no aud"


def test_every_step_about_keys_stands_even_without_them() -> None:
    assert list(explained(held="cannot be had"))[3:6] == ["algorithm", "key", "signature"]


@pytest.mark.parametrize(
    ("check", "expected", "found"),
    [
        ("dates", "exp, and nbf and iat where present, in seconds since 1970", f"exp {NOW + 300}, nbf None, iat {NOW}"),
        ("names", "sub and jti are strings where present", "sub 'alice', jti None"),
        ("audience", f"'{AUD}'", f"aud '{AUD}'"),
        ("age", "at most 60 s since iat", f"{NOW}, 0 seconds ahead"),
    ],
)
def test_the_claims_are_shown_beside_what_is_expected(check: str, expected: str, found: str) -> None:
    step = explained(at=issuer(max_age=60.0))[check]
    assert (step.expected, step.found) == (expected, found)


def test_a_form_that_is_wrong_is_found_in_the_words_of_the_refusal() -> None:
    assert explained("a.b.c")["form"].found == "the header is not canonical base64url"


def test_the_first_audience_that_nearly_fits_gives_the_hint() -> None:
    assert "slash" in (explained(aud=["far away", f"{AUD}/"])["audience"].hint or "")


@pytest.mark.parametrize(
    ("algorithm", "members", "said"),
    [("RS256", {}, "'k1' (RSA)"), ("RS256", {"alg": "PS256"}, "'k1' (PS256)"), ("ES256", {}, "'k1' (P-256)")],
)
def test_a_key_is_described_by_what_it_is_for(algorithm: str, members: dict[str, str], said: str) -> None:
    held = keys.load_jwks({"keys": [public_jwk(private_key(algorithm), **members)]})
    assert explained(held=held)["key"].found == said


def test_what_a_route_demands_is_shown_where_it_is_demanded() -> None:
    demands = Requirement(
        any_scopes=("admin",),
        claims=(RequiredClaim(("groups",), ("staff",)),),
        issuers=("main",),
        client_ids=("web",),
        max_auth_age=60.0,
    )
    steps = explained(demands=demands, groups=["guests"], client_id="web", auth_time=NOW - 200)
    shown = {name: (steps[name].reason, steps[name].expected) for name in list(steps)[-5:]}
    assert shown == {
        "demanded audience": (None, "any"),
        "demanded sign-in": (Reason.STALE_AUTHENTICATION, "at most 60 s ago"),
        "demanded origin": (None, "'main' or 'web'"),
        "demanded claim groups": (Reason.CLAIM_NOT_SATISFIED, "'staff'"),
        "demanded scopes": (Reason.INSUFFICIENT_SCOPE, "one of admin"),
    }


REVOKED = Revocation("1", (ISS,), Kind.SUBJECT, "alice", 1.0, NOW + 60.0)


@pytest.mark.parametrize(
    ("held", "outcome", "found"),
    [
        ([], Outcome.HOLDS, "0 revocations are in force, none of which concerns it"),
        ([REVOKED], Outcome.FAILS, "it is revoked"),
    ],
)
def test_a_revocation_is_a_step(held: list[Revocation], outcome: Outcome, found: str) -> None:
    step = explained(besides=explanation.revocation_step(Revocations(held), NOW))["revocation"]
    assert (step.outcome, step.found) == (outcome, found)


def test_a_route_that_nobody_may_take_is_a_step_that_fails() -> None:
    table = Routes((Route("one", routes.parse("/closed"), access=Access.DENIED),), default=Access.AUTHENTICATED)
    closed, other = (table.rule(Target("GET", None, path)) for path in ("/closed", "/else"))
    step = explained(besides=explanation.route_step(closed))["route"]
    assert (step.outcome, step.reason, step.found) == (Outcome.FAILS, Reason.ROUTE_DENIED, "one: /closed")
    step = explained(besides=explanation.route_step(other))["route"]
    assert (step.outcome, step.found) == (Outcome.HOLDS, "no route matches")


def test_what_the_request_demands_besides_its_route_is_checked_too() -> None:
    demanded = Requirement(audiences=("https://other.example",))
    steps = explanation.explain(
        sign(claims(), algorithm="EdDSA"),
        Issuers([issuer()]),
        lambda _: KEYS,
        NOW,
        max_bytes=4096,
        demands=NOTHING,
        besides=explanation.demand_steps(demanded, NOW),
    )
    assert explanation.refused_by(steps) is Reason.WRONG_AUDIENCE


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("opaque", ["asked"]),
        (sign(claims(iss="https://only.example"), algorithm="EdDSA"), ["only"]),
        (sign(claims(), algorithm="EdDSA"), []),
        (sign(claims(iss="https://nobody.example"), algorithm="EdDSA"), []),
        ("a.b.c", []),
    ],
    ids=["opaque", "an issuer without keys", "signed", "of nobody", "no token"],
)
def test_it_is_told_whose_word_alone_counts(text: str, asked: list[str]) -> None:
    def introspected(name: str, tokens: Introspect, prefix: str | None) -> Issuer:
        identifiers = frozenset({f"https://{name}.example"})
        return issuer(name=name, identifiers=identifiers, introspection=Introspection(tokens, prefix, 60.0, 5.0))

    issuers = Issuers(
        [issuer(), introspected("asked", Introspect.OPAQUE, None), introspected("only", Introspect.ONLY, "only_")]
    )
    assert [one.name for one in explanation.only_asked(text, issuers)] == asked
