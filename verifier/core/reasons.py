"""Why a request was not allowed: the one vocabulary of the wire, the log and the metric.

Rules of this module:

* A reason belongs to exactly one family, and the family alone decides the status (``challenge.py``).
* A step of the core that refuses raises ``Rejected``; the engine, and nothing else, catches it.
* A detail is written for the client to read. It may speak of what *we* expect and of numbers of a
  token whose signature holds, and never repeats text of the token.
"""

from collections.abc import Mapping
from enum import StrEnum, unique
from types import MappingProxyType


@unique
class Family(StrEnum):
    """What a caller can do about a refusal. Surfaces look at the family, never at the reason."""

    MISSING = "missing"
    INVALID_REQUEST = "invalid_request"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a name of RFC 6750, not a secret
    INSUFFICIENT = "insufficient"
    UNAVAILABLE = "unavailable"


@unique
class Reason(StrEnum):
    """One word for the check that failed."""

    MISSING_TOKEN = "missing_token"  # noqa: S105 - a reason, not a secret

    MALFORMED_CREDENTIALS = "malformed_credentials"
    MULTIPLE_CREDENTIALS = "multiple_credentials"
    MALFORMED_REQUEST = "malformed_request"

    MALFORMED_TOKEN = "malformed_token"  # noqa: S105 - a reason, not a secret
    TOKEN_TOO_LARGE = "token_too_large"  # noqa: S105 - a reason, not a secret
    UNSUPPORTED_CRIT = "unsupported_crit"
    WRONG_TOKEN_TYPE = "wrong_token_type"  # noqa: S105 - a reason, not a secret
    UNTRUSTED_ISSUER = "untrusted_issuer"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED_CLAIM = "malformed_claim"
    MISSING_CLAIM = "missing_claim"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    TOO_OLD = "too_old"
    STALE_AUTHENTICATION = "stale_authentication"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_CLIENT = "wrong_client"
    INACTIVE = "inactive"
    REVOKED = "revoked"

    INSUFFICIENT_SCOPE = "insufficient_scope"
    CLAIM_NOT_SATISFIED = "claim_not_satisfied"
    ROUTE_DENIED = "route_denied"
    UNTRUSTED_PROXY = "untrusted_proxy"
    ANSWER_TOO_LARGE = "answer_too_large"

    KEYS_UNAVAILABLE = "keys_unavailable"
    INTROSPECTION_UNAVAILABLE = "introspection_unavailable"
    REVOCATIONS_UNAVAILABLE = "revocations_unavailable"
    OVERLOADED = "overloaded"
    DEADLINE_EXCEEDED = "deadline_exceeded"


FAMILY: Mapping[Reason, Family] = MappingProxyType(
    {
        Reason.MISSING_TOKEN: Family.MISSING,
        Reason.MALFORMED_CREDENTIALS: Family.INVALID_REQUEST,
        Reason.MULTIPLE_CREDENTIALS: Family.INVALID_REQUEST,
        Reason.MALFORMED_REQUEST: Family.INVALID_REQUEST,
        Reason.MALFORMED_TOKEN: Family.INVALID_TOKEN,
        Reason.TOKEN_TOO_LARGE: Family.INVALID_TOKEN,
        Reason.UNSUPPORTED_CRIT: Family.INVALID_TOKEN,
        Reason.WRONG_TOKEN_TYPE: Family.INVALID_TOKEN,
        Reason.UNTRUSTED_ISSUER: Family.INVALID_TOKEN,
        Reason.ALGORITHM_NOT_ALLOWED: Family.INVALID_TOKEN,
        Reason.UNKNOWN_KEY: Family.INVALID_TOKEN,
        Reason.BAD_SIGNATURE: Family.INVALID_TOKEN,
        Reason.MALFORMED_CLAIM: Family.INVALID_TOKEN,
        Reason.MISSING_CLAIM: Family.INVALID_TOKEN,
        Reason.EXPIRED: Family.INVALID_TOKEN,
        Reason.NOT_YET_VALID: Family.INVALID_TOKEN,
        Reason.TOO_OLD: Family.INVALID_TOKEN,
        Reason.STALE_AUTHENTICATION: Family.INVALID_TOKEN,
        Reason.WRONG_AUDIENCE: Family.INVALID_TOKEN,
        Reason.WRONG_CLIENT: Family.INVALID_TOKEN,
        Reason.INACTIVE: Family.INVALID_TOKEN,
        Reason.REVOKED: Family.INVALID_TOKEN,
        Reason.INSUFFICIENT_SCOPE: Family.INSUFFICIENT,
        Reason.CLAIM_NOT_SATISFIED: Family.INSUFFICIENT,
        Reason.ROUTE_DENIED: Family.INSUFFICIENT,
        Reason.UNTRUSTED_PROXY: Family.INSUFFICIENT,
        Reason.ANSWER_TOO_LARGE: Family.INSUFFICIENT,
        Reason.KEYS_UNAVAILABLE: Family.UNAVAILABLE,
        Reason.INTROSPECTION_UNAVAILABLE: Family.UNAVAILABLE,
        Reason.REVOCATIONS_UNAVAILABLE: Family.UNAVAILABLE,
        Reason.OVERLOADED: Family.UNAVAILABLE,
        Reason.DEADLINE_EXCEEDED: Family.UNAVAILABLE,
    }
)


class Rejected(Exception):  # noqa: N818 - not an error: the answer of a check that does not hold
    """A check does not hold.

    ``detail`` is one sentence for the client, in the characters that RFC 6750 §3 allows in an
    ``error_description`` (printable ASCII without quotation mark and backslash). ``hint`` is for the operator alone:
    what nearly fits, in words of the configuration.
    """

    def __init__(self, reason: Reason, detail: str, hint: str | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = detail
        self.hint = hint
