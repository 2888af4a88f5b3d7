"""The signature algorithms that may be configured, and the key that each needs (RFC 7518 §3.1, RFC 8037, RFC 9864)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class KeyType(NamedTuple):
    """``kty`` and ``crv`` of a JWK."""

    kty: str
    curve: str | None = None


RSA = KeyType("RSA")
OCT = KeyType("oct")
ED25519 = KeyType("OKP", "Ed25519")

KEY_TYPE: Mapping[str, KeyType] = MappingProxyType(
    {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
        "ES256": KeyType("EC", "P-256"),
        "ES384": KeyType("EC", "P-384"),
        "ES512": KeyType("EC", "P-521"),
        "ES256K": KeyType("EC", "secp256k1"),
        "EdDSA": ED25519,  # RFC 8037 lets EdDSA mean Ed448 too; we do not
        "Ed25519": ED25519,
        **dict.fromkeys(("HS256", "HS384", "HS512"), OCT),
    }
)
"""Algorithm → the one type of key that fits. What is not here, ``none`` above all, cannot be configured."""

SECRET_BYTES: Mapping[str, int] = MappingProxyType({"HS256": 32, "HS384": 48, "HS512": 64})
"""The shortest secret of an algorithm: as long as its hash (RFC 7518 §3.2)."""

WORTH_SHARING = frozenset({"ES384", "ES512", "ES256K"})
"""Algorithms whose check costs several times what asking Redis about it does (docs/redis.md)."""

SYMMETRIC = frozenset(name for name, key_type in KEY_TYPE.items() if key_type == OCT)

DEFAULT = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
