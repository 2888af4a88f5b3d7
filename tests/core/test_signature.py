import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import claims, issuer, private_key, public_jwk, sign
from verifier.core import base64url, keys, signature, token
from verifier.core.reasons import Reason, Rejected

ASYMMETRIC = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "ES256K",
    "EdDSA",
    "Ed25519",
]
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def check(text: str, algorithm: str, which: int = 0) -> None:
    loaded = keys.load_jwks({"keys": [public_jwk(private_key(algorithm, which=which))]})
    parsed = token.parse(text)
    signature.check_signature(parsed, loaded.choose(parsed.algorithm, parsed.key_id, ""))


def refused(text: str, algorithm: str, which: int = 0) -> Reason:
    with pytest.raises(Rejected) as refusal:
        check(text, algorithm, which)
    return refusal.value.reason


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_signature_of_each_algorithm_holds(algorithm: str) -> None:
    check(sign(claims(), algorithm=algorithm), algorithm)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_a_signature_by_another_key_does_not_hold(algorithm: str) -> None:
    assert refused(sign(claims(), algorithm=algorithm), algorithm, which=1) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_signature_by_the_shared_secret_holds(algorithm: str) -> None:
    secret = private_key(algorithm)
    loaded = keys.load_secret(secret.raw_value, [algorithm])  # type: ignore[arg-type]
    parsed = token.parse(sign(claims(), secret, algorithm))
    signature.check_signature(parsed, loaded.choose(algorithm, "k1", ""))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("raw", [b"\x00", b"\x00" * 64, b"\xff" * 64, b"\x00" * 256, b"\xff" * 256, b"\x30" * 72])
def test_made_up_signatures_of_any_length_do_not_hold(algorithm: str, raw: bytes) -> None:
    text = sign(claims(), algorithm=algorithm).rpartition(".")[0] + "." + base64url.encode(raw)
    assert refused(text, algorithm) is Reason.BAD_SIGNATURE


def test_the_twin_of_an_ecdsa_signature_holds_too() -> None:
    """Not a fault (RFC 7518 has no rule of low s), but why nothing may be keyed by the whole token."""
    signing_input, _, encoded = sign(claims(), algorithm="ES256").rpartition(".")
    raw = base64url.decode(encoded)
    twin = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    check(f"{signing_input}.{base64url.encode(twin)}", "ES256")


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.data())
def test_a_token_with_any_character_changed_is_never_taken(data: st.DataObject) -> None:
    text = sign(claims(), algorithm="EdDSA")
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("AZaz09-_.=").filter(lambda char: char != text[place]))
    with pytest.raises(Rejected):
        check(text[:place] + other + text[place + 1 :], "EdDSA")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS384", "rs256", "ES256K", "RS256 ", "XX"])
def test_an_algorithm_that_is_not_listed_is_not_allowed(algorithm: str) -> None:
    parsed = token.parse(sign({}, algorithm="RS256", alg=algorithm))
    with pytest.raises(Rejected) as refusal:
        signature.check_algorithm(parsed, issuer())
    assert refusal.value.reason is Reason.ALGORITHM_NOT_ALLOWED


def test_a_listed_algorithm_is_allowed() -> None:
    signature.check_algorithm(token.parse(sign({})), issuer())


def test_other_algorithms_are_told_nothing_of_shared_secrets() -> None:
    with pytest.raises(Rejected) as refusal:
        signature.check_algorithm(token.parse(sign({}, algorithm="ES384")), issuer())
    assert refusal.value.detail == "the issuer's tokens must be signed with ES256 or EdDSA or RS256"


def test_a_token_signed_with_a_shared_secret_is_told_what_to_change() -> None:
    parsed = token.parse(sign({}, algorithm="HS256"))
    with pytest.raises(Rejected, match=r".*") as refusal:
        signature.check_algorithm(parsed, issuer())
    assert "shared secret" in refusal.value.detail


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.data())
def test_a_token_with_any_bit_flipped_is_never_taken(data: st.DataObject) -> None:
    raw = bytearray(sign(claims(), algorithm="EdDSA").encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Rejected):
        check(raw.decode("latin-1"), "EdDSA")
