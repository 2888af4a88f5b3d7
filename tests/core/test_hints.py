"""What a refusal tells the operator, and nobody else: what was expected, and which slip is near."""

from typing import Any

import pytest

from tests.support import AUD, ISS, claims, issuer, sign
from verifier.core import near_miss, token
from verifier.core.claims import identify
from verifier.core.issuer import Issuers
from verifier.core.reasons import Reason, Rejected

URL = "https://acme.eu.auth0.com/"


def slip(found: str) -> str | None:
    return near_miss.slip(near_miss.folded(["https://other.example/", URL]), (found,))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (URL[:-1], "the slash at its end is missing"),
        (URL + "/", "it has a slash at its end that is not expected"),
        (URL.replace("https", "http"), "http and https are mixed up"),
        (URL.upper(), "upper and lower case differ"),
        (f" {URL}", "white space around it differs"),
        (URL.replace("https", "http")[:-1], near_miss.SEVERAL),
    ],
)
def test_a_slip_is_named_with_what_was_meant(found: str, said: str) -> None:
    assert slip(found) == f"{URL!r} may be meant: {said}"


@pytest.mark.parametrize("found", [URL, "https://acme.us.auth0.com/", "", "x" * 600, f"{' ' * near_miss.LONGEST}{URL}"])
def test_what_is_no_slip_is_not_named(found: str) -> None:
    assert slip(found) is None


def test_no_more_than_a_few_texts_of_a_token_are_looked_at() -> None:
    crowd = ("x",) * near_miss.MOST
    assert near_miss.slip(near_miss.folded([URL]), (*crowd[1:], URL[:-1])) is not None
    assert near_miss.slip(near_miss.folded([URL]), (*crowd, URL[:-1])) is None


def test_a_text_too_long_to_be_meant_has_no_near_miss() -> None:
    assert near_miss.explain([URL], URL + "x" * near_miss.LONGEST) is None


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a"], "expected 'a'"),
        (["b", "a"], "expected 'a' or 'b'"),
        ("abcdef", "expected 'a' or 'b' or 'c' or 'd', or one of 2 more"),
    ],
)
def test_what_was_expected_is_said_in_a_few_words(texts: list[str], said: str) -> None:
    assert near_miss.listed(texts) == said


def refused(**changes: Any) -> Rejected:
    configured = issuer(client_ids=frozenset({"web"}))
    made = token.parse(sign(claims(**{"client_id": "web", **changes}), algorithm="EdDSA"))
    with pytest.raises(Rejected) as refusal:
        identify(made, Issuers([configured]).match(made))
    return refusal.value


@pytest.mark.parametrize(
    ("changes", "reason", "hint"),
    [
        (
            {"iss": ISS[:-1]},
            Reason.UNTRUSTED_ISSUER,
            f"{ISS!r} may be meant: the slash at its end is missing",
        ),
        ({"iss": "https://elsewhere.example"}, Reason.UNTRUSTED_ISSUER, f"expected {ISS!r}"),
        ({"iss": 7}, Reason.UNTRUSTED_ISSUER, f"expected {ISS!r}"),
        ({"aud": ["x", AUD.upper()]}, Reason.WRONG_AUDIENCE, f"{AUD!r} may be meant: upper and lower case differ"),
        ({"aud": "x"}, Reason.WRONG_AUDIENCE, f"expected {AUD!r}"),
        ({"client_id": "mobile"}, Reason.WRONG_CLIENT, "expected 'web'"),
    ],
)
def test_a_refusal_has_a_hint_in_words_of_the_configuration(changes: dict[str, Any], reason: Reason, hint: str) -> None:
    refusal = refused(**changes)
    assert (refusal.reason, refusal.hint) == (reason, hint)


@pytest.mark.parametrize("claim", ["iss", "aud", "client_id"])
def test_a_hint_repeats_nothing_of_the_token(claim: str) -> None:
    assert "canary" not in (refused(**{claim: "https://canary.example"}).hint or "")
