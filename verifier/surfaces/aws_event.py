"""What AWS asks its authorizers: events of REST, HTTP and WebSocket APIs of API Gateway, and of AppSync.

REST APIs tell a path percent-encoded, as it came. HTTP APIs decode it, and with it go out what they decoded; so what
they tell is encoded again before it is read.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from urllib.parse import quote

from verifier.core import paths
from verifier.core.routes import Target
from verifier.core.verdict import Denied
from verifier.surfaces import body

Members = Mapping[str, Any]

MOST_ARN = 512
"""Characters of an ARN in a policy, for API Gateway."""

_ARN = re.compile(
    r"(arn:aws[a-z-]*:execute-api:([a-z0-9-]+):[0-9]+:([A-Za-z0-9_-]+)/([A-Za-z0-9_$-]+)/)(.*)", re.ASCII | re.DOTALL
)
_BEARER = re.compile(r"bearer +\S", re.ASCII | re.IGNORECASE)
_UNENCODED = "/!$&'()*+,;=:@~"
_WILDCARDS = re.compile(r"[*?]|\$\{")


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
class Event:
    """``target`` is what the request wants to do, without a host. ``identity`` are the values that a cached answer is
    kept under, as far as they are told. ``is_consistent``: what is told twice is told alike."""

    kind: Kind
    members: Members
    arn: Arn | None
    target: Target
    identity: tuple[str, ...] = ()
    is_consistent: bool = True

    def __repr__(self) -> str:
        return f"Event({self.kind.name} …)"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the token is, where the event does not say it itself. ``bare``: a header may hold it without a scheme."""

    header: str = "authorization"
    query: str | None = None
    cookie: str | None = None
    bare: bool = False


def read(members: Members) -> Event | Denied:
    """The event that ``members`` are, or what they lack to be one."""
    context = _section(members, "requestContext")
    if "type" not in members and "authorizationToken" in members and "apiId" in context:
        return Event(Kind.APPSYNC, members, None, _target(members, "POST", "/graphql"))
    told = members.get("routeArn", members.get("methodArn"))
    found = _ARN.fullmatch(told) if isinstance(told, str) else None
    if found is None:
        return body.malformed("expected an event of an authorizer, with the methodArn or routeArn of execute-api")
    arn = Arn(found.group(), *found.groups())
    if members.get("version") in ("1.0", "2.0"):
        return _http(members, context, arn)
    if members.get("type") == "TOKEN":
        return Event(Kind.REST, members, arn, _target(members, *_method_and_path(arn)))
    if members.get("type") != "REQUEST":
        return body.malformed("expected an event of type TOKEN or REQUEST")
    if "connectionId" in context or "eventType" in context:
        return Event(Kind.WEBSOCKET, members, arn, _target(members, "GET", f"/{arn.resource}"))
    method, path = _method_and_path(arn)
    alike = members.get("httpMethod", method) == method and paths.is_told_alike(_text(members, "path") or path, path)
    return Event(Kind.REST, members, arn, _target(members, method, path), is_consistent=alike)


def host(event: Event, hosts: Mapping[str, str]) -> str | None:
    """The host that routes are judged for: that of ``hosts``, by API and stage or by API, or that of AWS. It depends on
    nothing that another request could have otherwise, as a policy may be applied to that, too."""
    if event.arn is None:
        values = _headers(event.members, "host")
        return values[0] if len(values) == 1 else None
    arn = event.arn
    given = hosts.get(f"{arn.api}/{arn.stage_name}") or hosts.get(arn.api)
    return given or f"{arn.api}.execute-api.{arn.region}.amazonaws.com".lower()


def credentials(event: Event, places: Places) -> tuple[tuple[str, ...], str | None]:
    """Values like those of an ``Authorization`` header, and a token without a scheme, where there is one."""
    members = event.members
    if event.kind is Kind.APPSYNC or members.get("type") == "TOKEN":
        values = tuple(filter(None, [_text(members, "authorizationToken")]))
    else:
        sent = _headers(members, places.header)
        values = (*sent, *(one for one in event.identity if one not in sent and _BEARER.match(one)))
    if places.bare and len(values) == 1 and not _BEARER.match(values[0]):
        return (), values[0]
    others = (*_query(members, places.query), *_cookies(members, places.cookie))
    if len(others) > 1:
        return (*values, *others), None
    return values, others[0] if others else None


def request_id(event: Event) -> str:
    """What AWS calls the request; empty where it does not say it."""
    return _text(_section(event.members, "requestContext"), "requestId")


def is_kept_apart(event: Event) -> bool:
    """Whether an answer that is kept for this request is kept for its method and path alone. What the client sent
    itself, as a header that is an identity source too, says nothing about that."""
    context = _section(event.members, "requestContext")
    http = _section(context, "http")
    route = _text(context, "routeKey").partition(" ")[0]
    methods = {_text(http, "method"), _text(context, "routeKey") if route == _text(http, "method") else ""} - {""}
    told = {_text(http, "path"), _text(event.members, "rawPath")} - {""}
    sent = [value for name in ("headers", "queryStringParameters") for value in _section(event.members, name).values()]
    sure = {value for value in event.identity if event.identity.count(value) > sent.count(value)}
    return not methods.isdisjoint(sure) and not told.isdisjoint(sure)


def _http(members: Members, context: Members, arn: Arn) -> Event:
    http = _section(context, "http")
    is_second = members["version"] == "2.0"
    method = _text(http, "method") if is_second else _text(members, "httpMethod")
    told = _text(members, "rawPath" if is_second else "path")
    own_method, own = _method_and_path(arn)
    if told != own and arn.stage_name != "$default":
        told = "/" + told.removeprefix(f"/{arn.stage_name}").removeprefix("/")
    return Event(
        Kind.HTTP_2 if is_second else Kind.HTTP_1,
        members,
        arn,
        _target(members, method, quote(told, _UNENCODED, errors="surrogatepass")),
        _identity(members),
        is_consistent=(own_method, own) == (method, told),
    )


def _method_and_path(arn: Arn) -> tuple[str, str]:
    method, _, path = arn.resource.partition("/")
    return method, f"/{path}"


def _target(members: Members, method: str, path: str) -> Target:
    asked, origin = _headers(members, "access-control-request-method"), _headers(members, "origin")
    is_preflight = method == "OPTIONS" and len(asked) == len(origin) == 1 and all((*asked, *origin))
    return Target(method, None, path, asked[0] if is_preflight else None)


def _identity(members: Members) -> tuple[str, ...]:
    told = members.get("identitySource")
    values = told.split(",") if isinstance(told, str) else told if isinstance(told, list) else ()
    return tuple(one for one in values if isinstance(one, str))


def _headers(members: Members, name: str) -> tuple[str, ...]:
    """All values of the header ``name`` (lower case), whatever its letters are."""
    return tuple(_values(members, "multiValueHeaders", "headers", lambda one: one.lower() == name))


def _query(members: Members, name: str | None) -> tuple[str, ...]:
    return tuple(_values(members, "multiValueQueryStringParameters", "queryStringParameters", lambda one: one == name))


def _values(members: Members, several: str, one: str, is_meant: Callable[[str], bool]) -> Iterator[str]:
    """Values of what has a name that is meant: from where each name has several, or else but one."""
    section = _section(members, several)
    for name, values in (section or _section(members, one)).items():
        if is_meant(name):
            yield from (value for value in (values if isinstance(values, list) else [values]) if isinstance(value, str))


def _cookies(members: Members, name: str | None) -> tuple[str, ...]:
    """Values of the cookie ``name`` (RFC 6265 §4.2)."""
    listed = members.get("cookies")
    lines = listed if isinstance(listed, list) else _headers(members, "cookie")
    pairs = (pair.strip().partition("=") for line in lines if isinstance(line, str) for pair in line.split(";"))
    return tuple(value for own, _, value in pairs if own == name and value)


def _section(members: Members, name: str) -> Members:
    value = members.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(members: Members, name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""
