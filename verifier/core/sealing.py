"""Entries that somebody else keeps for us: encrypted, authenticated, bound to their place and to a time.

The place (a key of Redis) and the version of the format are associated data of AES-256-GCM, so an entry can be
neither read nor made elsewhere, and one that was moved does not open. Its end is inside, so one that was kept
back does not open either.

Random nonces of 96 bits wear out after some billions of entries, and a fleet can write those. So every entry is
encrypted with a key of its own, made from the fleet's key and 16 random bytes beside the nonce.
"""

import hmac
import struct
from collections.abc import Iterable
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
ENTROPY_BYTES = 28
"""Random bytes that sealing one entry takes: 16 for its key, 12 for its nonce."""

_FORMAT = b"\x01"
_ID_BYTES = 4
_SALT = slice(1 + _ID_BYTES, 1 + _ID_BYTES + 16)
_NONCE = slice(_SALT.stop, _SALT.stop + 12)
_END = struct.Struct(">d")


class Refusal(StrEnum):
    """Why an entry does not open."""

    FORMAT = "format"
    OTHER_KEY = "other_key"
    FORGED = "forged"
    EXPIRED = "expired"


class Refused(Exception):  # noqa: N818 - a finding about one entry
    """The entry is not one of ours, is not for this place, or is over."""

    def __init__(self, cause: Refusal) -> None:
        super().__init__(cause.value)
        self.cause = cause


class Sealer:
    """Seals with the first of ``keys`` (32 bytes each) and opens with any of them."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = {_key_id(key): key for key in keys}
        if not self._keys or any(len(key) != KEY_BYTES for key in self._keys.values()):
            raise ValueError(f"expected keys of {KEY_BYTES} bytes")
        self._own = next(iter(self._keys))

    def __repr__(self) -> str:
        return "Sealer(…)"

    def seal(self, place: str, content: bytes, expires_at: float, entropy: bytes) -> bytes:
        """An entry for ``place`` until ``expires_at`` (seconds since 1970). ``entropy`` must never repeat."""
        if len(entropy) != ENTROPY_BYTES:
            raise ValueError(f"expected {ENTROPY_BYTES} random bytes")
        head = _FORMAT + self._own + entropy
        cipher = _cipher(self._keys[self._own], head[_SALT])
        return head + cipher.encrypt(head[_NONCE], _END.pack(expires_at) + content, _bound_to(place))

    def is_own(self, entry: bytes) -> bool:
        """Whether ``entry`` was sealed with the first of the keys, and not with one that is on its way out or in."""
        return entry[1 : 1 + _ID_BYTES] == self._own

    def name(self, digest: bytes) -> str:
        """What ``digest`` is called where others can read it. Who has not the key cannot find out what it is of."""
        return hmac.digest(self._keys[self._own], b"verifier name" + digest, "sha256").hex()

    def open(self, place: str, entry: bytes, now: float) -> bytes:
        """The content of an entry. Raises ``Refused``."""
        if entry[:1] != _FORMAT or len(entry) < _NONCE.stop:
            raise Refused(Refusal.FORMAT)
        key = self._keys.get(entry[1 : 1 + _ID_BYTES])
        if key is None:
            raise Refused(Refusal.OTHER_KEY)
        try:
            plain = _cipher(key, entry[_SALT]).decrypt(entry[_NONCE], entry[_NONCE.stop :], _bound_to(place))
        except InvalidTag:
            raise Refused(Refusal.FORGED) from None
        (expires_at,) = _END.unpack_from(plain)
        if now >= expires_at:
            raise Refused(Refusal.EXPIRED)
        return plain[_END.size :]


def _key_id(key: bytes) -> bytes:
    return hmac.digest(key, b"verifier key id", "sha256")[:_ID_BYTES]


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(hmac.digest(key, b"verifier entry" + salt, "sha256"))


def _bound_to(place: str) -> bytes:
    return _FORMAT + place.encode()
