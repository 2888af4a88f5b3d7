"""Rules on trial (``report_only``): what they would deny of what is allowed.

Rules of this module:

* It is asked about what is allowed already, and its answer goes into metrics, logs and explanations. Nothing is allowed
  or denied by it, so a rule on trial can neither loosen nor tighten anything.
* The checks are those of the decision, asked with the stricter values.
"""

from collections.abc import Callable
from dataclasses import dataclass

from verifier.core import bearer, claims, introspection, policy, routes, signature
from verifier.core.explanation import Outcome, Step, refused_by
from verifier.core.identity import Identity
from verifier.core.issuer import Issuer, Issuers
from verifier.core.reasons import Reason, Rejected
from verifier.core.routes import Access, Routes, Rule, Target
from verifier.core.verdict import Denied, Principal, WouldDeny

Judge = Callable[[Issuers, Routes], tuple[Step, ...]]
"""Every check of one decision, by these issuers and routes."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """``steps`` is every check of a decision. ``on_trial`` are the checks that fail with what is on trial enforced,
    where it allows."""

    steps: tuple[Step, ...]
    on_trial: tuple[Step, ...] = ()

    @property
    def reason(self) -> Reason | None:
        """Why it refuses."""
        return refused_by(self.steps)

    @property
    def would_deny(self) -> Reason | None:
        """Why it would refuse with what is on trial enforced, where it allows."""
        return refused_by(self.on_trial)


def explained(judge: Judge, issuers: Issuers, table: Routes) -> Explanation:
    """What ``judge`` finds, as the rules are and, where that allows, with what is on trial enforced."""
    steps = judge(issuers, table)
    if refused_by(steps) is not None:
        return Explanation(steps)
    tried = judge(issuers.on_trial(), table.trial or table)
    return Explanation(steps, tuple(step for step in tried if step.outcome is Outcome.FAILS))


def would_deny(
    identity: Identity | None, issuer: Issuer | None, table: Routes, target: Target | None, now: float
) -> tuple[WouldDeny, ...]:
    """What the trials of the issuer and of the routes would deny of a request that is allowed at ``now`` (seconds since
    1970). Nobody, without an identity, is of no issuer."""
    principal, leeway = None, 0.0
    found: WouldDeny | None = None
    if identity is not None and issuer is not None and not isinstance(identity.outcome, Denied):
        principal, leeway = identity.outcome, issuer.leeway
        found = None if issuer.trial is None else _by_issuer(identity, principal, issuer.trial, now)
    other = None if table.trial is None else _by_route(principal, leeway, table.trial, target, now)
    return tuple(one for one in (found, other) if one is not None)


def _by_issuer(identity: Identity, principal: Principal, issuer: Issuer, now: float) -> WouldDeny | None:
    """By ``issuer``, as it would be with its stricter values."""
    try:
        if identity.header is not None:
            signature.check_algorithm(identity.header, issuer)
            claims.check_type(identity.header, issuer)
        else:  # on the issuer's word alone, of which the claims are
            introspection.check_type(principal.claims, issuer)
        claims.check_audience(principal.claims, issuer)
        claims.check_client(principal.claims, issuer)
        claims.check_standing(principal, issuer, now)
    except Rejected as refusal:
        return WouldDeny("issuer", refusal.reason, refusal.detail)
    return None


def _by_route(
    principal: Principal | None, leeway: float, table: Routes, target: Target | None, now: float
) -> WouldDeny | None:
    """By ``table``, in which the routes on trial are enforced. By the others it is allowed, as it was decided."""
    rule = table.rule(target)
    try:
        _check(rule, principal, leeway, now)
    except Rejected as refusal:
        name, pattern = ("", "") if rule.route is None else (rule.route.name, str(rule.route.pattern))
        return WouldDeny("route", refusal.reason, refusal.detail, name, pattern)
    return None


def _check(rule: Rule, principal: Principal | None, leeway: float, now: float) -> None:
    """As the engine does. Raises ``Rejected``."""
    if principal is not None:
        routes.check_access(rule)
        policy.check(rule.requirement, principal, leeway, now)
    elif rule.access is not Access.ANONYMOUS:
        raise Rejected(Reason.MISSING_TOKEN, bearer.MISSING)
