"""From the values of an ``Authorization`` header to the text of the token (RFC 6750 §2.1)."""

import re
from collections.abc import Sequence

from verifier.core.reasons import Reason, Rejected

# b64token of RFC 6750 §2.1, after the scheme in any letter case and at least one space (RFC 9110 §11.4).
_SCHEME = re.compile(r"bearer(?![A-Za-z0-9!#$%&'*+\-.^_`|~])", re.IGNORECASE | re.ASCII)  # a token of RFC 9110 §5.6.2
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)", re.ASCII)  # IGNORECASE looks at each letter


MISSING = "send the token as: Authorization: Bearer TOKEN"


def token_text(values: Sequence[str]) -> str:
    """Return the token that the header values carry.

    A header of another scheme is no bearer credential at all, so it is a missing token and not a
    malformed one (RFC 6750 §3.1).

    Raises ``Rejected``: ``missing_token``, ``multiple_credentials``, ``malformed_credentials``.
    """
    if len(values) > 1:
        raise Rejected(Reason.MULTIPLE_CREDENTIALS, "send the Authorization header once")
    if not values or not _names_bearer(values[0]):
        raise Rejected(Reason.MISSING_TOKEN, MISSING)
    match = _BEARER.fullmatch(values[0])
    if match is None:
        raise Rejected(
            Reason.MALFORMED_CREDENTIALS,
            "expected the word Bearer, a space and one token without spaces, commas or quotes",
        )
    return match.group(1)


def credential(authorization: Sequence[str], text: str | None, *, needed: bool) -> str | None:
    """The text of the token, of a header or by itself (``text``); None where there is none and none is ``needed``.

    Raises ``Rejected``: as ``token_text`` does.
    """
    if text is None:
        try:
            return token_text(authorization)
        except Rejected as refusal:
            if refusal.reason is Reason.MISSING_TOKEN and not needed:
                return None
            raise
    if authorization:
        raise Rejected(
            Reason.MULTIPLE_CREDENTIALS,
            "send the token in the body or in the Authorization header, not in both",
        )
    return text


def pasted(text: str) -> str:
    """The token in what a person pasted: with the scheme or without, with white space around it."""
    scheme, _, rest = text.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else text.strip()


def _names_bearer(value: str) -> bool:
    return _SCHEME.match(value) is not None
