import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support import ISS, private_key, public_jwk
from verifier.core import base64url, keys
from verifier.core.keys import Dropped
from verifier.core.reasons import Reason, Rejected


def rsa_jwk(bits: int = 2048, **members: Any) -> dict[str, Any]:
    """An RSA key with a made-up modulus: nothing is signed with it."""
    modulus = (1 << (bits - 1)) | 1
    return {"kty": "RSA", "n": base64url.encode(modulus.to_bytes((bits + 7) // 8, "big")), "e": "AQAB", **members}


def dropped(entry: Any) -> Dropped:
    loaded = keys.load_jwks({"keys": [entry]})
    assert loaded.keys == ()
    return next(iter(loaded.dropped))


def chosen(loaded: keys.KeySet, algorithm: str = "RS256", kid: str | None = "k1", iss: str = ISS) -> keys.Key:
    return loaded.choose(algorithm, kid, iss)


def unknown(loaded: keys.KeySet, algorithm: str = "RS256", kid: str | None = "k1", iss: str = ISS) -> None:
    with pytest.raises(Rejected) as refusal:
        loaded.choose(algorithm, kid, iss)
    assert refusal.value.reason is Reason.UNKNOWN_KEY


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "ES512", "ES256K", "EdDSA"])
def test_a_public_key_of_each_type_is_taken_in(algorithm: str) -> None:
    loaded = keys.load_jwks({"keys": [public_jwk(private_key(algorithm))]})
    assert chosen(loaded, algorithm).thumbprint == private_key(algorithm).thumbprint()


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        ("text", Dropped.MALFORMED),
        (rsa_jwk(kid=1), Dropped.MALFORMED),
        (rsa_jwk(key_ops="verify"), Dropped.MALFORMED),
        (rsa_jwk() | {"n": "AQ=="}, Dropped.MALFORMED),
        (rsa_jwk() | {"n": 5}, Dropped.MALFORMED),
        ({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, Dropped.MALFORMED),
        ({"kty": "EC", "crv": "P-256", "x": "AQ"}, Dropped.MALFORMED),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AQ"}, Dropped.MALFORMED),
        ({"kty": "oct", "k": "c2VjcmV0"}, Dropped.SYMMETRIC),
        (rsa_jwk(k="c2VjcmV0"), Dropped.SYMMETRIC),
        (rsa_jwk(d="AQ"), Dropped.PRIVATE),
        (rsa_jwk(use="enc"), Dropped.OTHER_USE),
        (rsa_jwk(key_ops=["encrypt"]), Dropped.OTHER_USE),
        (rsa_jwk(alg="RSA-OAEP"), Dropped.UNSUPPORTED),
        ({"kty": "OKP", "crv": "Ed448", "x": "AQ"}, Dropped.UNSUPPORTED),
        ({"kty": "OKP", "crv": "X25519", "x": "AQ"}, Dropped.UNSUPPORTED),
        ({"kty": "EC", "crv": "P-192", "x": "AQ", "y": "AQ"}, Dropped.UNSUPPORTED),
        ({"kty": "new"}, Dropped.UNSUPPORTED),
        ({}, Dropped.UNSUPPORTED),
        (rsa_jwk(2047), Dropped.WEAK),
        (rsa_jwk(1024), Dropped.WEAK),
        (rsa_jwk(8193), Dropped.WEAK),
        (rsa_jwk() | {"n": base64url.encode((1 << 2047).to_bytes(256, "big"))}, Dropped.WEAK),
        (rsa_jwk(e="AQ"), Dropped.WEAK),
        (rsa_jwk(e="Ag"), Dropped.WEAK),
        (rsa_jwk(e="BA"), Dropped.WEAK),
        (rsa_jwk(e=base64url.encode(((1 << 64) + 1).to_bytes(9, "big"))), Dropped.WEAK),
    ],
)
def test_a_key_that_cannot_be_used_is_dropped_with_its_cause(entry: Any, cause: Dropped) -> None:
    assert dropped(entry) is cause


@pytest.mark.parametrize("bits", [2048, 8192])
def test_rsa_keys_of_the_smallest_and_largest_size_are_taken(bits: int) -> None:
    assert len(keys.load_jwks({"keys": [rsa_jwk(bits)]}).keys) == 1


def test_the_smallest_odd_exponent_is_taken() -> None:
    assert len(keys.load_jwks({"keys": [rsa_jwk(e="Aw")]}).keys) == 1


def test_exactly_as_many_keys_as_the_limit_are_all_looked_at() -> None:
    assert keys.load_jwks({"keys": [{}] * keys.MAX_KEYS}).dropped == {Dropped.UNSUPPORTED: keys.MAX_KEYS}


def test_one_odd_key_does_not_cost_the_others() -> None:
    good = [public_jwk(private_key("RS256")), public_jwk(private_key("ES256"))]
    loaded = keys.load_jwks({"keys": [good[0], {"kty": "RSA"}, None, good[1]]})
    assert (len(loaded.keys), loaded.dropped[Dropped.MALFORMED]) == (2, 1)
    assert loaded.dropped.get(Dropped.WEAK) == 1


@pytest.mark.parametrize("document", [None, [], "x", {}, {"keys": None}, {"keys": {}}])
def test_a_document_that_is_no_key_set_is_an_error(document: Any) -> None:
    with pytest.raises(ValueError, match="not a JWK Set"):
        keys.load_jwks(document)


def test_keys_beyond_the_limit_are_counted_and_not_loaded() -> None:
    loaded = keys.load_jwks({"keys": [{}] * (keys.MAX_KEYS + 3)})
    assert loaded.dropped == {Dropped.UNSUPPORTED: keys.MAX_KEYS, Dropped.TOO_MANY: 3}


def test_the_same_key_twice_is_one_key() -> None:
    entry = public_jwk(private_key())
    assert len(keys.load_jwks({"keys": [entry, entry]}).keys) == 1


def test_keys_of_one_kid_are_told_apart_by_type() -> None:
    loaded = keys.load_jwks({"keys": [public_jwk(private_key(a, "same")) for a in ("RS256", "ES256", "EdDSA")]})
    assert chosen(loaded, "ES256", "same").thumbprint == private_key("ES256", "same").thumbprint()


def test_two_fitting_keys_of_one_kid_are_no_single_key() -> None:
    unknown(keys.load_jwks({"keys": [public_jwk(private_key(which=n)) for n in (0, 1)]}))


def test_a_token_without_kid_takes_the_only_fitting_key() -> None:
    loaded = keys.load_jwks({"keys": [public_jwk(private_key("RS256")), public_jwk(private_key("ES256"))]})
    assert chosen(loaded, "RS256", None).type.kty == "RSA"


def test_a_token_without_kid_has_no_key_when_several_fit() -> None:
    unknown(keys.load_jwks({"keys": [public_jwk(private_key(kid=kid)) for kid in ("a", "b")]}), kid=None)


def test_a_kid_that_no_key_bears_is_unknown_even_with_a_single_key() -> None:
    unknown(keys.load_jwks({"keys": [public_jwk(private_key())]}), kid="other")


def test_a_key_without_kid_is_not_taken_for_a_named_one() -> None:
    unknown(keys.load_jwks({"keys": [public_jwk(private_key(kid=None))]}), kid="k1")


@pytest.mark.parametrize(
    ("members", "algorithm"), [({"alg": "RS512"}, "RS256"), ({"alg": "RS256"}, "PS256"), ({}, "ES256"), ({}, "XX")]
)
def test_a_key_of_another_algorithm_or_type_does_not_fit(members: dict[str, str], algorithm: str) -> None:
    unknown(keys.load_jwks({"keys": [public_jwk(private_key(), **members)]}), algorithm)


def test_a_curve_of_another_size_does_not_fit() -> None:
    unknown(keys.load_jwks({"keys": [public_jwk(private_key("ES384"))]}), "ES256")


def test_a_key_marked_for_verification_fits() -> None:
    entry = public_jwk(private_key(), use="sig", key_ops=["verify"], alg="RS256")
    assert chosen(keys.load_jwks({"keys": [entry]})).kid == "k1"


@pytest.mark.parametrize("own", [ISS, ISS.replace("issuer", "{tenantid}")])
def test_a_key_bound_to_an_issuer_speaks_for_it(own: str) -> None:
    assert chosen(keys.load_jwks({"keys": [public_jwk(private_key(), issuer=own)]}))


def test_a_key_bound_to_another_issuer_does_not_fit() -> None:
    unknown(keys.load_jwks({"keys": [public_jwk(private_key(), issuer="https://other.example/")]}))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_pem_key_is_tried_whatever_kid_the_token_bears(algorithm: str) -> None:
    pem = private_key(algorithm).as_pem(private=False)  # type: ignore[union-attr]
    assert chosen(keys.load_pem([pem]), algorithm, "any").thumbprint == private_key(algorithm).thumbprint()


def test_two_pem_keys_of_one_type_cannot_be_told_apart() -> None:
    texts = [private_key(which=n).as_pem(private=False) for n in (0, 1)]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="JWK Set"):
        keys.load_pem(texts)


def test_a_private_key_in_pem_is_refused() -> None:
    with pytest.raises(ValueError, match="private"):
        keys.load_pem([private_key().as_pem(private=True)])  # type: ignore[union-attr]


def test_a_weak_key_in_pem_is_refused() -> None:
    from joserfc.jwk import RSAKey  # noqa: PLC0415 - only here

    with pytest.warns(UserWarning, match="2048"):
        pem = RSAKey.import_key(rsa.generate_private_key(65537, 1024).public_key()).as_pem()  # noqa: S505 - weak on purpose
    with pytest.raises(ValueError, match="weak"), pytest.warns(UserWarning, match="2048"):
        keys.load_pem([pem])


@pytest.mark.parametrize("text", [b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_in_pem_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="PEM"):
        keys.load_pem([text])


def test_a_secret_of_32_bytes_is_taken_and_a_shorter_one_refused() -> None:
    assert chosen(keys.load_secret(bytes(range(32)), ["HS256"]), "HS256", "any").type.kty == "oct"
    with pytest.raises(ValueError, match="32 bytes"):
        keys.load_secret(bytes(range(31)), ["HS256"])


@pytest.mark.parametrize(("algorithm", "needed"), [("HS384", 48), ("HS512", 64)])
def test_a_secret_is_as_long_as_the_hash(algorithm: str, needed: int) -> None:
    assert keys.load_secret(bytes(range(needed)), ["HS256", algorithm])
    with pytest.raises(ValueError, match=f"{needed} bytes"):
        keys.load_secret(bytes(range(needed - 1)), ["HS256", algorithm])


def test_a_jwk_in_the_place_of_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="jwks_file"):
        keys.load_secret(json.dumps(public_jwk(private_key())).encode(), ["HS256"])


def test_several_keys_in_one_pem_file_are_refused() -> None:
    pems = [private_key(algorithm).as_pem(private=False) for algorithm in ("RS256", "ES256")]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="found 2"):
        keys.load_pem([b"".join(pems)])


@pytest.mark.parametrize("sign_bit", [0, 2**255])
@pytest.mark.parametrize("y", [*keys.ED25519_WEAK, 2**255 - 19, 2**255 - 18])
def test_an_ed25519_key_of_small_order_is_weak(y: int, sign_bit: int) -> None:
    x = base64url.encode((y | sign_bit).to_bytes(32, "little"))
    assert dropped({"kty": "OKP", "crv": "Ed25519", "x": x}) is Dropped.WEAK


def test_a_key_of_one_tenant_does_not_speak_for_another_host() -> None:
    templated = keys.load_jwks({"keys": [public_jwk(private_key(), issuer="https://sts.example/{tenantid}/")]})
    assert templated.choose("RS256", "k1", "https://sts.example/t1/")
    with pytest.raises(Rejected):
        templated.choose("RS256", "k1", "https://other.example/t1/")


def test_a_secret_never_serves_an_asymmetric_algorithm() -> None:
    unknown(keys.load_secret(bytes(range(32)), ["HS256"]), "RS256", None)


def test_a_public_key_in_the_place_of_a_secret_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is joserfc's
        keys.load_secret(private_key().as_pem(private=False), ["HS256"])  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [{"kid": "other"}, {"alg": "PS256"}, {"issuer": "https://other.example/"}])
def test_a_key_that_may_be_used_for_something_else_is_another_key(change: dict[str, str]) -> None:
    entry = public_jwk(private_key())
    one, other = (keys.load_jwks({"keys": [jwk]}) for jwk in (entry, {**entry, **change}))
    assert one.held == keys.load_jwks({"keys": [entry]}).held
    assert one.held.isdisjoint(other.held)


def test_the_repr_of_a_key_shows_no_material() -> None:
    assert "material" not in repr(keys.load_secret(bytes(range(32)), ["HS256"]))


def test_a_key_of_type_oct_is_a_secret_even_without_its_value() -> None:
    assert dropped({"kty": "oct"}) is Dropped.SYMMETRIC


def test_a_key_goes_by_each_of_its_kids() -> None:
    entry = public_jwk(private_key())
    loaded = keys.load_jwks({"keys": [{**entry, "kid": "a"}, {**entry, "kid": "b"}]})
    assert [chosen(loaded, kid=kid).kid for kid in ("a", "b")] == ["a", "b"]


def test_the_same_document_makes_the_same_set() -> None:
    document = {"keys": [public_jwk(private_key())]}
    assert keys.load_jwks(document) == keys.load_jwks(document)


@pytest.mark.parametrize(("count", "said"), [(0, "no key of the issuer fits"), (2, "several keys of the issuer fit")])
def test_too_many_keys_are_told_from_none(count: int, said: str) -> None:
    loaded = keys.load_jwks({"keys": [public_jwk(private_key(which=n)) for n in range(count)]})
    with pytest.raises(Rejected) as refusal:
        loaded.choose("RS256", "k1", ISS)
    assert refusal.value.detail.startswith(said)
