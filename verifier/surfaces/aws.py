"""``/aws/authorizer``: the authorizer's part for API Gateway and AppSync. A Lambda function carries the event here, and
the answer back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from verifier.core.iam import Plans
from verifier.core.reasons import Reason
from verifier.core.routes import Access, Routes
from verifier.core.verdict import Denied, Verdict
from verifier.engine import ANY_ROUTE, Question
from verifier.surfaces import aws_event, body, openapi
from verifier.surfaces.aws_answer import Asked, Mode, UsageKeys, Writer, refused, speaks_of_all
from verifier.surfaces.aws_context import Form
from verifier.surfaces.aws_event import Event, Kind, Places
from verifier.surfaces.surface import Asked as Asking
from verifier.surfaces.surface import Endpoint, Exchange, Request, Settled, Surface


@dataclass(frozen=True, slots=True)
class Options:
    """``policies_for_http``: HTTP APIs of payload format 2.0 take policies, and not yes and no. ``keeps_nothing``: HTTP
    APIs have a TTL of 0. For the others, see ``Writer``."""

    mode: Mode = Mode.ROUTES
    policies_for_http: bool = False
    keeps_nothing: bool = False
    form: Form = Form.CLAIMS
    claims: tuple[str, ...] | None = None
    places: Places = field(default_factory=Places)
    usage_keys: UsageKeys | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    max_hold: float = 0


def surface(options: Options, routes: Routes) -> Surface:
    """The surface for whoever is judged by ``routes``."""
    writer = Writer(
        routes,
        Plans(routes),
        options.mode,
        options.form,
        options.claims,
        options.usage_keys,
        options.max_hold,
    )
    endpoint = Endpoint(
        path="/aws/authorizer",
        methods=("POST",),
        content_type="application/json",
        read=partial(_read, options, routes, writer),
        unreadable=401,  # an error of ours would be one of API Gateway's to the client
        openapi={
            "summary": "Answer an authorizer event of API Gateway or AppSync",
            "requestBody": openapi.body("application/json", {"type": "object"}),
            "responses": {
                "200": openapi.json_answer("Allow, as AWS takes it"),
                **openapi.PROBLEMS_OF_BODIES,
                "401": openapi.problem("No token, or not a good one"),
                "403": openapi.json_answer("Deny, as AWS takes it"),
                "503": openapi.problem("No decision now; see Retry-After"),
            },
        },
    )
    return Surface("aws", (endpoint,))


def _read(options: Options, routes: Routes, writer: Writer, request: Request) -> Asking:
    members = body.json_object(request.body)
    if isinstance(members, Denied):  # which a client of AWS's can cause
        return Exchange(members, _at_any_time(refused))
    event = aws_event.read(members)
    if isinstance(event, Denied):
        return event
    authorization, token = aws_event.credentials(event, options.places)
    is_kept = bool(event.identity) and not options.keeps_nothing
    if authorization or token is not None or is_kept:
        event = event.as_no_preflight()  # what is kept would be applied to what is none
    takes_policy = event.kind is not Kind.APPSYNC and (event.kind is not Kind.HTTP_2 or options.policies_for_http)
    host = aws_event.host(event, options.hosts)
    judged = replace(event.target, host=host, holds_conditions=takes_policy)
    is_of_token = _is_of_token(options, routes, event, takes_policy=takes_policy)
    target = None if is_of_token else judged
    asked = Asked(event, host, target, is_kept, aws_event.is_kept_for_token(event, authorization, token))
    settle: Callable[[Verdict, float], Settled]
    if event.arn is None:
        settle = writer.appsync
    elif takes_policy:
        settle = _at_any_time(partial(writer.policy, asked, event.arn))
    else:
        settle = _at_any_time(partial(writer.simple, asked))
    is_of_all = takes_policy and event.kind is Kind.REST and speaks_of_all(options.mode, event)
    is_tried = is_of_token and routes.trial is not None and not _is_of_token(options, routes.trial, event, takes_policy)
    question = Question(
        authorization,
        token,
        target=target,
        wants_reach=is_of_all and target is not None,
        tried=judged if is_tried else None,
    )
    return Exchange(_refusal(asked) or question, settle, event.request_id)


def _at_any_time(settle: Callable[[Verdict], Settled]) -> Callable[[Verdict, float], Settled]:
    return lambda verdict, _now: settle(verdict)


def _is_of_token(options: Options, routes: Routes, event: Event, takes_policy: bool) -> bool:
    """Whether the token alone decides."""
    has_routes = bool(routes.all) or routes.default is not Access.AUTHENTICATED
    is_of_api = takes_policy and options.mode is Mode.API
    return event.target.preflight_of is None and (is_of_api or not has_routes)


def _refusal(asked: Asked) -> Denied | None:
    """Why an event is not judged."""
    if asked.target is not None and not asked.event.is_consistent:
        return Denied(Reason.ROUTE_DENIED, "the event tells method and path twice, and not the same")
    return None


SURFACE = surface(Options(), ANY_ROUTE)
"""As it is without settings of its own."""
