"""What AWS is told of a verdict: a policy of IAM, or yes and no.

API Gateway may keep an answer and apply it to other requests of the same token, so it is right for those too. A policy
says what the principal may do on the whole stage (``core/iam.py``), or speaks of one method alone; and where AWS
understands nothing but yes and no, a yes is said only if no other request is answered by it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from verifier.core import claim_path
from verifier.core.claim_path import ClaimPath
from verifier.core.iam import WHOLE_STAGE, Plan, Plans
from verifier.core.reasons import Family, Reason
from verifier.core.routes import Routes, Target
from verifier.core.verdict import Allowed, Denied, Principal, Verdict
from verifier.surfaces import answer, aws_event
from verifier.surfaces.aws_context import RESERVED, Form, Value, context
from verifier.surfaces.aws_event import MOST_ARN, Arn, Event, Kind
from verifier.surfaces.surface import Answer, Settled

MOST_BYTES = 8_192
"""Of an answer, for API Gateway."""

NOBODY = "anonymous"
"""The principal of those who need not be anybody."""

REASON = f"{RESERVED}reason"
POLICY = f"{RESERVED}policy"

FALLBACK = "fallback"
"""The kind of a policy of the requested method alone, where IAM cannot express the routes."""


class Mode(StrEnum):
    """What policies speak of."""

    ROUTES = "routes"  # everything that the principal may do on this API and stage
    API = "api"  # the whole stage, whatever the routes say
    METHOD = "method"  # the method ARN that was asked about


@dataclass(frozen=True, slots=True)
class UsageKeys:
    """The API key of a usage plan: the value of ``claim``, or what ``keys`` has for it."""

    claim: ClaimPath
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def of(self, principal: Principal) -> str | None:
        value = claim_path.find(principal.claims, self.claim)
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
        return text if text is None or not self.keys else self.keys.get(text)


@dataclass(frozen=True, slots=True)
class Asked:
    """One event, as it is judged. ``target`` is None where the token alone decides. ``is_kept``: an HTTP API may keep
    the answer; ``is_for_token``: for the token alone."""

    event: Event
    host: str | None
    target: Target | None
    is_kept: bool
    is_for_token: bool


@dataclass(frozen=True, slots=True)
class Writer:
    """``max_hold`` is for how many seconds AppSync may hold an allow."""

    routes: Routes
    plans: Plans
    mode: Mode
    form: Form
    claims: tuple[str, ...] | None
    usage_keys: UsageKeys | None
    max_hold: float

    def policy(self, asked: Asked, arn: Arn, verdict: Verdict) -> Settled:
        """For API Gateway, where it takes policies."""
        verdict = _kept_for_its_token(asked, verdict)
        if isinstance(verdict, Denied) and verdict.family is not Family.INSUFFICIENT:
            return refused(verdict)
        for kind, plan in self._plans(asked, arn, verdict):
            if all(len(arn.stage + resource) <= MOST_ARN for resource in plan.resources):
                written = self._policy(arn, plan, kind, verdict)
                if len(written.body) <= MOST_BYTES:
                    return Settled(verdict, written, kind)
        denied = _cannot_be_named(arn, verdict) or _too_large(verdict)
        return Settled(denied, self._policy(arn, _denying(arn), Mode.METHOD, denied), Mode.METHOD)

    def simple(self, asked: Asked, verdict: Verdict) -> Settled:
        """For HTTP APIs, where they take yes and no."""
        verdict = _kept_for_its_token(asked, verdict)
        is_for_all = asked.target is None or not asked.is_kept or aws_event.is_kept_apart(asked.event)
        if isinstance(verdict, Allowed) and not is_for_all:
            verdict = Denied(Reason.ROUTE_DENIED, _KEPT_TOGETHER, _issuer(verdict))
        if isinstance(verdict, Allowed):
            written = answer.as_json(200, {"isAuthorized": True, "context": self._context(verdict.principal)})
            if len(written.body) <= MOST_BYTES:
                return Settled(verdict, written)
            verdict = _too_large(verdict)
        if verdict.family is not Family.INSUFFICIENT:
            return refused(verdict)
        return Settled(verdict, answer.as_json(403, {"isAuthorized": False, "context": {REASON: str(verdict.reason)}}))

    def appsync(self, verdict: Verdict, now: float) -> Settled:
        """For AppSync, which is told how long from ``now`` it may hold a yes."""
        if isinstance(verdict, Denied) and verdict.undecided:
            return refused(verdict)
        if isinstance(verdict, Denied):
            members = {"isAuthorized": False, "resolverContext": {REASON: str(verdict.reason)}, "ttlOverride": 0}
            return Settled(verdict, answer.as_json(403, members))
        held = max(0, int(min(self.max_hold, verdict.good_until - now - 1)))
        told = self._context(verdict.principal)
        members = {"isAuthorized": True, "resolverContext": told, "ttlOverride": held}
        return Settled(verdict, answer.as_json(200, members))

    def _plans(self, asked: Asked, arn: Arn, verdict: Verdict) -> Iterator[tuple[str, Plan]]:
        """Policies that are right, with their kinds, those that say most first."""
        is_allowed, reach = isinstance(verdict, Allowed), verdict.reach
        is_of_one = not speaks_of_all(self.mode, asked.event)
        if not is_of_one and asked.target is None and is_allowed:
            yield self.mode, WHOLE_STAGE
        elif reach is not None:
            plan = self.plans.of(asked.host, reach)
            if plan is not None and plan.allows(arn.resource) == is_allowed:
                yield self.mode, plan
        kind = Mode.METHOD if is_of_one or _is_of_token(verdict) else FALLBACK
        if not is_allowed:
            yield kind, _denying(arn)
        elif arn.is_literal:
            route = self.routes.rule(asked.target).route
            yield kind, Plan((("" if route is None else route.condition, (arn.resource,)),))

    def _policy(self, arn: Arn, plan: Plan, kind: str, verdict: Verdict) -> Answer:
        who, denied = verdict.principal, plan.denied
        told = self._context(who)
        if isinstance(verdict, Denied):
            # What is allowed to others of its requests while this is cached, is told who it is.
            told = {**(told if plan.allowed else {}), REASON: str(verdict.reason)}
            denied = (*denied, *(() if arn.as_pattern in denied else (arn.as_pattern,)))
        if kind == FALLBACK:
            told[POLICY] = FALLBACK
        statements = [_statement("Allow", arn, resources, condition) for condition, resources in plan.allowed]
        if denied:
            statements.append(_statement("Deny", arn, denied))
        members = {
            "principalId": NOBODY if who is None else who.subject or who.client_id or who.issuer_name,
            "policyDocument": {"Version": "2012-10-17", "Statement": statements},
            "context": told,
        }
        key = None if who is None or self.usage_keys is None else self.usage_keys.of(who)
        if key is not None:
            members["usageIdentifierKey"] = key
        return answer.as_json(200 if isinstance(verdict, Allowed) else 403, members)

    def _context(self, principal: Principal | None) -> dict[str, Value]:
        return {} if principal is None else context(principal, self.form, self.claims)


def speaks_of_all(mode: Mode, event: Event) -> bool:
    """Whether a policy is to speak of other requests too. On a WebSocket there are none, and a preflight is allowed for
    what it is."""
    return mode is not Mode.METHOD and event.kind is not Kind.WEBSOCKET and event.target.preflight_of is None


def _statement(effect: str, arn: Arn, resources: tuple[str, ...], condition: str = "") -> dict[str, Any]:
    named = [arn.stage + resource for resource in resources]
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": effect,
        "Resource": named if len(named) > 1 else named[0],
    }
    return {**statement, "Condition": json.loads(condition)} if condition else statement


def _denying(arn: Arn) -> Plan:
    return Plan((), (arn.as_pattern,))


def _is_of_token(verdict: Verdict) -> bool:
    """Whether it is a denial that any other request with this token would get."""
    return isinstance(verdict, Denied) and verdict.principal is None


def _cannot_be_named(arn: Arn, verdict: Verdict) -> Denied | None:
    if len(arn.text) <= MOST_ARN and arn.is_literal:
        return None
    detail = f"a policy cannot name the path: its ARN has more than {MOST_ARN} characters, or wildcards"
    return Denied(Reason.ROUTE_DENIED, detail, _issuer(verdict), principal=verdict.principal)


def _too_large(verdict: Verdict) -> Denied:
    detail = f"the answer with its claims has more than {MOST_BYTES} bytes: choose claims with aws.context_claims"
    return Denied(Reason.ANSWER_TOO_LARGE, detail, _issuer(verdict), principal=verdict.principal)


def _kept_for_its_token(asked: Asked, verdict: Verdict) -> Verdict:
    """An allow that would be kept for whoever comes is none."""
    if isinstance(verdict, Denied) or not asked.is_kept or asked.is_for_token:
        return verdict
    return Denied(Reason.ROUTE_DENIED, _KEPT_FOR_OTHERS, _issuer(verdict))


def refused(verdict: Verdict) -> Settled:
    """A denial that the Lambda function raises as an error. What a client sent and nobody can read is 401 too: with 400
    it would be an error of ours to API Gateway."""
    written = answer.decision(verdict)
    is_unread = isinstance(verdict, Denied) and verdict.family is Family.INVALID_REQUEST
    return Settled(verdict, written._replace(status=401) if is_unread else written)


def _issuer(verdict: Verdict) -> str:
    if isinstance(verdict, Denied):
        return verdict.issuer
    return "" if verdict.principal is None else verdict.principal.issuer_name


_KEPT_FOR_OTHERS = (
    "API Gateway could apply this answer to other tokens: put the header that holds the token among the identity"
    " sources, or keep no answers and say aws.http_ttl: zero"
)
_KEPT_TOGETHER = (
    "API Gateway could apply this answer to other routes: add $context.httpMethod and $context.path to the identity"
    " sources, or keep no answers and say aws.http_ttl: zero"
)
