"""The form of a token: parsed, and not trusted yet (RFC 7515 §7.1, RFC 7519 §7.2).

Everything here is under the control of whoever sent the token. ``Token`` keeps that in its names: its claims
are ``unverified_claims`` until ``core/claims.py`` turns them, after the signature, into a ``Principal``.
"""

import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from verifier.core import base64url, strict_json
from verifier.core.reasons import Reason, Rejected

_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9\-_+/]", re.ASCII)
_SEGMENTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


class Header(NamedTuple):
    """What a header says, as far as we listen."""

    algorithm: str
    key_id: str | None
    type: str | None


class Token(NamedTuple):
    """A JWS in compact form, taken apart. No value in it is to be believed before the signature holds."""

    header: Header
    unverified_claims: Mapping[str, Any]
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "Token(…)"

    @property
    def algorithm(self) -> str:
        return self.header.algorithm

    @property
    def key_id(self) -> str | None:
        return self.header.key_id

    @property
    def type(self) -> str | None:
        return self.header.type

    @property
    def content(self) -> bytes:
        """The ``content_digest`` of its text."""
        return hashlib.sha256(self.signing_input).digest()


def check_size(text: str, max_bytes: int) -> None:
    """Before anything else is done with it. Raises ``Rejected``: ``token_too_large``."""
    if len(text) > max_bytes:
        raise Rejected(Reason.TOKEN_TOO_LARGE, f"the token is longer than {max_bytes} bytes")


def parse(text: str) -> Token:
    """Take ``text`` apart by RFC 7515 §7.1, strictly.

    Raises ``Rejected``: ``malformed_token``, ``unsupported_crit``.
    """
    segments = text.split(".")
    if len(segments) != 3 or not all(segments):
        raise Rejected(Reason.MALFORMED_TOKEN, "expected three base64url segments, joined by dots and without padding")
    first, payload, signature = segments
    header = _known_header(first) if len(first) <= _SHORT_HEADER else _header(first)
    claims = _json_object(payload, "payload")
    signing_input = text[: len(first) + 1 + len(payload)].encode("ascii")
    return Token(header, claims, signing_input, _decode(signature, "signature"))


def _header(segment: str) -> Header:
    header = _json_object(segment, "header")
    if "crit" in header or "b64" in header:
        # RFC 7515 §4.1.11: an extension that is not understood must be refused, and we understand none.
        raise Rejected(Reason.UNSUPPORTED_CRIT, "the header names extensions (crit, b64); none is supported")
    return Header(_algorithm(header), _optional_text(header, "kid"), _optional_text(header, "typ"))


# An issuer's tokens have one header for each of its keys. Longer ones are rare, and would take the memory.
_SHORT_HEADER = 512
_known_header = lru_cache(1_024)(_header)


def content_digest(text: str, *, opaque: bool) -> bytes:
    """What tells this token from others: SHA-256 of its header and payload, or of all of an opaque one.

    Without the signature, as an ECDSA signature can be turned into another that holds too.
    """
    segments = None if opaque else _SEGMENTS.fullmatch(text)
    content = text if segments is None else text[: segments.end(2)]
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()


def is_opaque(text: str) -> bool:
    """Whether ``text`` has not the form of a JWS, so that only its issuer can say what it is."""
    return _SEGMENTS.fullmatch(text) is None


def is_like_jws(text: str) -> bool:
    """Whether somebody who is lenient about base64 could take ``text`` for a JWS: it begins with a JSON object.

    Such a text is a JWS or nothing. As an opaque token it would get around what its signature and its content are
    checked for. A JWE (five segments, ``enc`` in its header) is something that its issuer alone can read.
    """
    segments = text.split(".")
    header = _NOT_BASE64.sub("", next(filter(None, segments), "")).replace("-", "+").replace("_", "/")
    begins = binascii.a2b_base64(header[: len(header) // 4 * 4]).lstrip().startswith(b"{")
    return begins and len(segments) > 2 and not _is_jwe(segments)


def _is_jwe(segments: Sequence[str]) -> bool:
    """RFC 7516 §7.1. The encrypted key alone may be empty (§5.1, step 5)."""
    if len(segments) != 5 or not all((segments[0], *segments[2:])):
        return False
    try:
        return "enc" in strict_json.parse_object(base64url.decode(segments[0]))
    except ValueError:
        return False


def is_b64token(text: str) -> bool:
    """Whether ``text`` could be a bearer token at all: the characters of RFC 6750 §2.1."""
    return _B64TOKEN.fullmatch(text) is not None


def _decode(segment: str, name: str) -> bytes:
    try:
        return base64url.decode(segment)
    except ValueError:
        raise Rejected(Reason.MALFORMED_TOKEN, f"the {name} is not canonical base64url") from None


def _json_object(segment: str, name: str) -> dict[str, Any]:
    raw = _decode(segment, name)
    try:
        return strict_json.parse_object(raw)
    except ValueError:
        raise Rejected(
            Reason.MALFORMED_TOKEN,
            f"the {name} is not an unambiguous JSON object (UTF-8, no repeated names, finite numbers)",
        ) from None


def _algorithm(header: Mapping[str, Any]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise Rejected(Reason.MALFORMED_TOKEN, "the header has no alg that is a string")
    return algorithm


def _optional_text(header: Mapping[str, Any], name: str) -> str | None:
    value = header.get(name)
    if not isinstance(value, str) and name in header:
        raise Rejected(Reason.MALFORMED_TOKEN, f"the {name} of the header is not a string")
    return value
