"""Base64url with one text for each value (RFC 7515 §2, RFC 4648 §3.5)."""

import binascii
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)

# A last group of two or three characters leaves 4 or 2 bits over. They must be zero, or several texts would
# stand for the same bytes and slip past caches and revocations.
_LAST_OF = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


def decode(text: str) -> bytes:
    """Return the bytes of ``text``.

    Raises ``ValueError`` for padding, white space, another alphabet, or left-over bits that are not zero.
    """
    left_over = len(text) % 4
    if _ALPHABET.fullmatch(text) is None or (left_over and text[-1] not in _LAST_OF.get(left_over, ())):
        raise ValueError("not canonical base64url")
    return binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))


def encode(raw: bytes) -> str:
    """Return the text of ``raw``, without padding."""
    return binascii.b2a_base64(raw, newline=False).decode("ascii").translate(_TO_URL).rstrip("=")


_TO_URL = str.maketrans("+/", "-_")
