"""A refusal as HTTP says it: status, ``WWW-Authenticate`` (RFC 6750 §3) and problem document (RFC 9457)."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from verifier.core.reasons import Family, Reason
from verifier.core.verdict import Denied

STATUS: Mapping[Family, int] = MappingProxyType(
    {
        Family.MISSING: 401,
        Family.INVALID_REQUEST: 400,
        Family.INVALID_TOKEN: 401,
        Family.INSUFFICIENT: 403,
        Family.UNAVAILABLE: 503,
    }
)

# RFC 6750 §3.1. A request without credentials gets no code, and an outage is not the client's error.
_ERROR: Mapping[Family, str] = MappingProxyType(
    {
        Family.INVALID_REQUEST: "invalid_request",
        Family.INVALID_TOKEN: "invalid_token",
        Family.INSUFFICIENT: "insufficient_scope",
    }
)

# RFC 9470 §3: the same token is good elsewhere, and its owner has to show up again.
_OWN_ERROR: Mapping[Reason, str] = MappingProxyType({Reason.STALE_AUTHENTICATION: "insufficient_user_authentication"})

TITLE: Mapping[Family, str] = MappingProxyType(
    {
        Family.MISSING: "A bearer token is needed",
        Family.INVALID_REQUEST: "The request is ambiguous or malformed",
        Family.INVALID_TOKEN: "The bearer token is not accepted",
        Family.INSUFFICIENT: "The bearer token does not permit this",
        Family.UNAVAILABLE: "The bearer token cannot be judged now",
    }
)

REALM = "verifier"

# What may not stand in an error_description or a scope (RFC 6750 §3). A detail can name a configured claim, and
# the scopes come from whoever asks.
_NOT_ALLOWED = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


def status(denied: Denied) -> int:
    return STATUS[denied.family]


def www_authenticate(denied: Denied) -> str | None:
    """The challenge, or None where there is none to make (503)."""
    if denied.undecided:
        return None
    challenge = f'Bearer realm="{REALM}"'
    error = _OWN_ERROR.get(denied.reason, _ERROR.get(denied.family))
    if error is not None:
        challenge += f', error="{error}", error_description="{_quotable(denied.detail)}"'
    if denied.reason is Reason.INSUFFICIENT_SCOPE and denied.scopes:
        challenge += f', scope="{_quotable(" ".join(denied.scopes))}"'
    return challenge


def _quotable(text: str) -> str:
    return _NOT_ALLOWED.sub("'", text)


def problem(denied: Denied) -> dict[str, Any]:
    """The body: RFC 9457 §3.1, and the two members that a program reads."""
    return {
        "type": f"urn:token-verifier:reason:{denied.reason}",
        "title": TITLE[denied.family],
        "status": status(denied),
        "detail": denied.detail,
        "allowed": False,
        "reason": str(denied.reason),
    }
