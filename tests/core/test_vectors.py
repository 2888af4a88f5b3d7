"""The published examples of RFC 7515 appendix A, RFC 7520 section 4 and RFC 8037 appendix A."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import issuer
from verifier.core import base64url, keys, signature, token
from verifier.core.keys import KeySet
from verifier.core.reasons import Reason, Rejected
from verifier.core.token import Header, Token

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "jws.json").read_text("utf-8"))


def key_set(jwk: dict[str, Any]) -> KeySet:
    if jwk["kty"] == "oct":
        return keys.load_secret(base64url.decode(jwk["k"]), ["HS256"])
    return keys.load_jwks({"keys": [jwk]})


def unclaimed(compact: str, algorithm: str) -> Token:
    """The vectors' payloads are mostly no claims, so only the signature is taken from them."""
    signing_input, _, encoded = compact.rpartition(".")
    return Token(Header(algorithm, None, None), {}, signing_input.encode(), base64url.decode(encoded))


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["source"])
def test_the_signature_of_a_published_example_holds(vector: dict[str, Any]) -> None:
    parsed = unclaimed(vector["compact"], vector["algorithm"])
    signature.check_signature(parsed, key_set(vector["key"]).choose(vector["algorithm"], None, ""))


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["source"])
def test_a_published_example_with_a_changed_payload_does_not_hold(vector: dict[str, Any]) -> None:
    header, payload, encoded = vector["compact"].split(".")
    parsed = unclaimed(f"{header}.{payload}AA.{encoded}", vector["algorithm"])
    with pytest.raises(Rejected) as refusal:
        signature.check_signature(parsed, key_set(vector["key"]).choose(vector["algorithm"], None, ""))
    assert refusal.value.reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("vector", VECTORS["valid"][:3], ids=lambda vector: vector["source"])
def test_the_examples_with_claims_are_parsed(vector: dict[str, Any]) -> None:
    parsed = token.parse(vector["compact"])
    assert (parsed.unverified_claims["iss"], parsed.unverified_claims["exp"]) == ("joe", 1300819380)


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["source"])
def test_unsecured_detached_and_json_forms_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(Rejected) as refusal:
        signature.check_algorithm(token.parse(vector["text"]), issuer())
    assert refusal.value.reason is Reason.MALFORMED_TOKEN
