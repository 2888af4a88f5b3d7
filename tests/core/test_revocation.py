import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support import ISS, NOW, claims, issuer
from verifier.core import claims as checks
from verifier.core.issuer import Issuer
from verifier.core.reasons import Reason, Rejected
from verifier.core.revocation import Kind, Lift, Revocation, Revocations, pack, unpack
from verifier.core.verdict import Principal

OTHER = "https://other.example/"
TENANTS = issuer(identifiers=frozenset({ISS, OTHER}))
DIGEST = hashlib.sha256(b"a token").hexdigest()
BEARER = {"jti": "t1", "sub": "alice", "sid": "s1", "client_id": "web", "azp": "app"}


def revoked(kind: Kind, value: str | float, **changes: Any) -> Revocation:
    made = Revocation("r1", (ISS,), kind, value, made_at=NOW, expires_at=NOW + 100)
    return replace(made, **changes)


def principal(at: Issuer = TENANTS, **changes: Any) -> Principal:
    return checks.principal(claims(**{**BEARER, **changes}), at)


def is_revoked(
    *held: Revocation, by: Principal | None = None, content: str = DIGEST, at: Issuer = TENANTS, now: float = NOW
) -> bool:
    return refuses(Revocations(held), by, content, at, now)


def refuses(
    revocations: Revocations,
    by: Principal | None = None,
    content: str = DIGEST,
    at: Issuer = TENANTS,
    now: float = NOW,
) -> bool:
    try:
        revocations.check(by or principal(), bytes.fromhex(content), at, now)
    except Rejected as refusal:
        return refusal.reason is Reason.REVOKED
    return False


# What revokes the principal of this file.
MEANT: list[tuple[Kind, str | float]] = [
    (Kind.TOKEN_ID, "t1"),
    (Kind.SUBJECT, "alice"),
    (Kind.SESSION, "s1"),
    (Kind.CLIENT, "web"),
    (Kind.CLIENT, "app"),
    (Kind.CONTENT, DIGEST),
    (Kind.ISSUED_BEFORE, NOW + 0.5),
]
each_kind = pytest.mark.parametrize(("kind", "value"), MEANT, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(MEANT)])


def test_an_empty_list_revokes_nothing() -> None:
    assert not is_revoked()


@each_kind
def test_what_a_token_shows_revokes_it(kind: Kind, value: str | float) -> None:
    assert is_revoked(revoked(kind, value))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.TOKEN_ID, "t2"),
        (Kind.SUBJECT, "bob"),
        (Kind.SESSION, "s2"),
        (Kind.CLIENT, "other"),
        (Kind.CONTENT, DIGEST[:-1]),
        (Kind.ISSUED_BEFORE, NOW - 0.5),
    ],
)
def test_another_value_revokes_another_token(kind: Kind, value: str | float) -> None:
    assert not is_revoked(revoked(kind, value))


@pytest.mark.parametrize("kind", [Kind.TOKEN_ID, Kind.SUBJECT, Kind.SESSION, Kind.CLIENT, Kind.CONTENT])
def test_a_value_counts_for_its_own_kind_alone(kind: Kind) -> None:
    values = {str(value) for meant, value in MEANT if meant is not kind}
    assert not is_revoked(*(revoked(kind, value, id=value) for value in values))


@each_kind
def test_a_revocation_concerns_its_own_issuer_alone(kind: Kind, value: str | float) -> None:
    another = issuer(name="another", identifiers=frozenset({OTHER}))
    assert not is_revoked(revoked(kind, value), by=principal(another, iss=OTHER), at=another)


@each_kind
def test_a_revocation_concerns_its_issuer_under_a_name_that_it_got_later(kind: Kind, value: str | float) -> None:
    assert is_revoked(revoked(kind, value), by=principal(iss=OTHER))


@each_kind
@pytest.mark.parametrize("iss", [ISS, OTHER])
def test_a_revocation_concerns_each_of_its_issuers(kind: Kind, value: str | float, iss: str) -> None:
    assert is_revoked(revoked(kind, value, issuers=(ISS, OTHER)), by=principal(iss=iss))


@each_kind
@pytest.mark.parametrize(("later", "in_force"), [(99.9, True), (100.0, False), (101.0, False)])
def test_a_revocation_is_in_force_until_it_is_over(
    kind: Kind, value: str | float, later: float, in_force: bool
) -> None:
    assert is_revoked(revoked(kind, value), now=NOW + later) is in_force


@each_kind
def test_of_two_revocations_of_one_token_the_longer_counts(kind: Kind, value: str | float) -> None:
    longer = revoked(kind, value, id="r2", expires_at=NOW + 200)
    assert is_revoked(revoked(kind, value), longer, now=NOW + 150)


def test_one_revocation_among_others_is_enough() -> None:
    assert is_revoked(revoked(Kind.SUBJECT, "bob"), revoked(Kind.TOKEN_ID, "t1", id="r2"))


@pytest.mark.parametrize(("iat", "meant"), [(NOW - 10, True), (NOW - 0.1, True), (NOW, False), (NOW + 10, False)])
def test_tokens_issued_before_a_time_are_revoked_and_those_on_it_or_after_are_not(iat: float, meant: bool) -> None:
    assert is_revoked(revoked(Kind.ISSUED_BEFORE, float(NOW)), by=principal(iat=iat)) is meant


def test_a_token_of_unknown_age_counts_as_issued_before() -> None:
    assert is_revoked(revoked(Kind.ISSUED_BEFORE, 1.0), by=principal(iat=None))


@pytest.mark.parametrize("values", [(NOW - 10.0, NOW + 10.0), (NOW + 10.0, NOW - 10.0)])
def test_every_time_before_which_tokens_were_revoked_counts(values: tuple[float, float]) -> None:
    held = (revoked(Kind.ISSUED_BEFORE, value, id=str(value)) for value in values)
    assert is_revoked(*held)


@pytest.mark.parametrize("name", ["jti", "sub", "sid", "client_id", "azp"])
def test_a_token_that_shows_less_is_revoked_by_the_rest(name: str) -> None:
    assert is_revoked(revoked(Kind.CONTENT, DIGEST), by=principal(TENANTS, **{name: None}))


@pytest.mark.parametrize("kind", [Kind.TOKEN_ID, Kind.SUBJECT, Kind.SESSION, Kind.CLIENT])
def test_what_a_token_does_not_show_does_not_revoke_it(kind: Kind) -> None:
    bare = principal(jti=None, sub=None, sid=None, client_id=None, azp=None)
    assert not is_revoked(revoked(kind, "None"), by=bare)


@pytest.mark.parametrize("sid", [["s1"], {"s1": 1}, 1, True])
def test_a_session_that_is_no_string_is_none(sid: object) -> None:
    assert not is_revoked(revoked(Kind.SESSION, "s1"), by=principal(sid=sid))


def test_the_clients_are_those_that_the_issuer_names_by_its_claims() -> None:
    at = issuer(client_id_claims=("appid",))
    assert [
        is_revoked(revoked(Kind.CLIENT, client), by=principal(at, appid="own"), at=at) for client in ("own", "web")
    ] == [True, False]


@pytest.mark.parametrize(
    ("kind", "value", "detail"),
    [
        (Kind.SUBJECT, "alice", "the token, its subject, its session or its client was revoked"),
        (Kind.ISSUED_BEFORE, NOW + 1.0, "tokens of this age were revoked; a new one is needed"),
    ],
)
def test_the_detail_says_what_helps_and_nothing_of_the_list(kind: Kind, value: str | float, detail: str) -> None:
    with pytest.raises(Rejected) as refusal:
        Revocations([revoked(kind, value, reason="private")]).check(principal(), bytes.fromhex(DIGEST), TENANTS, NOW)
    assert refusal.value.detail == detail


def test_the_list_shows_what_it_holds() -> None:
    first, second = revoked(Kind.SUBJECT, "alice"), revoked(Kind.ISSUED_BEFORE, 1.0, id="r2")
    held = Revocations([first, second])
    assert (len(held), list(held), held.get("r1"), held.get("r2")) == (2, [first, second], first, second)


def test_the_list_knows_what_it_does_not_hold() -> None:
    held = Revocations([revoked(Kind.SUBJECT, "alice")])
    assert ("r1" in held, "r2" in held, held.get("r2")) == (True, False, None)


def test_a_list_to_which_something_is_added_revokes_it() -> None:
    held = Revocations()
    held.add(revoked(Kind.SUBJECT, "alice"))
    assert refuses(held)


@each_kind
def test_a_revocation_that_is_lifted_no_longer_counts(kind: Kind, value: str | float) -> None:
    held = Revocations([revoked(kind, value, issuers=(ISS, OTHER))])
    held.remove("r1")
    assert (refuses(held), refuses(held, principal(iss=OTHER)), len(held)) == (False, False, 0)


@each_kind
def test_lifting_one_of_two_revocations_leaves_the_other(kind: Kind, value: str | float) -> None:
    held = Revocations([revoked(kind, value), revoked(kind, value, id="r2")])
    held.remove("r1")
    assert refuses(held)


@each_kind
def test_what_was_lifted_can_be_revoked_again(kind: Kind, value: str | float) -> None:
    held = Revocations([revoked(kind, value)])
    held.remove("r1")
    held.add(revoked(kind, value))
    assert refuses(held)


def test_removing_says_whether_it_was_held() -> None:
    held = Revocations([revoked(Kind.SUBJECT, "alice")])
    assert (held.remove("r1"), held.remove("r1"), held.remove("r2")) == (True, False, False)


def test_a_list_forgets_what_was_lifted_wholly() -> None:
    held = Revocations(revoked(kind, value, id=str(value)) for kind, value in MEANT)
    for _, value in MEANT:
        held.remove(str(value))
    assert (held._index, held._issued_before) == ({}, {})


@each_kind
def test_a_revocation_added_again_replaces_the_first(kind: Kind, value: str | float) -> None:
    held = Revocations([revoked(kind, value), revoked(Kind.SUBJECT, "bob")])
    assert (len(held), refuses(held), refuses(held, principal(sub="bob"))) == (1, False, True)


@pytest.mark.parametrize(("later", "left"), [(99.9, ["r1", "r2"]), (100.0, ["r2"]), (200.0, [])])
def test_those_that_are_over_can_be_removed(later: float, left: list[str]) -> None:
    held = Revocations([revoked(Kind.SUBJECT, "a"), revoked(Kind.SUBJECT, "b", id="r2", expires_at=NOW + 200)])
    held.remove_ended(NOW + later)
    assert [one.id for one in held] == left


def test_a_lift_that_was_packed_comes_back() -> None:
    assert unpack(pack(Lift("r1", NOW + 100.0))) == Lift("r1", NOW + 100.0)


@pytest.mark.parametrize(
    "entry",
    [
        b'{"lift":"r1"}',
        b'{"lift":1,"expires_at":1}',
        b'{"lift":"r1","expires_at":true}',
        b'{"lift":"r1","expires_at":-1}',
    ],
)
def test_a_lift_of_another_form_is_none(entry: bytes) -> None:
    with pytest.raises(ValueError, match="not a revocation"):
        unpack(entry)


PACKED = json.loads(pack(revoked(Kind.SUBJECT, "alice", reason="left")))


def unpacked(**members: Any) -> Revocation:
    made = unpack(json.dumps({**PACKED, **members}).encode())
    assert isinstance(made, Revocation)
    return made


@each_kind
@pytest.mark.parametrize("reason", [None, "left the company"])
def test_what_was_packed_comes_back(kind: Kind, value: str | float, reason: str | None) -> None:
    one = revoked(kind, value, issuers=(OTHER, ISS), made_at=NOW + 0.25, reason=reason)
    assert unpack(pack(one)) == one


def test_a_subject_of_digits_stays_a_text() -> None:
    assert unpacked(**json.loads(pack(revoked(Kind.SUBJECT, "1")))).value == "1"


def test_whole_seconds_come_back_as_a_time() -> None:
    assert refuses(Revocations([unpacked(kind="issued_before", value=NOW + 1)]))


@pytest.mark.parametrize("member", sorted(set(PACKED) - {"reason"}))
def test_an_entry_that_lacks_a_member_is_no_revocation(member: str) -> None:
    packed = {name: value for name, value in PACKED.items() if name != member}
    with pytest.raises(ValueError, match="not a revocation"):
        unpack(json.dumps(packed).encode())


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("kind", "iss"),
        ("kind", None),
        ("kind", []),
        ("issuers", None),
        ("issuers", 1),
        ("issuers", "ab"),
        ("issuers", []),
        ("issuers", [1]),
        ("id", 1),
        ("value", 1),
        ("reason", [1]),
        ("made_at", "1"),
        ("made_at", True),
        ("expires_at", -1),
        ("expires_at", 10**400),
        ("expires_at", checks.LATEST + 1),
        ("made_at", None),
        ("made_at", "now"),
        ("made_at", []),
        ("expires_at", None),
        ("expires_at", "never"),
        ("expires_at", {}),
    ],
)
def test_an_entry_with_a_member_of_another_form_is_no_revocation(member: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpacked(**{member: value})


@pytest.mark.parametrize("value", [None, "yesterday", [], {}])
def test_an_entry_for_a_time_that_names_none_is_no_revocation(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpacked(kind="issued_before", value=value)


def test_an_entry_that_names_an_issuer_twice_can_be_lifted() -> None:
    held = Revocations([unpacked(issuers=[ISS, ISS])])
    assert held.remove("r1")
    assert not refuses(held)


@pytest.mark.parametrize("entry", [b"", b"[]", b"null", b"{}", b"\xff", b'{"id":"r1","id":"r2"}', b'{"value":NaN}'])
def test_what_is_no_entry_is_no_revocation(entry: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(entry)
