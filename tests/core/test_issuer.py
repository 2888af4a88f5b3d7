import pytest

from tests.support import ISS, encode, issuer
from verifier.core import token
from verifier.core.issuer import Issuers
from verifier.core.reasons import Reason, Rejected


def matched(iss: object) -> str:
    return (
        Issuers([issuer(), issuer(name="two", identifiers=frozenset({"b", "c"}))])
        .match(token.parse(f"{encode({'alg': 'RS256'})}.{encode({'iss': iss})}.QQ"))
        .name
    )


@pytest.mark.parametrize(("iss", "name"), [(ISS, "main"), ("b", "two"), ("c", "two")])
def test_an_issuer_is_found_by_each_of_its_identifiers(iss: str, name: str) -> None:
    assert matched(iss) == name


@pytest.mark.parametrize(
    "iss",
    [ISS[:-1], ISS + "/", ISS.upper(), ISS.replace("https", "http"), f" {ISS}", "", None, 1, True, [ISS], {"a": ISS}],
)
def test_an_issuer_is_compared_exactly(iss: object) -> None:
    with pytest.raises(Rejected) as refusal:
        matched(iss)
    assert refusal.value.reason is Reason.UNTRUSTED_ISSUER


def test_issuers_are_found_by_name_and_in_order() -> None:
    both = Issuers([issuer(), issuer(name="two", identifiers=frozenset({"b"}))])
    assert [i.name for i in both] == ["main", "two"]
    assert both.by_name["two"].identifiers == {"b"}


def test_two_issuers_cannot_share_an_identifier() -> None:
    with pytest.raises(ValueError, match="share"):
        Issuers([issuer(), issuer(name="two")])
