"""Base64url with one text for each value (RFC 7515 §2, RFC 4648 §3.5)."""

import binascii

# A last group of two or three characters leaves 4 or 2 bits over. They must be zero, or several texts would
# stand for the same bytes and slip past caches and revocations. A last group of one is no group.
_ANY = frozenset(map(chr, range(128)))
_LAST_OF = (_ANY, frozenset[str](), frozenset("AQgw"), frozenset("AEIMQUYcgkosw048"))
_PADDING = (b"", b"", b"==", b"=")

# To the alphabet that binascii decodes. What is special there and not here becomes what it refuses.
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_TO_URL = bytes.maketrans(b"+/", b"-_")


def decode(text: str) -> bytes:
    """Return the bytes of ``text``.

    Raises ``ValueError`` for padding, white space, another alphabet, or left-over bits that are not zero.
    """
    left_over = len(text) % 4
    try:
        if text and text[-1] not in _LAST_OF[left_over]:
            raise ValueError
        return binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL) + _PADDING[left_over], strict_mode=True)
    except ValueError:
        raise ValueError("not canonical base64url") from None


def encode(raw: bytes) -> str:
    """Return the text of ``raw``, without padding."""
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")
