"""``/aws/authorizer``: the authorizer's part for API Gateway and AppSync. A Lambda function carries the event here, and
the answer back.

An answer may be kept and applied to other requests of the same token, so it is right for those too: a policy says what
the principal may do on the whole stage (``core/iam.py``), or speaks of one method alone; and where AWS understands
nothing but yes or no, a yes is said only if no other request is answered by it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any

from verifier.core import claim_path
from verifier.core.claim_path import ClaimPath
from verifier.core.iam import REST, Plan, Plans, allows
from verifier.core.reasons import Family, Reason
from verifier.core.routes import Access, Routes, Target
from verifier.core.verdict import Allowed, Denied, Principal, Verdict
from verifier.engine import ANY_ROUTE, Question
from verifier.surfaces import answer, aws_event, body, openapi
from verifier.surfaces.aws_context import OURS, Form, Value, context
from verifier.surfaces.aws_event import MOST_ARN, Arn, Event, Kind, Places
from verifier.surfaces.surface import Answer, Asked, Endpoint, Exchange, Request, Settled, Surface

MOST_BYTES = 8_192
"""Of an answer, for API Gateway."""

WHOLE_STAGE = Plan((("", (REST,)),))
NOBODY = "anonymous"
"""The principal of those who need not be anybody."""

REASON = f"{OURS}reason"
POLICY = f"{OURS}policy"


_OPENAPI = {
    "summary": "Answer an authorizer event of API Gateway or AppSync",
    "requestBody": openapi.body("application/json", {"type": "object"}),
    "responses": {
        "200": openapi.json_answer("Allow, as AWS takes it"),
        **openapi.PROBLEMS_OF_BODIES,
        "401": openapi.problem("No token, or not a good one"),
        "403": openapi.json_answer("Deny, as AWS takes it"),
        "503": openapi.problem("No decision now; see Retry-After"),
    },
}


class Mode(StrEnum):
    """What a policy speaks of."""

    ROUTES = "routes"  # everything that the principal may do on this API and stage
    API = "api"  # the whole stage, whatever the routes say
    METHOD = "method"  # the method ARN that was asked about


class Policy(StrEnum):
    """What became of it."""

    ROUTES = "routes"
    API = "api"
    METHOD = "method"
    FALLBACK = "fallback"  # the method ARN alone, as IAM cannot express the routes


@dataclass(frozen=True, slots=True)
class UsageKeys:
    """The API key of a usage plan: the value of ``claim``, or what ``keys`` has for it."""

    claim: ClaimPath
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def of(self, principal: Principal) -> str | None:
        value = claim_path.find(principal.claims, self.claim)
        text = value if isinstance(value, str) else None
        return text if text is None or not self.keys else self.keys.get(text)


@dataclass(frozen=True, slots=True)
class Options:
    """``is_uncached``: API Gateway keeps no simple answers. ``most_held`` is for how many seconds AppSync may hold an
    allow."""

    mode: Mode = Mode.ROUTES
    gives_policies: bool = False  # to HTTP APIs of payload format 2.0
    is_uncached: bool = False
    form: Form = Form.CLAIMS
    claims: tuple[str, ...] | None = None
    places: Places = field(default_factory=Places)
    usage_keys: UsageKeys | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    most_held: float = 0


def surface(options: Options, routes: Routes) -> Surface:
    """The surface for whoever is judged by ``routes``."""
    endpoint = Endpoint(
        path="/aws/authorizer",
        methods=("POST",),
        content_type="application/json",
        read=partial(_read, _Authorizer(options, routes)),
        write=lambda verdicts: answer.decision(verdicts[0]),
        openapi=_OPENAPI,
        unreadable=401,  # an error of ours would be one of API Gateway's to the client
    )
    return Surface("aws", (endpoint,))


class _Authorizer:
    def __init__(self, options: Options, routes: Routes) -> None:
        self.options = options
        self.routes = routes
        self.plans = Plans(routes)
        self.is_open = not routes.all and routes.default is Access.AUTHENTICATED


@dataclass(frozen=True, slots=True)
class _Asked:
    """One event, as it is judged. ``target`` is None where the token alone decides."""

    event: Event
    host: str | None
    target: Target | None


def _read(authorizer: _Authorizer, request: Request) -> Asked:
    members = body.json_object(request.body)
    event = members if isinstance(members, Denied) else aws_event.read(members)
    if isinstance(event, Denied):
        return event
    options = authorizer.options
    is_policy = event.kind is not Kind.APPSYNC and (event.kind is not Kind.HTTP_2 or options.gives_policies)
    host = aws_event.host(event, options.hosts)
    target: Target | None = replace(event.target, host=host, holds_conditions=is_policy)
    if (authorizer.is_open or options.mode is Mode.API) and event.target.preflight_of is None:
        target = None
    asked = _Asked(event, host, target)
    authorization, token = aws_event.credentials(event, options.places)
    settle: Callable[[Verdict], Settled]
    if event.arn is None:
        settle = partial(_for_appsync, authorizer)
    elif is_policy:
        settle = partial(_with_policy, authorizer, asked, event.arn)
    else:
        settle = partial(_simple, authorizer, asked)
    question: Question | Denied = Question(authorization, token, target=target, wants_reach=is_policy)
    if target is not None and is_policy and not event.is_consistent:
        question = Denied(Reason.ROUTE_DENIED, "the event tells method and path twice, and not the same")
    return Exchange(question, settle, aws_event.request_id(event))


def _with_policy(authorizer: _Authorizer, asked: _Asked, arn: Arn, verdict: Verdict) -> Settled:
    """For API Gateway, where it takes policies of IAM."""
    if isinstance(verdict, Denied) and verdict.family is not Family.INSUFFICIENT:
        return Settled(verdict, _refusal(verdict))
    for policy, plan in _plans(authorizer, asked, arn, verdict):
        if all(len(arn.stage + resource) <= MOST_ARN for resource in _all_resources(plan)):
            written = _policy(authorizer, arn, plan, policy, verdict)
            if len(written.body) <= MOST_BYTES:
                return Settled(verdict, written, policy)
    denied = _not_written(arn, verdict)
    return Settled(denied, _policy(authorizer, arn, _denying(arn), Policy.METHOD, denied), Policy.METHOD)


def _plans(authorizer: _Authorizer, asked: _Asked, arn: Arn, verdict: Verdict) -> Iterator[tuple[Policy, Plan]]:
    """Policies that are right, those that say most first."""
    mode, kind = authorizer.options.mode, asked.event.kind
    is_allowed, reach = isinstance(verdict, Allowed), verdict.reach
    is_of_one = mode is Mode.METHOD or kind is Kind.WEBSOCKET or asked.event.target.preflight_of is not None
    if not is_of_one and asked.target is None and is_allowed:
        yield Policy(mode), WHOLE_STAGE
    elif not is_of_one and kind is Kind.REST and reach is not None:
        plan = authorizer.plans.of(asked.host, reach)
        if plan is not None and allows(plan, arn.resource) == is_allowed:
            yield Policy.ROUTES, plan
    policy = Policy.METHOD if is_of_one or reach is None else Policy.FALLBACK
    if not is_allowed:
        yield policy, _denying(arn)
    elif arn.is_literal:
        rule = authorizer.routes.rule(asked.target)
        yield policy, Plan((("" if rule.route is None else rule.route.condition, (arn.resource,)),))


def _denying(arn: Arn) -> Plan:
    return Plan((), (arn.as_pattern,))


def _not_written(arn: Arn, verdict: Verdict) -> Denied:
    issuer = verdict.issuer if isinstance(verdict, Denied) else _issuer(verdict.principal)
    if len(arn.text) > MOST_ARN or not arn.is_literal:
        detail = f"a policy cannot name the path: it is longer than {MOST_ARN} characters, or has wildcards"
        return Denied(Reason.ROUTE_DENIED, detail, issuer)
    return Denied(Reason.ANSWER_TOO_LARGE, _TOO_LARGE, issuer)


def _policy(authorizer: _Authorizer, arn: Arn, plan: Plan, policy: Policy, verdict: Verdict) -> Answer:
    denied = plan.denied
    if isinstance(verdict, Denied):
        who = None if verdict.reach is None else verdict.reach.principal
        # What is allowed to others of its requests while this is cached, is told who it is.
        told = {**(_context(authorizer, who) if plan.allowed else {}), REASON: str(verdict.reason)}
        denied = (*denied, *(() if arn.as_pattern in denied else (arn.as_pattern,)))
    else:
        who = verdict.principal
        told = _context(authorizer, who)
    if policy is Policy.FALLBACK:
        told[POLICY] = str(policy)
    statements = [_statement("Allow", arn, resources, condition) for condition, resources in plan.allowed]
    if denied:
        statements.append(_statement("Deny", arn, denied))
    members = {
        "principalId": NOBODY if who is None else who.subject or who.client_id or who.issuer_name,
        "policyDocument": {"Version": "2012-10-17", "Statement": statements},
        "context": told,
    }
    usage_keys = authorizer.options.usage_keys
    key = None if who is None or usage_keys is None else usage_keys.of(who)
    if key is not None:
        members["usageIdentifierKey"] = key
    return answer.as_json(_status(verdict), members)


def _statement(effect: str, arn: Arn, resources: tuple[str, ...], condition: str = "") -> dict[str, Any]:
    named = [arn.stage + resource for resource in resources]
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": effect,
        "Resource": named if len(named) > 1 else named[0],
    }
    return {**statement, "Condition": json.loads(condition)} if condition else statement


def _simple(authorizer: _Authorizer, asked: _Asked, verdict: Verdict) -> Settled:
    """For HTTP APIs, where they take a yes or no."""
    options = authorizer.options
    is_for_all = asked.target is None or options.is_uncached or aws_event.is_kept_apart(asked.event)
    if isinstance(verdict, Allowed) and not is_for_all:
        verdict = Denied(Reason.ROUTE_DENIED, _KEPT_TOGETHER, _issuer(verdict.principal))
    if isinstance(verdict, Allowed):
        members = {"isAuthorized": True, "context": _context(authorizer, verdict.principal)}
        written = answer.as_json(200, members)
        if len(written.body) <= MOST_BYTES:
            return Settled(verdict, written)
        verdict = Denied(Reason.ANSWER_TOO_LARGE, _TOO_LARGE, _issuer(verdict.principal))
    if verdict.family is not Family.INSUFFICIENT:
        return Settled(verdict, _refusal(verdict))
    return Settled(verdict, answer.as_json(403, {"isAuthorized": False, "context": {REASON: str(verdict.reason)}}))


def _for_appsync(authorizer: _Authorizer, verdict: Verdict) -> Settled:
    """AppSync knows yes and no, and is told how long it may hold it."""
    if isinstance(verdict, Denied) and verdict.undecided:
        return Settled(verdict, _refusal(verdict))
    if isinstance(verdict, Denied):
        members = {"isAuthorized": False, "resolverContext": {REASON: str(verdict.reason)}, "ttlOverride": 0}
        return Settled(verdict, answer.as_json(403, members))
    held = max(0, int(min(authorizer.options.most_held, verdict.good_for - 1)))
    told = _context(authorizer, verdict.principal)
    return Settled(verdict, answer.as_json(200, {"isAuthorized": True, "resolverContext": told, "ttlOverride": held}))


def _context(authorizer: _Authorizer, principal: Principal | None) -> dict[str, Value]:
    options = authorizer.options
    return {} if principal is None else context(principal, options.form, options.claims)


def _refusal(denied: Denied) -> Answer:
    """What the Lambda function raises as an error. Credentials that cannot be read are 401 too: with 400 it would be
    an error of ours to API Gateway."""
    written = answer.refusal(denied)
    return replace(written, status=401) if denied.family is Family.INVALID_REQUEST else written


def _status(verdict: Verdict) -> int:
    return 200 if isinstance(verdict, Allowed) else 403


def _all_resources(plan: Plan) -> tuple[str, ...]:
    return (*(one for _, resources in plan.allowed for one in resources), *plan.denied)


def _issuer(principal: Principal | None) -> str:
    return "" if principal is None else principal.issuer_name


_TOO_LARGE = f"the answer with its claims is longer than {MOST_BYTES} bytes: choose claims with aws.context_claims"
_KEPT_TOGETHER = (
    "API Gateway could apply this answer to other routes: add $context.httpMethod and $context.path to the identity"
    " sources, or keep no answers and say aws.http_cache: off"
)

SURFACE = surface(Options(), ANY_ROUTE)
"""As it is without settings of its own."""
