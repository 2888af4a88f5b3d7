"""What the engine answers: the values that travel from the core to every surface."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from verifier.core.reasons import FAMILY, Family, Reason


class Principal(NamedTuple):
    """Who a token speaks for. Made only by ``core/claims.py``, after the signature held or the issuer was asked.

    Times are in seconds since 1970 (RFC 7519 §2, NumericDate).
    """

    issuer: str
    issuer_name: str
    subject: str | None
    client_id: str | None
    scopes: tuple[str, ...]
    audiences: tuple[str, ...]
    expires_at: float
    not_before: float | None
    issued_at: float | None
    token_id: str | None
    claims: Mapping[str, Any]  # personal data: stays out of logs and traces

    def __repr__(self) -> str:
        return f"Principal(issuer_name={self.issuer_name!r}, …)"


@dataclass(frozen=True, slots=True)
class Reach:
    """What else somebody may do, for those who apply one answer to other requests too.

    ``routes`` says of each route, in the order of the table, whether it may be taken; ``default``, whether what no
    route matches may be done.
    """

    routes: tuple[bool, ...]
    default: bool


class WouldDeny(NamedTuple):
    """What a rule that is only reported says of something that is allowed: enforced, it would deny it.

    ``route`` and ``pattern`` are the name and the path of the route, empty where it is no route's refusal.
    """

    rule: Literal["issuer", "route"]
    reason: Reason
    detail: str
    route: str = ""
    pattern: str = ""


class Allowed(NamedTuple):
    """The token is good for what was asked; or nobody needs one for it, and nobody sent one (``principal`` is None).

    ``good_until`` is how long that stays so by itself, in seconds since 1970; it may be taken back at any time before.
    ``reach`` is there where it was asked for. ``would_deny`` is for metrics and logs, and changes nothing.
    """

    principal: Principal | None
    good_until: float
    reach: Reach | None = None
    would_deny: tuple[WouldDeny, ...] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """The token is not good for what was asked, or nobody can say so now (family ``unavailable``).

    ``issuer`` is the configured name, empty when none matched. ``scopes`` are those that were demanded,
    for the challenge of RFC 6750 §3. ``retry_after`` is in seconds and only set when undecided. ``principal`` is
    there where the token is good and the request is not, and ``reach`` then, if it was asked for. ``hint`` is for the
    operator alone (``Rejected``).
    """

    reason: Reason
    detail: str
    issuer: str = ""
    scopes: tuple[str, ...] = ()
    retry_after: int | None = None
    principal: Principal | None = field(default=None, repr=False)
    reach: Reach | None = None
    hint: str | None = field(default=None, repr=False, compare=False)

    @property
    def family(self) -> Family:
        return FAMILY[self.reason]

    @property
    def undecided(self) -> bool:
        return self.family is Family.UNAVAILABLE


Verdict = Allowed | Denied
