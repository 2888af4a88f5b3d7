import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support import ISS, NOW, PrivateKey, claims, issuer, private_key, public_jwk
from verifier.core import claims as checks
from verifier.core import keys
from verifier.core.identity import HeldKeys, Identity, holds, pack, unpack
from verifier.core.issuer import Introspect, Introspection, Issuer, Issuers
from verifier.core.keys import Key
from verifier.core.reasons import Reason
from verifier.core.token import Header
from verifier.core.verdict import Denied, Principal

ISSUER = issuer()
ASKED = issuer(introspection=Introspection(Introspect.ALWAYS, None, ttl=60.0, denial_ttl=5.0))
CONTENT = bytes(range(32))


def loaded(made: PrivateKey, **members: Any) -> Key:
    return keys.load_jwks({"keys": [public_jwk(made, **members)]}).keys[0]


KEY = loaded(private_key("ES256"), alg="ES256", issuer=ISS)
OTHER_KEY = loaded(private_key("ES256", which=1))


def holding(*held: Key) -> HeldKeys:
    """Every issuer is trusted by these keys."""
    return lambda _issuer: frozenset(held)


TRUSTING = holding(KEY)


def principal(at: Issuer = ISSUER, **changes: Any) -> Principal:
    return checks.principal(claims(**changes), at)


def signed(until: float | None = None) -> Identity:
    """What a signature led to."""
    return Identity("main", "one", KEY, CONTENT, principal(), until, Header("ES256", "k1", None))


def told(until: float | None = NOW + 60) -> Identity:
    """What the issuer's word alone led to."""
    return Identity("main", "one", None, CONTENT, principal(ASKED), until)


def unpacked(entry: bytes, at: Issuer = ASKED, held: HeldKeys = TRUSTING, now: float = NOW) -> Identity | None:
    return unpack(entry, Issuers([at]), held, now)


def changed(identity: Identity, **members: Any) -> bytes:
    """The packed ``identity`` with single members replaced."""
    return json.dumps({**json.loads(pack(identity)), **members}).encode()


def without(member: str) -> bytes:
    packed = json.loads(pack(signed()))
    del packed[member]
    return json.dumps(packed).encode()


@pytest.mark.parametrize("held", [TRUSTING, holding(OTHER_KEY, KEY)])
def test_what_was_signed_holds_while_its_key_is_trusted(held: HeldKeys) -> None:
    assert holds(signed(), ISSUER, held, NOW)


@pytest.mark.parametrize("held", [holding(), holding(OTHER_KEY), holding(replace(KEY, algorithm=None))])
def test_what_was_signed_does_not_hold_once_its_key_is_not_trusted(held: HeldKeys) -> None:
    assert not holds(signed(), ISSUER, held, NOW)


def test_the_keys_are_those_of_the_issuer() -> None:
    assert not holds(signed(), ISSUER, lambda at: frozenset({KEY}) if at != ISSUER else frozenset(), NOW)


def test_nothing_holds_of_an_issuer_that_is_no_longer_configured() -> None:
    assert not holds(signed(), None, TRUSTING, NOW)


def test_nothing_holds_once_the_issuer_is_configured_otherwise() -> None:
    assert not holds(signed(), issuer(fingerprint="two"), TRUSTING, NOW)


@pytest.mark.parametrize("identity", [signed(NOW + 60), told()])
@pytest.mark.parametrize(("later", "holding_still"), [(0.0, True), (59.9, True), (60.0, False), (61.0, False)])
def test_an_answer_holds_until_the_issuer_must_be_asked_again(
    identity: Identity, later: float, holding_still: bool
) -> None:
    assert holds(identity, ASKED, TRUSTING, NOW + later) is holding_still


def test_an_answer_that_still_counts_does_not_stand_in_for_a_key() -> None:
    assert not holds(signed(NOW + 60), ASKED, holding(), NOW)


def test_an_issuers_word_needs_no_key() -> None:
    assert holds(told(), ASKED, holding(), NOW)


def test_an_issuers_word_does_not_hold_where_it_is_not_asked() -> None:
    assert not holds(told(), ISSUER, TRUSTING, NOW)


@pytest.mark.parametrize(
    "identity",
    [
        signed(),
        signed(NOW + 60),
        signed(NOW + 0.25),
        told(),
        signed()._replace(outcome=Denied(Reason.BAD_SIGNATURE, "no", "main")),
        told()._replace(outcome=Denied(Reason.INACTIVE, "the issuer says no", "main")),
    ],
)
def test_what_was_packed_comes_back(identity: Identity) -> None:
    assert unpacked(pack(identity)) == identity


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_the_key_that_comes_back_is_the_one_that_verified_it(key: Key) -> None:
    found = unpacked(pack(signed()._replace(key=key)), held=holding(KEY, OTHER_KEY))
    assert found is not None
    assert found.key == key


@pytest.mark.parametrize("member", [b'"n"', b'"x"', b'"d"'])
def test_a_packed_identity_holds_no_key_material(member: bytes) -> None:
    assert member not in pack(signed())


@pytest.mark.parametrize(
    "held",
    [
        holding(),
        holding(OTHER_KEY),
        holding(replace(KEY, kid="k2")),
        holding(replace(KEY, algorithm=None)),
        holding(replace(KEY, issuer=None)),
        holding(replace(KEY, thumbprint=OTHER_KEY.thumbprint)),
    ],
)
def test_an_entry_of_a_key_that_is_not_trusted_here_is_nothing(held: HeldKeys) -> None:
    assert unpacked(pack(signed()), held=held) is None


def test_an_entry_of_an_issuer_that_is_not_configured_here_is_nothing() -> None:
    assert unpacked(pack(signed()), issuer(name="two")) is None


def test_an_entry_of_an_issuer_that_is_configured_otherwise_is_nothing() -> None:
    assert unpacked(pack(signed()), issuer(fingerprint="two")) is None


@pytest.mark.parametrize(("later", "is_one"), [(59.9, True), (60.0, False)])
def test_an_entry_whose_time_has_come_is_nothing(later: float, is_one: bool) -> None:
    assert (unpacked(pack(told()), now=NOW + later) is not None) is is_one


def test_an_issuers_word_is_nothing_where_it_is_not_asked() -> None:
    assert unpacked(pack(told()), ISSUER) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example/"},
        {"aud": "https://other.example"},
        {"aud": None},
        {"exp": None},
        {"exp": "never"},
        {"sub": 1},
        {"scope": 1},
    ],
)
def test_an_entry_cannot_say_more_than_a_token_could(changes: dict[str, Any]) -> None:
    assert unpacked(changed(signed(), claims=claims(**changes))) is None


def test_claims_are_judged_by_the_configuration_of_here() -> None:
    assert unpacked(pack(signed()), issuer(client_ids=frozenset({"web"}))) is None


def test_a_refusal_is_that_of_the_issuer_of_here() -> None:
    found = unpacked(changed(signed(), claims=None, denied=["inactive", "no"]))
    assert found is not None
    assert found.outcome == Denied(Reason.INACTIVE, "no", "main")


def test_an_entry_that_is_both_a_principal_and_a_refusal_is_a_refusal() -> None:
    found = unpacked(changed(signed(), denied=["inactive", "no"]))
    assert found is not None
    assert isinstance(found.outcome, Denied)


@pytest.mark.parametrize("member", ["issuer", "fingerprint", "key", "content", "claims", "denied", "until", "header"])
def test_an_entry_that_lacks_a_member_is_nothing(member: str) -> None:
    assert unpacked(without(member)) is None


@pytest.mark.parametrize("entry", [b"", b"{}", b"[]", b"null", b"\xff", b'{"issuer":"main","issuer":"main"}'])
def test_what_is_no_entry_is_nothing(entry: bytes) -> None:
    assert unpacked(entry) is None


@pytest.mark.parametrize(
    ("member", "values"),
    [
        ("issuer", [None, 1, [], {}, "", "Main"]),
        ("fingerprint", [None, 1, [], {}, ""]),
        ("key", [1, "", [], {}, [None] * 4, [KEY.kid], True]),
        ("claims", [None, 1, "", []]),
        ("until", ["x", [], {}]),
        ("header", [1, "", [], {}, ["ES256"], [None, None, None], ["ES256", 1, None], ["ES256", None, []]]),
        ("denied", [1, [], ["inactive"], ["good", "no"], ["inactive", "no", 1]]),
    ],
)
def test_an_entry_with_a_member_of_another_form_is_nothing(member: str, values: list[Any]) -> None:
    assert [unpacked(changed(signed(), **{member: value})) for value in values] == [None] * len(values)
