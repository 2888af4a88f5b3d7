import pytest

from tests.core.test_claims import identified
from tests.support import encode, issuer, private_key, public_jwk
from verifier.core import keys, token
from verifier.core.explanation import Outcome, Step
from verifier.core.issuer import RequiredClaim
from verifier.core.policy import NOTHING
from verifier.core.reasons import Family, Reason
from verifier.core.verdict import Allowed, Denied, WouldDeny

KEYS = keys.load_jwks({"keys": [public_jwk(private_key("EdDSA"))]})
VALUES = {
    "principal": identified(),
    "allowed": Allowed(identified(), 60.0),
    "would deny": WouldDeny("route", Reason.ROUTE_DENIED, "why"),
    "denied": Denied(Reason.EXPIRED, "why"),
    "token": token.parse(f"{encode({'alg': 'EdDSA'})}.e30.QQ"),
    "issuer": issuer(),
    "required claim": RequiredClaim(("a",), ("x",)),
    "key": KEYS.keys[0],
    "key set": KEYS,
    "requirement": NOTHING,
    "step": Step("size", Outcome.HOLDS, "", ""),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_cannot_be_changed(value: object) -> None:
    name = next(iter(type(value).__annotations__))
    with pytest.raises(AttributeError):
        setattr(value, name, "changed")


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_has_no_room_for_other_members(value: object) -> None:
    assert not hasattr(value, "__dict__")


def test_a_denial_is_of_the_family_of_its_reason() -> None:
    assert Denied(Reason.MISSING_TOKEN, "why").family is Family.MISSING


def test_a_denial_names_no_issuer_scope_or_wait_by_itself() -> None:
    denied = Denied(Reason.EXPIRED, "why")
    assert (denied.issuer, denied.scopes, denied.retry_after) == ("", (), None)
