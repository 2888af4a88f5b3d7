"""An issuer's keys: a JWK Set taken in key by key, and the choice of the one that a token needs (RFC 7517).

One odd key must not cost the others, so each is judged alone and what is not usable is dropped and counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from verifier.core import base64url, strict_json
from verifier.core.algorithms import ED25519, KEY_TYPE, OCT, RSA, SECRET_BYTES, KeyType
from verifier.core.issuer import TENANT
from verifier.core.reasons import Reason, Rejected

MAX_KEYS = 200
"""Keys looked at in one set. Real sets hold fewer than ten; each one costs time to load."""

RSA_BITS = range(2048, 8193)
"""Below, a modulus can be factored; above, one signature costs milliseconds."""

RSA_EXPONENTS = range(3, 2**64)

_P25519 = 2**255 - 19
_ORDER_8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
ED25519_WEAK = frozenset({0, 1, _P25519 - 1, _ORDER_8, _P25519 - _ORDER_8})
"""The y of the points of small order (RFC 7748 §7): one signature under such a key holds for many messages."""

Material = RSAKey | ECKey | OKPKey | OctKey


class Dropped(StrEnum):
    """Why a key of a set is not used."""

    MALFORMED = "malformed"
    PRIVATE = "private"
    SYMMETRIC = "symmetric"
    OTHER_USE = "other_use"
    UNSUPPORTED = "unsupported"
    WEAK = "weak"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Key:
    """One usable key: its material, which ``thumbprint`` (RFC 7638) stands for, and what it may be used for.

    ``issuer`` is the member that Entra's shared key sets carry: the key speaks for that ``iss`` alone.
    """

    kid: str | None
    type: KeyType
    algorithm: str | None
    issuer: str | None
    thumbprint: str
    material: Material = field(repr=False, compare=False)

    def fits(self, algorithm: str, iss: str) -> bool:
        return self.type == KEY_TYPE.get(algorithm) and self.algorithm in (None, algorithm) and self._speaks_for(iss)

    def _speaks_for(self, iss: str) -> bool:
        if self.issuer is None or self.issuer == iss:
            return True
        before, template, after = self.issuer.partition(TENANT)
        return bool(template) and iss.startswith(before) and iss.endswith(after)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of an issuer, and how many others were dropped for what cause.

    ``any_kid`` is for keys that came without a name (a PEM file, a secret): they are tried whatever ``kid``
    a token bears.
    """

    keys: tuple[Key, ...]
    dropped: Mapping[Dropped, int] = field(default_factory=lambda: MappingProxyType({}))
    any_kid: bool = False
    held: frozenset[Key] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", frozenset(self.keys))

    def choose(self, algorithm: str, kid: str | None, iss: str) -> Key:
        """The one key that fits a token of ``iss``.

        Raises ``Rejected``: ``unknown_key`` when none fits or several do.
        """
        named = self.keys if kid is None or self.any_kid else [key for key in self.keys if key.kid == kid]
        fitting = [key for key in named if key.fits(algorithm, iss)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise Rejected(Reason.UNKNOWN_KEY, "several keys of the issuer fit; the token must name one by kid")
        raise Rejected(Reason.UNKNOWN_KEY, "no key of the issuer fits the kid and algorithm of the token")


class _Unusable(Exception):  # noqa: N818 - a finding about one key, not an error of the set
    def __init__(self, cause: Dropped) -> None:
        super().__init__(cause.value)
        self.cause = cause


def load_jwks(document: object) -> KeySet:
    """Take in a JWK Set (RFC 7517 §5).

    Raises ``ValueError`` when the document is no JWK Set at all; a set without usable keys is one.
    """
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise ValueError('not a JWK Set: expected an object with an array "keys"')
    found: dict[tuple[str | None, str], Key] = {}  # the same key twice is one key
    dropped: Counter[Dropped] = Counter()
    for entry in entries[:MAX_KEYS]:
        try:
            key = _load_jwk(entry)
        except _Unusable as finding:
            dropped[finding.cause] += 1
        else:
            found[key.kid, key.thumbprint] = key
    if len(entries) > MAX_KEYS:
        dropped[Dropped.TOO_MANY] = len(entries) - MAX_KEYS
    return KeySet(tuple(found.values()), MappingProxyType(dict(dropped)))


def load_pem(texts: Iterable[bytes]) -> KeySet:
    """Take in public keys or certificates in PEM.

    Raises ``ValueError`` for anything else, a private key above all: a file that somebody wrote by hand is
    not a set to pick from, so nothing in it is passed over silently.
    """
    loaded = tuple(_pem_key(text) for text in texts)
    if len({key.type for key in loaded}) != len(loaded):
        raise ValueError("two keys of one type cannot be told apart without kid; put them into a JWK Set")
    return KeySet(loaded, any_kid=True)


def load_secret(secret: bytes, algorithms: Sequence[str]) -> KeySet:
    """A shared secret for ``algorithms`` (RFC 7518 §3.2).

    Raises ``ValueError`` where it is shorter than the hash of one of them, or for a public key, in PEM or as a
    JWK, in the secret's place.
    """
    needed = max(SECRET_BYTES.get(algorithm, 32) for algorithm in algorithms)
    if len(secret) < needed:
        raise ValueError(f"a secret for {' and '.join(algorithms)} needs {needed} bytes or more, found {len(secret)}")
    if _is_json_object(secret):
        raise ValueError("expected the bytes of a secret, found a JSON object; a JWK Set goes under jwks_file")
    material = OctKey.import_key(secret)
    key = Key(None, OCT, None, None, material.thumbprint(), material)
    return KeySet((key,), any_kid=True)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A private key of ours, to say who we are (RFC 7523)."""

    algorithm: str
    material: Material = field(repr=False, compare=False)


def load_client_key(text: bytes) -> ClientKey:
    """A private key, as a JWK or in PEM; without ``alg``, the usual algorithm of its type.

    Raises ``ValueError``.
    """
    jwk = strict_json.parse_object(text) if _is_json_object(text) else None
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key = kind.import_key(text if jwk is None else jwk)
        except Exception:  # noqa: BLE001, S112 - joserfc says "not of this type" in several classes
            continue
        if not key.is_private:
            break
        curve = key.as_dict(private=False).get("crv")
        own = KeyType(key.key_type, curve if isinstance(curve, str) else None)
        fitting = [name for name, needed in KEY_TYPE.items() if needed == own]
        if key.alg is not None and key.alg not in fitting:
            raise ValueError(f"the key's alg is {key.alg!r}, which is not one of its type")
        if fitting:
            return ClientKey(key.alg or fitting[0], key)
    raise ValueError("expected a private key (RSA, EC or Ed25519) as a JWK or in PEM")


def _is_json_object(text: bytes) -> bool:
    try:
        strict_json.parse_object(text)
    except ValueError:
        return False
    return True


def _pem_key(text: bytes) -> Key:
    if b"PRIVATE" in text:
        raise ValueError("expected a public key, found a private one")
    if (found := text.count(b"-----BEGIN ")) > 1:
        raise ValueError(f"expected one key or certificate in a file, found {found}; put each into a file of its own")
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            jwk = kind.import_key(text).as_dict(private=False)
        except Exception:  # noqa: BLE001, S112 - joserfc says "not of this type" in several classes
            continue
        try:
            return _load_jwk(jwk)
        except _Unusable as finding:
            raise ValueError(f"the key cannot be used: {finding.cause}") from None
    raise ValueError("expected a PEM public key or certificate (RSA, EC or Ed25519)")


def _load_jwk(entry: object) -> Key:
    if not isinstance(entry, Mapping):
        raise _Unusable(Dropped.MALFORMED)
    kid, kty, use, algorithm, issuer = (_text(entry, name) for name in ("kid", "kty", "use", "alg", "issuer"))
    if kty == "oct" or "k" in entry:
        raise _Unusable(Dropped.SYMMETRIC)
    if "d" in entry:
        raise _Unusable(Dropped.PRIVATE)
    if use not in (None, "sig") or not _may_verify(entry.get("key_ops")):
        raise _Unusable(Dropped.OTHER_USE)
    if algorithm is not None and algorithm not in KEY_TYPE:
        raise _Unusable(Dropped.UNSUPPORTED)
    key_type, material = _material(kty, entry)
    return Key(kid, key_type, algorithm, issuer, material.thumbprint(), material)


def _text(entry: Mapping[str, Any], name: str) -> str | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise _Unusable(Dropped.MALFORMED)
    return value


def _may_verify(key_ops: object) -> bool:
    if key_ops is None:
        return True
    if not isinstance(key_ops, list):
        raise _Unusable(Dropped.MALFORMED)
    return "verify" in key_ops


def _material(kty: str | None, entry: Mapping[str, Any]) -> tuple[KeyType, Material]:
    """Build the key from its public members alone; joserfc checks that a point is on its curve."""
    kind: type[RSAKey | ECKey | OKPKey]
    members: tuple[str, ...]
    if kty == "RSA":
        _refuse_weak_rsa(entry)
        key_type, kind, members = RSA, RSAKey, ("kty", "n", "e")
    elif kty == "EC":
        key_type, kind, members = KeyType("EC", _text(entry, "crv")), ECKey, ("kty", "crv", "x", "y")
    else:
        key_type, kind, members = KeyType(kty or "", _text(entry, "crv")), OKPKey, ("kty", "crv", "x")
    if key_type not in _ASYMMETRIC:
        raise _Unusable(Dropped.UNSUPPORTED)
    if key_type == ED25519:
        _refuse_weak_ed25519(entry)
    try:
        return key_type, kind.import_key({name: entry[name] for name in members})
    except Exception:  # noqa: BLE001 - joserfc raises KeyError, TypeError, ValueError and its own on odd input
        raise _Unusable(Dropped.MALFORMED) from None


def _refuse_weak_rsa(entry: Mapping[str, Any]) -> None:
    modulus, exponent = (_number(entry, name) for name in ("n", "e"))
    # With e = 1 anyone can write a signature; an even modulus or exponent is no RSA key; a huge exponent costs time.
    if modulus.bit_length() not in RSA_BITS or modulus % 2 == 0 or exponent not in RSA_EXPONENTS or exponent % 2 == 0:
        raise _Unusable(Dropped.WEAK)


def _refuse_weak_ed25519(entry: Mapping[str, Any]) -> None:
    encoded = _bytes(entry, "x")
    y = int.from_bytes(encoded, "little") & (2**255 - 1)  # the last bit is the sign of x (RFC 8032 §5.1.2)
    if len(encoded) == 32 and y % _P25519 in ED25519_WEAK:
        raise _Unusable(Dropped.WEAK)


def _number(entry: Mapping[str, Any], name: str) -> int:
    """Base64urlUInt (RFC 7518 §2)."""
    return int.from_bytes(_bytes(entry, name), "big")


def _bytes(entry: Mapping[str, Any], name: str) -> bytes:
    text = _text(entry, name)
    try:
        return base64url.decode(text or "")
    except ValueError:
        raise _Unusable(Dropped.MALFORMED) from None


_ASYMMETRIC = frozenset(KEY_TYPE.values()) - {OCT}
