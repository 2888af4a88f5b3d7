"""What a request demands of a principal, beyond what its issuer demands of every token."""

from dataclasses import dataclass

from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Principal


@dataclass(frozen=True, slots=True)
class Requirement:
    """All of ``scopes``, and one of ``audiences`` where any are given."""

    scopes: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()


NOTHING = Requirement()


def check_audience(requirement: Requirement, principal: Principal) -> None:
    """Raises ``Rejected``: ``wrong_audience``."""
    if requirement.audiences and not set(requirement.audiences).intersection(principal.audiences):
        raise Rejected(Reason.WRONG_AUDIENCE, "the token is not meant for the audience that was asked about")


def check_scopes(requirement: Requirement, principal: Principal) -> None:
    """Raises ``Rejected``: ``insufficient_scope``."""
    if not set(requirement.scopes).issubset(principal.scopes):
        raise Rejected(Reason.INSUFFICIENT_SCOPE, "the token lacks a scope that is demanded here")


def check(requirement: Requirement, principal: Principal) -> None:
    """Every demand. Raises ``Rejected``: ``wrong_audience``, ``insufficient_scope``."""
    check_audience(requirement, principal)
    check_scopes(requirement, principal)
