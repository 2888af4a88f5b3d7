import json
import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tests.support import PrivateKey, private_key, public_jwk
from verifier.core.keys import load_client_key

EXPECTED = "expected a private key \\(RSA, EC or Ed25519\\) as a JWK or in PEM"
each_type = pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "ES512", "ES256K", "EdDSA"])


def jwk(key: PrivateKey, **members: Any) -> bytes:
    return json.dumps({**key.as_dict(private=True), **members}).encode()


def pem(key: PrivateKey) -> bytes:
    assert isinstance(key, RSAKey | ECKey | OKPKey)
    return key.as_pem(private=True)


def public_pem(key: PrivateKey) -> bytes:
    assert isinstance(key, RSAKey | ECKey | OKPKey)
    return key.as_pem(private=False)


def encrypted_pem() -> bytes:
    encryption = BestAvailableEncryption(secrets.token_bytes())
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=EXPECTED):
        load_client_key(text)


@each_type
def test_a_jwk_without_alg_signs_by_the_usual_algorithm_of_its_type(algorithm: str) -> None:
    assert load_client_key(jwk(private_key(algorithm))).algorithm == algorithm


@each_type
def test_a_key_in_pem_signs_by_the_usual_algorithm_of_its_type(algorithm: str) -> None:
    assert load_client_key(pem(private_key(algorithm))).algorithm == algorithm


@pytest.mark.parametrize("algorithm", ["RS512", "PS256"])
def test_the_alg_of_a_jwk_counts_over_the_usual_one(algorithm: str) -> None:
    assert load_client_key(jwk(private_key("RS256"), alg=algorithm)).algorithm == algorithm


@each_type
def test_the_key_is_the_one_that_was_given(algorithm: str) -> None:
    key = private_key(algorithm)
    assert load_client_key(jwk(key)).material.as_dict(private=True) == key.as_dict(private=True)


def test_a_key_in_pem_is_the_one_that_was_given() -> None:
    key = private_key("RS256")
    assert load_client_key(pem(key)).material.thumbprint() == key.thumbprint()


def test_a_kid_is_kept() -> None:
    assert load_client_key(jwk(private_key("ES256"), kid="mine")).material.kid == "mine"


def test_its_repr_shows_nothing_of_the_key() -> None:
    assert repr(load_client_key(jwk(private_key("EdDSA")))) == "ClientKey(algorithm='EdDSA')"


@each_type
def test_a_public_jwk_is_not_taken_for_a_private_one(algorithm: str) -> None:
    refused(json.dumps(public_jwk(private_key(algorithm))).encode())


@each_type
def test_a_public_key_in_pem_is_not_taken_for_a_private_one(algorithm: str) -> None:
    refused(public_pem(private_key(algorithm)))


def test_a_public_jwk_does_not_become_private_by_its_alg() -> None:
    refused(json.dumps(public_jwk(private_key("ES256"), alg="ES256")).encode())


def test_a_secret_shared_with_the_issuer_is_no_private_key() -> None:
    refused(jwk(OctKey.generate_key(256)))


@pytest.mark.parametrize("curve", ["Ed448", "X25519"])
@pytest.mark.parametrize("form", [jwk, pem])
def test_a_key_on_a_curve_that_is_not_used_here_is_refused(curve: Any, form: Any) -> None:
    refused(form(OKPKey.generate_key(curve)))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"not a key",
        b'{"kty":"RSA"}',
        b'{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ","d":"AQ"}',
        b'{"kty":"OKP","crv":"Ed25519","x":1,"d":[]}',
        b'{"kty":["RSA"]}',
        b'{"kty":"new","d":"AQ"}',
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_key_is_refused(text: bytes) -> None:
    refused(text)


def test_a_jwk_that_repeats_a_member_is_refused() -> None:
    refused(jwk(private_key("ES256")).replace(b'"kty"', b'"kty": "EC", "kty"', 1))


def test_an_alg_that_is_no_string_is_refused() -> None:
    refused(jwk(private_key("ES256"), alg=5))


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "ES384", "ES999", ""])
def test_an_alg_that_its_type_of_key_cannot_do_is_refused(alg: str) -> None:
    with pytest.raises(ValueError, match="which is not one of its type"):
        load_client_key(jwk(private_key("ES256"), alg=alg))


def test_a_key_under_a_passphrase_is_refused() -> None:
    refused(encrypted_pem())
