import pytest
from joserfc.jws import JWSRegistry

from verifier.core.algorithms import DEFAULT, KEY_TYPE, OCT, SYMMETRIC


@pytest.mark.parametrize(
    ("algorithm", "kty", "curve"),
    [
        ("RS256", "RSA", None),
        ("RS384", "RSA", None),
        ("RS512", "RSA", None),
        ("PS256", "RSA", None),
        ("PS384", "RSA", None),
        ("PS512", "RSA", None),
        ("ES256", "EC", "P-256"),
        ("ES384", "EC", "P-384"),
        ("ES512", "EC", "P-521"),
        ("ES256K", "EC", "secp256k1"),
        ("EdDSA", "OKP", "Ed25519"),
        ("Ed25519", "OKP", "Ed25519"),
        ("HS256", "oct", None),
        ("HS384", "oct", None),
        ("HS512", "oct", None),
    ],
)
def test_an_algorithm_needs_one_type_of_key(algorithm: str, kty: str, curve: str | None) -> None:
    assert KEY_TYPE[algorithm] == (kty, curve)


def test_no_other_algorithm_can_be_configured() -> None:
    assert len(KEY_TYPE) == 15
    assert not {"none", "None", "NONE", ""} & set(KEY_TYPE)


@pytest.mark.parametrize("algorithm", KEY_TYPE)
def test_an_algorithm_that_can_be_configured_can_be_verified(algorithm: str) -> None:
    assert JWSRegistry.algorithms[algorithm].name == algorithm


def test_the_table_cannot_be_added_to() -> None:
    with pytest.raises(TypeError):
        KEY_TYPE["none"] = OCT  # type: ignore[index]


def test_the_symmetric_algorithms_are_those_of_a_shared_secret() -> None:
    assert {"HS256", "HS384", "HS512"} == SYMMETRIC


def test_the_default_is_asymmetric_and_in_common_use() -> None:
    assert set(DEFAULT) == {"RS256", "PS256", "ES256", "EdDSA", "Ed25519"}
