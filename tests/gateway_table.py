"""One table of requests for all gateways: what is asked, with which token, and what must come of it.

``ROUTES`` is the policy it is judged by. Every surface in ``make test``, and every proxy in ``make e2e``, is sent the
same requests and held to the status that is written here.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support import AUD, FakeIssuer, private_key
from verifier.core import base64url
from verifier.core.challenge import STATUS
from verifier.core.reasons import FAMILY, Reason
from verifier.surfaces.identity_headers import IdentityHeaders

HOST = "api.acme.example"

ROUTES: list[dict[str, Any]] = [
    {"path": "/public/**", "anonymous": True},
    {"path": "/pets", "methods": ["GET"], "scopes": ["read"]},
    {"path": "/pets", "methods": ["POST"], "scopes": ["read", "write"]},
    {"path": "/pets/{id}", "methods": ["GET", "DELETE"], "any_scopes": ["admin", "write"]},
    {"path": "/pets/{id}/photos/**", "claims": {"groups": ["staff", "admins"]}},
    {"path": "/admin/**", "scopes": ["admin"]},
    {"path": "/internal/**", "deny": True},
    {"path": "/reports/*", "client_ids": ["web"]},
    {"path": "/partners", "issuers": ["partner"]},
    {"path": "/billing", "audiences": ["https://billing.example"]},
    {"path": "/payments", "max_auth_age": "5m"},
    {"path": "/tenants", "hosts": ["*.tenant.example"], "scopes": ["admin"]},
    {"path": "/café/{id}", "scopes": ["admin"]},
]


# Its keys cannot be had.
PARTNER = {"name": "partner", "issuer": "https://partner.example", "audiences": [AUD], "jwks_uri": "http://127.0.0.1:1"}


def configuration(main: Mapping[str, Any]) -> dict[str, Any]:
    """What the table is judged by, with ``main`` as the issuer of its tokens."""
    return {"issuers": [main, PARTNER], "routes": ROUTES, "preflights": "allow"}


ODD_NAMES = ("X.Auth.Subject", "X~Auth~Scope", "X.HTTP.Method.Override", "X-Original.URL")
"""What some applications (CGI) take for headers that mean something."""

IDENTITY = tuple(name for name, _ in IdentityHeaders().of(None))
"""The headers that only the verifier may set."""


@dataclass(frozen=True)
class Row:
    """``reason`` None is an allow. ``differs`` is what a proxy answers instead: because it refuses by itself, or
    because it takes away from the request what was wrong with it. The proxies in ``answered_by`` say 200 themselves:
    nobody is asked, nor gets anything.

    A row for the ``wire`` can only be sent by a client: no surface is told such bytes, or such a target. Without
    ``host``, no Host is sent.
    """

    method: str
    target: str
    token: str | None
    reason: Reason | None = None
    host: str = HOST
    headers: tuple[tuple[str, str], ...] = ()
    differs: Mapping[str, int] = field(default_factory=dict)
    answered_by: tuple[str, ...] = ()
    wire: bool = False
    version: str = "1.1"

    @property
    def name(self) -> str:
        told = "" if self.host == HOST else f"{self.host or 'no host'} "
        version = "" if self.version == "1.1" else f" HTTP/{self.version}"
        headers = ", ".join(f"{name}: {value[:40]}" for name, value in self.headers)
        text = f"{self.method} {told}{self.target}{version} {self.token or 'nobody'} {headers}".strip()
        return text.encode("unicode_escape").decode("ascii")

    def status(self, surface: str) -> int:
        """What the surface answers."""
        status = 200 if self.reason is None else STATUS[FAMILY[self.reason]]
        return {400: 401, 503: 500}.get(status, status) if surface == "auth_request" else status


def subject(token: str) -> str:
    """Whom the application is told of."""
    claims: dict[str, Any] = json.loads(base64url.decode(token.split(".")[1]))
    return str(claims["sub"])


TOKENS: dict[str, Callable[[FakeIssuer], str]] = {
    "reader": lambda issuer: issuer.token("EdDSA", scope="read"),
    "writer": lambda issuer: issuer.token("EdDSA", scope="read write"),
    "admin": lambda issuer: issuer.token("EdDSA", scope="admin"),
    "staff": lambda issuer: issuer.token("EdDSA", scope="read", groups=["staff"]),
    "guest": lambda issuer: issuer.token("EdDSA", scope="read", groups=["guests"]),
    "web": lambda issuer: issuer.token("EdDSA", client_id="web"),
    "mobile": lambda issuer: issuer.token("EdDSA", client_id="mobile"),
    "just signed in": lambda issuer: issuer.token("EdDSA", auth_time=int(time.time()) - 10),
    "signed in long ago": lambda issuer: issuer.token("EdDSA", auth_time=int(time.time()) - 3_600),
    "over": lambda issuer: issuer.token("EdDSA", scope="read admin", exp=int(time.time()) - 100),
    "forged": lambda issuer: issuer.token("EdDSA", private_key("EdDSA", "k1", 1), scope="read admin"),
    "not one": lambda _issuer: "not-a-token",
    "partner": lambda issuer: issuer.token("EdDSA", iss=PARTNER["issuer"]),
    # As many identity headers as there can be: 6 KB.
    "long": lambda issuer: issuer.token("EdDSA", sub="a" * 2_000, client_id="b" * 2_000, scope=f"read {'c' * 1_990}"),
    # More than one of them may hold, so that X-Auth-Omitted says so. The other ones all say something.
    "wordy": lambda issuer: issuer.token("EdDSA", client_id="web", scope=f"read {'c' * 3_000}"),
    # Nearly as long as limits.token_bytes permits, longer, and longer than a line of a header may be.
    "longest": lambda issuer: issuer.token("EdDSA", scope="read", filling="d" * 11_800),
    "too long": lambda issuer: issuer.token("EdDSA", scope="read", filling="d" * 13_500),
    "far too long": lambda issuer: issuer.token("EdDSA", scope="read", filling="d" * 20_480),
}

PREFLIGHT = (("Origin", "https://app.example"), ("Access-Control-Request-Method", "DELETE"))

_R = Reason

# What proxies answer where the verifier, were it told everything as it came, would say something else.
Differing = dict[str, int]
# nginx refuses it itself; the verifier's 400 is a 401 there.
BY_NGINX: Differing = {"nginx": 400}
# These clean the path, and the verifier judges what the application gets.
CLEANED: Differing = {"traefik": 200, "envoy-gateway": 200}
# The header is taken away that the verifier would have refused; what remains is allowed.
DROPPED: Differing = {"nginx": 200, "haproxy": 200, "caddy": 200, "envoy": 200}
# These two take it away, as they do not tell the verifier of all headers; what remains is allowed, or not.
REMOVED: Differing = {"haproxy": 200, "envoy": 200}
POST_REMAINS: Differing = dict.fromkeys(REMOVED, 403)
# The target and Host name two hosts.
ONE_HOST: Differing = {"haproxy": 400, "ingress-nginx": 400}
# A folded line is made one.
UNFOLDED: Differing = {"haproxy": 200, "caddy": 200, "traefik": 200, "envoy": 200}


def _posed(name: str, spelled: str) -> Row:
    """Who the client says it is. With underscores, the verifier refuses what no proxy hands on."""
    if spelled.lower() == name.lower():
        return Row("GET", "/pets", "reader", headers=((spelled, "mallory"),))
    return Row("GET", "/pets", "reader", _R.MALFORMED_REQUEST, headers=((spelled, "mallory"),), differs=DROPPED)


def _bytes(name: str, value: str, differs: Differing, reason: Reason = _R.MALFORMED_REQUEST) -> Row:
    """A header that no surface is told like that, beside a good token if it is none itself."""
    token = None if name == "Authorization" else "reader"
    return Row("GET", "/pets", token, reason, headers=((name, value),), differs=differs, wire=True)


TABLE = [
    # Routes and tokens
    Row("GET", "/public", None),
    Row("GET", "/public/a/b?c=d", None),
    Row("POST", "/public/a", "reader"),
    Row("GET", "/public/a", "forged", _R.BAD_SIGNATURE),
    Row("GET", "/public/a", "over", _R.EXPIRED),
    Row("GET", "/pets", None, _R.MISSING_TOKEN),
    Row("GET", "/pets", "reader"),
    Row("GET", "/pets?limit=10", "reader"),
    Row("GET", "/pets/", "reader"),
    Row("HEAD", "/pets", "reader"),
    Row("HEAD", "/pets", "admin", _R.INSUFFICIENT_SCOPE),
    Row("GET", "/pets", "admin", _R.INSUFFICIENT_SCOPE),
    Row("GET", "/pets", "over", _R.EXPIRED),
    Row("GET", "/pets", "forged", _R.BAD_SIGNATURE),
    Row("GET", "/pets", "not one", _R.MALFORMED_TOKEN),
    Row("POST", "/pets", "reader", _R.INSUFFICIENT_SCOPE),
    Row("POST", "/pets", "writer"),
    Row("PUT", "/pets", "reader"),
    Row("DELETE", "/pets/7", "reader", _R.INSUFFICIENT_SCOPE),
    Row("DELETE", "/pets/7", "writer"),
    Row("GET", "/pets/7", "admin"),
    Row("GET", "/pets/7/photos", "staff"),
    Row("GET", "/pets/7/photos/1", "guest", _R.CLAIM_NOT_SATISFIED),
    Row("GET", "/pets/7/photos/1", "reader", _R.CLAIM_NOT_SATISFIED),
    Row("GET", "/admin", "admin"),
    Row("GET", "/admin", "reader", _R.INSUFFICIENT_SCOPE),
    Row("GET", "/admin/users", "reader", _R.INSUFFICIENT_SCOPE),
    Row("GET", "/administrators", "reader"),
    Row("GET", "/internal", "admin", _R.ROUTE_DENIED),
    Row("GET", "/internal/a", None, _R.MISSING_TOKEN),
    Row("GET", "/reports/1", "web"),
    Row("GET", "/reports/1", "mobile", _R.ROUTE_DENIED),
    Row("GET", "/partners", "reader", _R.ROUTE_DENIED),
    Row("GET", "/billing", "reader", _R.WRONG_AUDIENCE),
    Row("GET", "/payments", "just signed in"),
    Row("GET", "/payments", "signed in long ago", _R.STALE_AUTHENTICATION),
    Row("GET", "/payments", "reader", _R.STALE_AUTHENTICATION),
    Row("GET", "/tenants", "reader"),
    Row("GET", "/tenants", "reader", _R.INSUFFICIENT_SCOPE, host="one.tenant.example"),
    Row("GET", "/tenants", "reader", _R.INSUFFICIENT_SCOPE, host="ONE.tenant.example:8443"),
    Row("GET", "/tenants", "admin", host="a.b.tenant.example"),
    Row("GET", "/tenants", "reader", host="tenant.example"),
    Row("GET", "/elsewhere", "reader"),
    Row("GET", "/elsewhere", None, _R.MISSING_TOKEN),
    # One path, read one way
    Row("GET", "/public/../admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/admin/../public/a", None, _R.MISSING_TOKEN, differs=CLEANED),
    Row("GET", "/public/./a", "reader", _R.ROUTE_DENIED, differs=CLEANED),
    Row("GET", "/./admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/ADMIN/users", "reader", _R.ROUTE_DENIED),
    Row("GET", "/Elsewhere", "reader"),
    Row("GET", "/%61dmin", "reader", _R.INSUFFICIENT_SCOPE),
    Row("GET", "/caf%C3%A9/1", "reader", _R.INSUFFICIENT_SCOPE),
    Row("GET", "/public/%2e%2e/admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/..%2fadmin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public%2F..%2Fadmin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/..\\admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/..%5cadmin", "reader", _R.ROUTE_DENIED),
    Row("GET", "//admin", "reader", _R.ROUTE_DENIED),
    # Envoy makes /public/admin of it.
    Row("GET", "/public//../admin", "reader", _R.ROUTE_DENIED, differs={"envoy-gateway": 200}),
    Row("GET", "/admin;a=b", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/..;/admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/%252e%252e/admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/admin%00", "reader", _R.ROUTE_DENIED, differs={"nginx": 400, "envoy-gateway": 400}),
    Row("GET", "/admin%zz", "reader", _R.ROUTE_DENIED, differs={"nginx": 400, "caddy": 400, "traefik": 400}),
    Row("GET", "/admin%c0%af", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/%2e%2e/admin", None, _R.MISSING_TOKEN),
    Row("GET", "/pets?path=/../admin", "reader"),
    # Tricks with methods and headers
    Row(
        "POST",
        "/pets",
        "reader",
        _R.MALFORMED_REQUEST,
        headers=(("X-HTTP-Method-Override", "GET"),),
        differs=POST_REMAINS,
    ),
    Row("GET", "/pets", "reader", _R.MALFORMED_REQUEST, headers=(("X-HTTP-Method", "DELETE"),), differs=REMOVED),
    Row("GET", "/public/a", None, _R.MALFORMED_REQUEST, headers=(("X-Rewrite-URL", "/admin"),), differs=REMOVED),
    Row(
        "GET",
        "/pets",
        "reader",
        _R.MALFORMED_REQUEST,
        headers=(("x_http_method_override", "DELETE"),),
        differs=REMOVED | {"nginx": 200},
    ),
    *(
        Row("GET", "/public/a", None, _R.MALFORMED_REQUEST, headers=((name, "x"),), differs=REMOVED | {"nginx": 200})
        for name in (
            "X-HTTP_Method-Override",
            "X_Method_Override",
            "X_Rewrite-URL",
            "X_Original_URI",
            "x-original_method",
        )
    ),
    *(
        Row(
            "GET",
            "/public/a",
            None,
            _R.MALFORMED_REQUEST,
            headers=((name, "/internal"),),
            differs=REMOVED | {"nginx": 200},
            wire=True,  # nginx tells the verifier under these names
        )
        for name in ("X-Original-URL", "X-Original-URI", "x-original-method")
    ),
    Row("OPTIONS", "/pets/7", None, headers=PREFLIGHT),
    Row("OPTIONS", "/pets/7", None, _R.MISSING_TOKEN, headers=(("Origin", ""), ("Access-Control-Request-Method", ""))),
    Row("OPTIONS", "/internal", None, _R.MISSING_TOKEN, headers=PREFLIGHT),
    Row("OPTIONS", "/pets/7", None, _R.MISSING_TOKEN),
    Row("GET", "/pets/7", None, _R.MISSING_TOKEN, headers=PREFLIGHT),
    # Whoever the client says it is
    *(_posed(name, spelled) for name in IDENTITY for spelled in (name, name.lower(), name.upper())),
    *(
        _posed(name, spelled)
        for name in IDENTITY
        for spelled in (name.replace("-", "_"), name.replace("-", "_").lower())
    ),
    *(_posed("X-Auth-Subject", spelled) for spelled in ("X-Auth_Subject", "X_Auth-Subject")),
    *(_posed("X-Auth-Client-Id", spelled) for spelled in ("x-auth-client_id", "X_AUTH-CLIENT-ID", "X-Auth_Client_Id")),
    Row("GET", "/pets", "reader", headers=(("X-Auth-Subject", "mallory"), ("x-auth-subject", "eve"))),
    Row("GET", "/public", None, headers=(("X-Auth-Subject", "mallory"),)),
    # Credentials
    Row("GET", "/pets", None, _R.MISSING_TOKEN, headers=(("Authorization", "Basic YTpi"),)),
    Row("GET", "/pets", None, _R.MALFORMED_CREDENTIALS, headers=(("Authorization", "Bearer"),)),
    Row("GET", "/pets", None, _R.MALFORMED_CREDENTIALS, headers=(("Authorization", "Bearer a b"),)),
    Row("GET", "/pets", "reader", _R.MULTIPLE_CREDENTIALS, headers=(("Authorization", "Bearer a"),), differs=BY_NGINX),
    Row(
        "GET", "/pets", "reader", _R.MULTIPLE_CREDENTIALS, headers=(("authorization", "Basic YTpi"),), differs=BY_NGINX
    ),
    # Envoy takes an empty second one away.
    Row(
        "GET",
        "/public",
        "reader",
        _R.MULTIPLE_CREDENTIALS,
        headers=(("Authorization", ""),),
        differs=BY_NGINX | {"envoy": 200},
    ),
    Row("GET", "/pets", "partner", _R.KEYS_UNAVAILABLE),
    Row("GET", "/public", "partner", _R.KEYS_UNAVAILABLE),
    # Sizes
    Row("GET", "/pets", "long"),
    Row("GET", "/pets", "wordy"),
    Row("GET", "/pets", "longest"),
    Row("GET", "/pets", "too long", _R.TOKEN_TOO_LARGE),
    # The verifier itself refuses a line of that length, and nginx before it. Over gRPC, it is told it.
    Row(
        "GET",
        "/pets",
        "far too long",
        _R.TOKEN_TOO_LARGE,
        wire=True,
        differs={"nginx": 400, "haproxy": 431, "caddy": 431, "traefik": 431, "envoy": 431, "envoy-grpc": 401},
    ),
    # What only a client can send
    # Envoy wants another version: 426.
    Row("GET", "/pets", "reader", version="1.0", wire=True, differs={"envoy": 426}),
    Row("GET", "/pets", "admin", _R.INSUFFICIENT_SCOPE, version="1.0", wire=True, differs={"envoy": 426}),
    # nginx puts the server's name in the place of a host, and Traefik has no route without one.
    Row(
        "GET",
        "/pets",
        "reader",
        _R.MALFORMED_REQUEST,
        host="",
        version="1.0",
        wire=True,
        differs={"nginx": 200, "ingress-nginx": 400, "traefik": 404, "envoy": 426},
    ),
    Row(
        "GET",
        "/pets",
        "over",
        _R.MALFORMED_REQUEST,
        host="",
        version="1.0",
        wire=True,
        differs={"ingress-nginx": 400, "traefik": 404, "envoy": 426},
    ),
    Row("GET", "/pets", "reader", _R.MALFORMED_REQUEST, host="", wire=True, differs=BY_NGINX),
    # Envoy joins both to one that is none.
    _bytes("Host", "other.example", BY_NGINX | {"envoy": 403}),
    # Envoy takes CR away, nginx takes a line without a colon for a header without a value, and the others unfold lines.
    _bytes("X-Note", "a\rb", BY_NGINX | {"envoy": 200}),
    _bytes("X-Note", "a\nb", {"nginx": 200}),
    Row("GET", "/pets", "reader", headers=(("X-Note", "a\nX-Auth-Subject: root"),), wire=True),
    _bytes("X-Note", "a\rX-Auth-Subject: root", BY_NGINX | {"envoy": 200}),
    _bytes("X-Note", "a\r\n b", BY_NGINX | UNFOLDED),
    _bytes("X-Note", "a\x00b", BY_NGINX),
    Row("GET", "/pets", "reader", headers=(("X-Note", "a\xffb"),), wire=True),
    _bytes("X-Auth-Subject ", "root", BY_NGINX),
    _bytes("Authorization", "Bearer\r\n a", BY_NGINX, _R.MALFORMED_TOKEN),
    _bytes("Authorization", "Bearer a\x00b", BY_NGINX, _R.MALFORMED_CREDENTIALS),
    Row("GET", "/pets", None, _R.MALFORMED_CREDENTIALS, headers=(("Authorization", "Bearer a\xffb"),), wire=True),
    Row("GET", f"http://{HOST}/pets", "reader", wire=True),
    Row("GET", f"http://{HOST}/admin", "reader", _R.INSUFFICIENT_SCOPE, wire=True),
    # The host in the target is the one that counts; HAProxy wants the same in both places.
    Row("GET", f"http://{HOST}/public/../admin", "reader", _R.ROUTE_DENIED, wire=True),
    Row("GET", "http://one.tenant.example/tenants", "reader", _R.INSUFFICIENT_SCOPE, wire=True, differs=ONE_HOST),
    Row("GET", f"http://{HOST}/tenants", "reader", host="one.tenant.example", wire=True, differs=ONE_HOST),
    Row("GET", "/pets?", "reader"),
    # Caddy makes %23 of it, for the verifier and the application alike.
    Row(
        "GET",
        "/pets#a",
        "reader",
        _R.ROUTE_DENIED,
        differs={"haproxy": 400, "caddy": 200, "traefik": 400, "envoy": 400},
    ),
    Row("GET", "?", "reader", _R.MALFORMED_REQUEST, wire=True, differs=BY_NGINX),
    Row("GET", "?a=b", "reader", _R.MALFORMED_REQUEST, wire=True, differs=BY_NGINX),
    Row("GET", "#", "reader", _R.MALFORMED_REQUEST, wire=True, differs=BY_NGINX),
    Row("GET", "pets", "reader", _R.MALFORMED_REQUEST, wire=True, differs=BY_NGINX),
    Row("GET", "", "reader", _R.MALFORMED_REQUEST, wire=True, differs=BY_NGINX),
    Row("GET", "*", "reader", _R.ROUTE_DENIED, wire=True, differs={"nginx": 400, "envoy": 400}),
    # What is written in Go answers this itself.
    Row(
        "OPTIONS",
        "*",
        "reader",
        _R.ROUTE_DENIED,
        wire=True,
        differs={"nginx": 400, "caddy": 200, "traefik": 200, "envoy": 404},
        answered_by=("caddy", "traefik"),
    ),
    Row(
        "CONNECT",
        f"{HOST}:443",
        "reader",
        _R.MALFORMED_REQUEST,
        wire=True,
        differs={"nginx": 400, "traefik": 404, "envoy": 404},
    ),
    Row("GET", "/tenants", "reader", _R.INSUFFICIENT_SCOPE, host="one.tenant.example,api", wire=True),
    Row("GET", "/tenants", "reader", _R.INSUFFICIENT_SCOPE, host="api,one.tenant.example", wire=True),
]
