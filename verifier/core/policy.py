"""What a request demands of a principal, beyond what its issuer demands of every token."""

from dataclasses import dataclass

from verifier.core import claim_path
from verifier.core.claims import satisfies
from verifier.core.issuer import RequiredClaim
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Principal


@dataclass(frozen=True, slots=True)
class Requirement:
    """Everything that is given must hold. Of ``issuers`` (names), ``audiences``, ``client_ids`` and ``any_scopes`` one
    is enough; of ``scopes`` and ``claims`` all are needed. ``max_auth_age``: how long ago, in seconds, the subject may
    have authenticated (``auth_time``, OpenID Connect Core §2)."""

    scopes: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    any_scopes: tuple[str, ...] = ()
    claims: tuple[RequiredClaim, ...] = ()
    issuers: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()
    max_auth_age: float | None = None


NOTHING = Requirement()

NEVER = float("inf")


def check(requirement: Requirement, principal: Principal, leeway: float, now: float) -> None:
    """Every demand, at ``now`` (seconds since 1970) with ``leeway`` seconds.

    Raises ``Rejected``: ``wrong_audience``, ``wrong_client``, ``stale_authentication``, ``route_denied``,
    ``claim_not_satisfied``, ``insufficient_scope``.
    """
    if requirement is NOTHING:
        return
    check_audience(requirement, principal)
    check_authentication(requirement, principal, leeway, now)
    check_origin(requirement, principal)
    check_claims(requirement, principal)
    check_scopes(requirement, principal)


def meets(requirement: Requirement, principal: Principal, leeway: float, now: float) -> bool:
    """Whether every demand is met, as ``check`` finds out."""
    try:
        check(requirement, principal, leeway, now)
    except Rejected:
        return False
    return True


def met_until(requirement: Requirement, principal: Principal) -> float:
    """When a principal that meets the requirement does so no more (seconds since 1970), clocks that differ aside."""
    if requirement.max_auth_age is None:
        return NEVER
    return float(principal.claims["auth_time"]) + requirement.max_auth_age


def check_audience(requirement: Requirement, principal: Principal) -> None:
    """Raises ``Rejected``: ``wrong_audience``."""
    if requirement.audiences and not set(requirement.audiences).intersection(principal.audiences):
        raise Rejected(Reason.WRONG_AUDIENCE, "the token is not meant for the audience that was asked about")


def check_authentication(requirement: Requirement, principal: Principal, leeway: float, now: float) -> None:
    """Raises ``Rejected``: ``stale_authentication``."""
    if requirement.max_auth_age is None:
        return
    at = principal.claims.get("auth_time")
    earliest = now - requirement.max_auth_age - leeway
    if isinstance(at, bool) or not isinstance(at, int | float) or not earliest <= at <= now + leeway:
        raise Rejected(Reason.STALE_AUTHENTICATION, "its subject authenticated too long ago, or nobody knows when")


def check_origin(requirement: Requirement, principal: Principal) -> None:
    """Whose token it is. Raises ``Rejected``: ``route_denied``."""
    if requirement.issuers and principal.issuer_name not in requirement.issuers:
        raise Rejected(Reason.ROUTE_DENIED, "tokens of this issuer are not accepted here")
    if requirement.client_ids and principal.client_id not in requirement.client_ids:
        raise Rejected(Reason.ROUTE_DENIED, "this client is not permitted here")


def check_claims(requirement: Requirement, principal: Principal) -> None:
    """Raises ``Rejected``: ``claim_not_satisfied``."""
    for required in requirement.claims:
        if not satisfies(claim_path.find(principal.claims, required.path), required.values):
            name = claim_path.render(required.path)
            raise Rejected(Reason.CLAIM_NOT_SATISFIED, f"the claim {name} has none of the values demanded here")


def check_scopes(requirement: Requirement, principal: Principal) -> None:
    """Raises ``Rejected``: ``insufficient_scope``."""
    if not set(requirement.scopes).issubset(principal.scopes):
        raise Rejected(Reason.INSUFFICIENT_SCOPE, "the token lacks a scope that is demanded here")
    if requirement.any_scopes and not set(requirement.any_scopes).intersection(principal.scopes):
        raise Rejected(Reason.INSUFFICIENT_SCOPE, "the token has none of the scopes of which one is demanded here")
