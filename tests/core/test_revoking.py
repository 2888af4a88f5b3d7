from dataclasses import replace
from typing import Any

import pytest

from tests.support import ISS, NOW, claims, encode, issuer
from verifier.core.claims import LATEST
from verifier.core.issuer import Introspect, Introspection, Issuers
from verifier.core.revocation import Kind, Revocation
from verifier.core.revoking import KINDS, LONGEST_LEEWAY, revocation
from verifier.core.token import content_digest

KEEP = 1000.0
AGE, LEEWAY = 500.0, 30.0
TENANTS = ("https://a.example/", "https://b.example/")
ONLY = "https://only.example/"
ASKED = Introspection(Introspect.OPAQUE, token_prefix=None, ttl=60.0, denial_ttl=10.0)
ISSUERS = Issuers(
    [
        issuer(introspection=ASKED),
        issuer(name="tenants", identifiers=frozenset(TENANTS), introspection=ASKED),
        issuer(
            name="only",
            identifiers=frozenset({ONLY}),
            introspection=replace(ASKED, tokens=Introspect.ONLY, token_prefix="only_"),
        ),
        issuer(name="short", identifiers=frozenset({"https://short.example/"}), max_age=AGE, introspection=ASKED),
    ]
)

# One value for each kind that goes by a text of its own.
NAMED = [(Kind.TOKEN_ID, "t1"), (Kind.SUBJECT, "alice"), (Kind.SESSION, "s1"), (Kind.CLIENT, "web")]


def jwt(header: object = None, **changes: Any) -> str:
    """A token that nobody signed; a change to None takes the claim away."""
    return f"{encode({'alg': 'RS256'} if header is None else header)}.{encode(claims(**changes))}.QQ"


def asked(**members: Any) -> Revocation:
    return revocation(members, ISSUERS, new_id="r1", now=NOW, keep=KEEP)


def refused(**members: Any) -> str:
    with pytest.raises(ValueError, match=r".") as refusal:
        asked(**members)
    return str(refusal.value)


@pytest.mark.parametrize(("kind", "value"), NAMED)
def test_what_is_asked_for_is_what_is_revoked(kind: Kind, value: str) -> None:
    found = asked(issuer="main", reason="left", **{str(kind): value})
    assert found == Revocation("r1", (ISS,), kind, value, float(NOW), NOW + KEEP, "left")


@pytest.mark.parametrize("reason", [{}, {"reason": None}])
def test_a_reason_need_not_be_given(reason: dict[str, Any]) -> None:
    assert asked(issuer="main", sub="alice", **reason).reason is None


@pytest.mark.parametrize("name", ["iss", "", "issuers", "id", "exp", "Sub", "made_at"])
def test_a_member_that_is_not_known_is_refused_by_name(name: str) -> None:
    expected = "there are client_id, expires_at, issued_before, issuer, jti, reason, sid, sub, token"
    assert refused(issuer="main", sub="alice", **{name: "x"}) == f"{name!r} is not known; {expected}"


def test_of_several_unknown_members_the_first_by_name_is_told() -> None:
    assert refused(z=1, y=1, sub="alice").startswith("'y' is not known")


def test_what_to_go_by_must_be_said() -> None:
    assert refused(issuer="main") == "give one of jti, sub, sid, client_id, token, issued_before"


@pytest.mark.parametrize("second", [kind for kind in KINDS if kind != "sub"])
def test_two_things_to_go_by_are_ambiguous(second: str) -> None:
    assert refused(issuer="main", sub="alice", **{second: None}).startswith("give one of")


@pytest.mark.parametrize(
    ("named", "identifiers"),
    [("main", (ISS,)), (ISS, (ISS,)), ("tenants", TENANTS), (TENANTS[0], TENANTS), (TENANTS[1], TENANTS)],
)
def test_an_issuer_goes_by_its_name_or_by_each_iss(named: str, identifiers: tuple[str, ...]) -> None:
    assert asked(issuer=named, sub="alice").issuers == identifiers


@pytest.mark.parametrize("named", ["", "Main", "other", ISS[:-1], 1, True, [], {}])
def test_an_issuer_that_is_not_configured_is_refused(named: object) -> None:
    assert refused(issuer=named, sub="alice") == "issuer: expected main or only or short or tenants, or its iss"


@pytest.mark.parametrize(("kind", "value"), [*NAMED, (Kind.CONTENT, "opaque"), (Kind.ISSUED_BEFORE, NOW)])
@pytest.mark.parametrize("issuer_named", [{}, {"issuer": None}])
def test_only_a_jwt_names_its_issuer_itself(kind: Kind, value: object, issuer_named: dict[str, Any]) -> None:
    assert refused(**issuer_named, **{str(kind): value}).startswith("issuer: expected")


def test_a_subject_in_the_form_of_a_jwt_does_not_name_an_issuer() -> None:
    assert refused(sub=jwt()).startswith("issuer: expected")


@pytest.mark.parametrize("value", [None, 1, [], {}, True])
def test_a_token_that_is_no_text_names_no_issuer(value: object) -> None:
    assert refused(token=value).startswith("issuer: expected")


@pytest.mark.parametrize(("iss", "identifiers"), [(ISS, (ISS,)), (TENANTS[1], TENANTS)])
def test_a_jwt_says_itself_who_issued_it(iss: str, identifiers: tuple[str, ...]) -> None:
    assert asked(token=jwt(iss=iss)).issuers == identifiers


def test_a_jwt_of_a_foreign_issuer_is_refused_with_the_cause() -> None:
    expected = "token: the iss of the token is none of the configured issuers (compared exactly)"
    assert refused(token=jwt(iss="https://other.example/")) == expected


@pytest.mark.parametrize("named", [{}, {"issuer": "main"}])
def test_a_jwt_that_cannot_be_read_is_refused_with_the_cause(named: dict[str, Any]) -> None:
    assert refused(token=jwt(header={}), **named) == "token: the header has no alg that is a string"


@pytest.mark.parametrize("iss", ["https://other.example/", TENANTS[0], "main", None, 1, [], {}])
def test_a_jwt_must_be_of_the_issuer_that_is_named(iss: object) -> None:
    assert refused(issuer="main", token=jwt(iss=iss)) == "token: its iss is not that of the issuer"


@pytest.mark.parametrize("named", [{}, {"issuer": "main"}, {"issuer": ISS}])
def test_a_jwt_goes_by_its_id_until_it_is_over(named: dict[str, Any]) -> None:
    found = asked(token=jwt(jti="t1"), **named)
    assert (found.kind, found.value, found.expires_at) == (Kind.TOKEN_ID, "t1", NOW + 300 + LONGEST_LEEWAY)


@pytest.mark.parametrize("jti", [None, 1, [], {}, True])
def test_a_jwt_without_an_id_goes_by_its_content(jti: object) -> None:
    text = jwt(jti=jti)
    found = asked(token=text)
    assert (found.kind, found.value, found.expires_at) == (
        Kind.CONTENT,
        content_digest(text, opaque=False).hex(),
        NOW + 300 + LONGEST_LEEWAY,
    )


def test_a_jwt_of_its_own_expiry_outlives_the_age_that_is_allowed() -> None:
    found = asked(token=jwt(iss="https://short.example/", exp=NOW + 900))
    assert found.expires_at == NOW + 900 + LONGEST_LEEWAY


def test_a_jwt_that_names_no_expiry_is_kept_like_the_rest() -> None:
    assert asked(token=jwt(exp=None)).expires_at == NOW + KEEP


@pytest.mark.parametrize("exp", ["1700000300", True, -1, LATEST + 1, [], 10**400])
def test_a_jwt_whose_expiry_no_clock_shows_is_refused(exp: object) -> None:
    assert refused(token=jwt(exp=exp)) == "the exp of the token: expected a number of seconds since 1970"


@pytest.mark.parametrize("text", ["opaque", "a.b", "a.b.c.d", "x" * 262_144])
def test_an_opaque_token_goes_by_its_content(text: str) -> None:
    found = asked(issuer="main", token=text)
    assert (found.kind, found.value, found.expires_at) == (
        Kind.CONTENT,
        content_digest(text, opaque=True).hex(),
        NOW + KEEP,
    )


@pytest.mark.parametrize("text", ["only_abc", "only_a.b.c"])
@pytest.mark.parametrize("named", [{}, {"issuer": "only"}])
def test_an_opaque_token_with_a_prefix_says_itself_who_issued_it(text: str, named: dict[str, Any]) -> None:
    found = asked(token=text, **named)
    assert (found.issuers, found.value) == ((ONLY,), content_digest(text, opaque=True).hex())


@pytest.mark.parametrize(
    ("named", "text", "asked_about"), [("main", "only_abc", "only"), ("only", "abc", "main or tenants or short")]
)
def test_an_opaque_token_is_revoked_at_an_issuer_that_is_asked_about_it(
    named: str, text: str, asked_about: str
) -> None:
    expected = f"token: it is opaque, and {asked_about} is asked about it; name that as issuer"
    assert refused(issuer=named, token=text) == expected


def test_a_jwt_whose_issuer_alone_says_what_it_is_goes_by_its_content_for_the_whole_time() -> None:
    """Its answer need not have the ``jti`` and the ``exp`` that the token shows."""
    text = jwt(iss=ONLY, jti="t1")
    found = asked(token=text)
    assert (found.kind, found.value, found.expires_at) == (
        Kind.CONTENT,
        content_digest(text, opaque=False).hex(),
        NOW + KEEP,
    )


@pytest.mark.parametrize("text", ["", "x" * 262_145, None, 1, [], {}, True])
def test_a_token_is_a_text_of_the_longest_size_or_less(text: object) -> None:
    assert refused(issuer="main", token=text) == "token: expected a text of up to 262144 characters"


@pytest.mark.parametrize(("kind", "_value"), NAMED)
@pytest.mark.parametrize("value", ["", "x" * 4_097, None, 1, 1.5, True, [], {}, ["alice"]])
def test_what_to_go_by_is_a_text_of_the_longest_size_or_less(kind: Kind, _value: str, value: object) -> None:
    assert refused(issuer="main", **{str(kind): value}) == f"{kind}: expected a text of up to 4096 characters"


@pytest.mark.parametrize("value", ["x", "x" * 4_096])
def test_the_shortest_and_the_longest_text_are_taken(value: str) -> None:
    assert asked(issuer="main", sub=value, reason=value).value == value


@pytest.mark.parametrize("reason", ["", "x" * 4_097, 1, True, [], {}])
def test_a_reason_is_a_text_of_the_longest_size_or_less(reason: object) -> None:
    expected = "reason: expected a text of up to 4096 characters"
    assert refused(issuer="main", sub="alice", reason=reason) == expected


@pytest.mark.parametrize("before", [NOW, NOW - 999, NOW - 0.5, NOW + LEEWAY])
def test_tokens_before_a_time_are_revoked_until_the_last_of_them_is_over(before: float) -> None:
    found = asked(issuer="main", issued_before=before)
    assert (found.kind, found.value, found.expires_at) == (Kind.ISSUED_BEFORE, before, before + KEEP)


def test_a_time_is_kept_as_a_fraction_even_where_it_is_whole() -> None:
    assert isinstance(asked(issuer="main", issued_before=NOW).value, float)


@pytest.mark.parametrize("before", [NOW + LEEWAY + 0.1, LATEST])
def test_a_time_to_come_is_a_mistake(before: float) -> None:
    expected = "issued_before: lies in the future (it is in seconds since 1970)"
    assert refused(issuer="main", issued_before=before) == expected


NO_TIMES: list[object] = [
    NOW * 1000,
    None,
    "1700000000",
    True,
    False,
    -1,
    -0.1,
    LATEST + 1,
    10**400,
    float("nan"),
    float("inf"),
    [],
    {},
]


@pytest.mark.parametrize("before", NO_TIMES)
def test_a_time_that_no_clock_shows_is_refused(before: object) -> None:
    assert refused(issuer="main", issued_before=before) == "issued_before: expected a number of seconds since 1970"


@pytest.mark.parametrize("expires_at", NO_TIMES)
def test_an_end_that_no_clock_shows_is_refused(expires_at: object) -> None:
    expected = "expires_at: expected a number of seconds since 1970"
    assert refused(issuer="main", sub="alice", expires_at=expires_at) == expected


@pytest.mark.parametrize("expires_at", [NOW + 1, NOW + 5000.5, LATEST])
@pytest.mark.parametrize(("kind", "value"), [*NAMED, (Kind.ISSUED_BEFORE, NOW - 10), (Kind.CONTENT, jwt())])
def test_an_end_that_is_given_counts(kind: Kind, value: object, expires_at: float) -> None:
    assert asked(issuer="main", expires_at=expires_at, **{str(kind): value}).expires_at == expires_at


@pytest.mark.parametrize("expires_at", [0, NOW - 1, NOW])
def test_an_end_that_has_passed_is_refused(expires_at: float) -> None:
    expected = "the last token that this could concern is over already"
    assert refused(issuer="main", sub="alice", expires_at=expires_at) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.CONTENT, jwt(exp=NOW - LONGEST_LEEWAY)),
        (Kind.CONTENT, jwt(exp=0)),
        (Kind.ISSUED_BEFORE, NOW - KEEP),
        (Kind.ISSUED_BEFORE, 0),
    ],
)
def test_nothing_is_revoked_that_is_over_already(kind: Kind, value: object) -> None:
    assert refused(issuer="main", **{str(kind): value}) == "the last token that this could concern is over already"


def test_a_jwt_that_some_leeway_could_keep_alive_can_be_revoked() -> None:
    """Whatever it is now: another configuration may have the longest that there is."""
    assert asked(token=jwt(exp=NOW - LONGEST_LEEWAY + 1)).expires_at == NOW + 1


@pytest.mark.parametrize(
    ("kind", "value", "end"),
    [
        *((kind, value, NOW) for kind, value in NAMED),
        (Kind.CONTENT, "opaque", NOW),
        (Kind.ISSUED_BEFORE, NOW - 10, NOW - 10),
    ],
)
def test_a_longest_age_makes_it_last_longer_and_never_shorter(kind: Kind, value: object, end: float) -> None:
    """Tomorrow's configuration may permit more."""
    assert asked(issuer="short", **{str(kind): value}).expires_at == end + AGE + 2 * LONGEST_LEEWAY + 1.0
    made = revocation({"issuer": "short", str(kind): value}, ISSUERS, new_id="r1", now=NOW, keep=1e6)
    assert made.expires_at == end + 1e6


def test_a_refusal_repeats_nothing_of_a_token() -> None:
    assert "private" not in refused(token=jwt(iss="private", jti="private"))
