"""What AWS asks its authorizers: events of REST, HTTP and WebSocket APIs of API Gateway, and of AppSync.

REST APIs tell a path percent-encoded, as it came. HTTP APIs decode it, and what they decoded goes out to the service;
so what they tell is encoded again before it is read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any
from urllib.parse import quote

from verifier.core import paths
from verifier.core.routes import Target
from verifier.core.verdict import Denied
from verifier.surfaces import body

Members = Mapping[str, Any]
Values = Mapping[str, tuple[str, ...]]

MOST_ARN = 512
"""Characters of an ARN in a policy, for API Gateway."""

_ARN = re.compile(
    r"(arn:(aws[a-z-]*):execute-api:([a-z0-9-]+):[0-9]+:([A-Za-z0-9_-]+)/([A-Za-z0-9_$-]+)/)(.*)", re.ASCII | re.DOTALL
)
_BEARER = re.compile(r"bearer +\S", re.ASCII | re.IGNORECASE)
_UNENCODED = "/!$&'()*+,;=:@~"
_WILDCARDS = re.compile(r"[*?]|\$\{|[^\x20-\x7e\xa0-\xff]")
"""What IAM reads as something else, or does not take at all."""


class Kind(Enum):
    """What sends the event, and so what it understands."""

    REST = auto()
    WEBSOCKET = auto()
    HTTP_1 = auto()  # an HTTP API, payload format 1.0
    HTTP_2 = auto()
    APPSYNC = auto()


@dataclass(frozen=True, slots=True)
class Arn:
    """Of a method (REST), a route (HTTP) or ``$connect``. ``stage`` is what all of one stage begin with."""

    text: str
    stage: str
    partition: str
    region: str
    api: str
    stage_name: str
    resource: str

    @property
    def as_pattern(self) -> str:
        """The resource as a pattern of IAM that matches it, and is no longer than a policy may name."""
        pattern = _WILDCARDS.sub(lambda found: "?" * len(found.group()), self.resource)
        room = MOST_ARN - len(self.stage)
        return pattern if len(pattern) <= room else f"{pattern[: room - 1]}*"

    @property
    def is_literal(self) -> bool:
        """Whether IAM reads it as what it is: paths may hold what IAM takes for wildcards and variables."""
        return _WILDCARDS.search(self.text) is None


@dataclass(frozen=True, slots=True, repr=False)
class Sent:
    """What the client sent, by name; those of headers are in lower case. ``cookie_lines`` are its cookies as they came,
    where they are not among the headers."""

    headers: Values
    query: Values
    cookies: Values
    cookie_lines: tuple[str, ...] = ()

    def values(self) -> list[str]:
        """All of it."""
        named = (self.headers, self.query, self.cookies)
        lines = (*self.cookie_lines, "; ".join(self.cookie_lines))
        return [*(value for values in named for one in values.values() for value in one), *lines]


@dataclass(frozen=True, slots=True, repr=False)
class Event:
    """``target`` is what the request wants to do, without a host. ``brought`` is the token where AWS picks it out
    itself, as the client wrote it. ``is_consistent``: what is told twice is told alike.

    ``identity`` are the values that a simple answer is kept under; ``methods`` and ``paths``, those that stand for this
    method and for this path among them.
    """

    kind: Kind
    api: str
    target: Target
    sent: Sent
    arn: Arn | None = None
    brought: str | None = None
    identity: tuple[str, ...] = ()
    methods: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    request_id: str = ""
    is_consistent: bool = True

    def as_no_preflight(self) -> "Event":
        """The same, as any other request."""
        return replace(self, target=replace(self.target, preflight_of=None))

    def __repr__(self) -> str:
        return f"Event({self.kind.name} …)"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the token is, where AWS does not pick it out. ``bare``: it may come without a scheme."""

    header: str = "authorization"
    query: str | None = None
    cookie: str | None = None
    bare: bool = False


def read(members: Members) -> Event | Denied:
    """The event that ``members`` are, or what they lack to be one."""
    context = _section(members, "requestContext")
    if "type" not in members and "authorizationToken" in members and "apiId" in context:
        return _appsync(members, context)
    told = members.get("routeArn", members.get("methodArn"))
    found = _ARN.fullmatch(told) if isinstance(told, str) else None
    if found is None:
        return body.malformed("expected an event of an authorizer, with the methodArn or routeArn of execute-api")
    arn = Arn(found.group(), *found.groups())
    if "version" in members:
        return _http(members, context, arn)
    if members.get("type") == "TOKEN":
        sent = Sent({}, {}, {})
        token = _text(members, "authorizationToken")
        return Event(Kind.REST, arn.api, _target(sent, *_method_and_path(arn)), sent, arn, token)
    if members.get("type") == "REQUEST":
        return _request(members, context, arn)
    return body.malformed("expected an event of type TOKEN or REQUEST")


def host(event: Event, hosts: Mapping[str, str]) -> str | None:
    """The host that routes are judged for: that of ``hosts``, by API and stage or by API, or that of AWS. It depends on
    nothing that another request could have otherwise, as the answer may be applied to that, too. AppSync's is not
    known."""
    arn = event.arn
    if arn is None:
        return hosts.get(event.api)
    given = hosts.get(f"{arn.api}/{arn.stage_name}") or hosts.get(arn.api)
    top = "com.cn" if arn.partition == "aws-cn" else "com"
    return given or f"{arn.api}.execute-api.{arn.region}.amazonaws.{top}".lower()


def credentials(event: Event, places: Places) -> tuple[tuple[str, ...], str | None]:
    """Values like those of an ``Authorization`` header, and a token without a scheme, where there is one."""
    values: tuple[str, ...]
    if event.brought is not None:
        values = (event.brought,) if event.brought else ()
    else:
        sent = event.sent.headers.get(places.header, ())
        values = (*sent, *(one for one in event.identity if one not in sent and _BEARER.match(one)))
        if not values and places.bare:
            values = event.identity[:1]
    is_bare = places.bare and len(values) == 1 and not _BEARER.match(values[0])
    query = event.sent.query.get(places.query, ()) if places.query else ()
    cookies = event.sent.cookies.get(places.cookie, ()) if places.cookie else ()
    bare = (*(values if is_bare else ()), *query, *cookies)
    shown = () if is_bare else values
    if len(bare) > 1:
        return (*shown, *bare), None
    return shown, bare[0] if bare else None


def is_kept_for_token(event: Event, authorization: tuple[str, ...], token: str | None) -> bool:
    """Whether an answer that is kept for this request is kept for its token, where it has one."""
    shown = {*authorization, *([] if token is None else [token])}
    return not shown or not shown.isdisjoint(event.identity)


def is_kept_apart(event: Event) -> bool:
    """Whether an answer that is kept for this request is kept for its method and path alone. What the client sent
    itself, as a header that is an identity source too, says nothing about that."""
    sent = event.sent.values()
    sure = {value for value in event.identity if event.identity.count(value) > sent.count(value)}
    return bool(event.methods & sure) and bool(event.paths & sure)


def _appsync(members: Members, context: Members) -> Event:
    sent = Sent(_lower(_section(members, "requestHeaders")), {}, {})
    return Event(
        Kind.APPSYNC,
        _text(context, "apiId"),
        Target("POST", None, "/graphql"),
        sent,
        brought=_text(members, "authorizationToken"),
        request_id=_text(context, "requestId"),
    )


def _request(members: Members, context: Members, arn: Arn) -> Event:
    """Of a REST API, or of a WebSocket."""
    sent, request_id = _sent(members), _text(context, "requestId")
    if "connectionId" in context or "eventType" in context:
        target = _target(sent, "GET", f"/{arn.resource}")
        return Event(Kind.WEBSOCKET, arn.api, target, sent, arn, request_id=request_id)
    method, path = _method_and_path(arn)
    alike = members.get("httpMethod", method) == method and paths.is_told_alike(_text(members, "path") or path, path)
    target = _target(sent, method, path)
    return Event(Kind.REST, arn.api, target, sent, arn, request_id=request_id, is_consistent=alike)


def _http(members: Members, context: Members, arn: Arn) -> Event | Denied:
    if members["version"] not in ("1.0", "2.0"):
        return body.malformed("expected an event of payload format 1.0 or 2.0")
    http = _section(context, "http")
    is_second = members["version"] == "2.0"
    method = _text(http, "method") if is_second else _text(members, "httpMethod")
    told = _text(members, "rawPath" if is_second else "path")
    own_method, own = _method_and_path(arn)
    path = _without_prefix(told, own, arn)
    sent, route = _sent(members), _text(context, "routeKey")
    return Event(
        Kind.HTTP_2 if is_second else Kind.HTTP_1,
        arn.api,
        _target(sent, method, quote(path, _UNENCODED, errors="surrogatepass")),
        sent,
        arn,
        identity=_identity(members),
        methods=frozenset({method} | ({route} if route.partition(" ")[0] == method else set())),
        paths=frozenset({told, _text(http, "path")} - {""}),
        request_id=_text(context, "requestId"),
        is_consistent=(own_method, own) == (method, path),
    )


def _without_prefix(told: str, own: str, arn: Arn) -> str:
    """The path within the API. HTTP APIs may tell it with the stage, or with the base path of a custom domain, in
    front; the ARN has neither."""
    if own != "/" and told.endswith(own):
        return own
    stage = f"/{arn.stage_name}"
    return (told.removeprefix(stage) or "/") if told == stage or told.startswith(f"{stage}/") else told


def _method_and_path(arn: Arn) -> tuple[str, str]:
    method, _, path = arn.resource.partition("/")
    return method, f"/{path}"


def _target(sent: Sent, method: str, path: str) -> Target:
    asked, origin = (sent.headers.get(name, ()) for name in ("access-control-request-method", "origin"))
    is_preflight = method == "OPTIONS" and len(asked) == len(origin) == 1 and all((*asked, *origin))
    return Target(method, None, path, asked[0] if is_preflight else None)


def _identity(members: Members) -> tuple[str, ...]:
    told = members.get("identitySource")
    values = told.split(",") if isinstance(told, str) else told if isinstance(told, list) else ()
    return tuple(one for one in values if isinstance(one, str))


def _sent(members: Members) -> Sent:
    headers = _lower(_section(members, "multiValueHeaders") or _section(members, "headers"))
    query = _section(members, "multiValueQueryStringParameters") or _section(members, "queryStringParameters")
    listed = _strings(members.get("cookies"))
    cookies = _cookies(listed or headers.get("cookie", ()))
    return Sent(headers, {name: _strings(value) for name, value in query.items()}, cookies, listed)


def _lower(headers: Members) -> Values:
    """By lower-case name, all values of names that differ in the case of letters alone."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in headers.items():
        found[name.lower()] = (*found.get(name.lower(), ()), *_strings(value))
    return found


def _cookies(lines: tuple[str, ...]) -> Values:
    """RFC 6265 §4.2."""
    found: dict[str, tuple[str, ...]] = {}
    for pair in (pair for line in lines for pair in line.split(";")):
        name, _, value = pair.strip().partition("=")
        found[name] = (*found.get(name, ()), *([value] if value else []))
    return found


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def _section(members: Members, name: str) -> Members:
    value = members.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(members: Members, name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""
