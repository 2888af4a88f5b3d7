"""One table of requests for all gateways: what is asked, with which token, and what must come of it.

``ROUTES`` is the policy it is judged by. Every surface in ``make test``, and every proxy in ``make e2e``, is sent the
same requests and held to the same outcome.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support import FakeIssuer, private_key
from verifier.core.reasons import Reason

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


@dataclass(frozen=True)
class Row:
    """``reason`` None is an allow. ``subject`` is whom the upstream is told of, None where it is nobody."""

    method: str
    target: str
    token: str | None
    reason: Reason | None = None
    host: str = HOST
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        told = "" if self.host == HOST else f"{self.host} "
        return f"{self.method} {told}{self.target} {self.token or 'nobody'} {dict(self.headers) or ''}".strip()


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
}

PREFLIGHT = (("Origin", "https://app.example"), ("Access-Control-Request-Method", "DELETE"))

_R = Reason
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
    Row("GET", "/admin/../public/a", None, _R.MISSING_TOKEN),
    Row("GET", "/public/./a", "reader", _R.ROUTE_DENIED),
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
    Row("GET", "/public//../admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/admin;a=b", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/..;/admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/%252e%252e/admin", "reader", _R.ROUTE_DENIED),
    Row("GET", "/admin%00", "reader", _R.ROUTE_DENIED),
    Row("GET", "/admin%zz", "reader", _R.ROUTE_DENIED),
    Row("GET", "/admin%c0%af", "reader", _R.ROUTE_DENIED),
    Row("GET", "/public/%2e%2e/admin", None, _R.MISSING_TOKEN),
    Row("GET", "/pets?path=/../admin", "reader"),
    # Tricks with methods and headers
    Row("POST", "/pets", "reader", _R.MALFORMED_REQUEST, headers=(("X-HTTP-Method-Override", "GET"),)),
    Row("GET", "/pets", "reader", _R.MALFORMED_REQUEST, headers=(("X-HTTP-Method", "DELETE"),)),
    Row("GET", "/public/a", None, _R.MALFORMED_REQUEST, headers=(("X-Rewrite-URL", "/admin"),)),
    Row("GET", "/public/a", None, _R.MALFORMED_REQUEST, headers=(("X_Auth_Subject", "root"),)),
    Row("GET", "/pets", "reader", _R.MALFORMED_REQUEST, headers=(("x_http_method_override", "DELETE"),)),
    Row("OPTIONS", "/pets/7", None, headers=PREFLIGHT),
    Row("OPTIONS", "/pets/7", None, _R.MISSING_TOKEN, headers=(("Origin", ""), ("Access-Control-Request-Method", ""))),
    Row("OPTIONS", "/internal", None, _R.MISSING_TOKEN, headers=PREFLIGHT),
    Row("OPTIONS", "/pets/7", None, _R.MISSING_TOKEN),
    Row("GET", "/pets/7", None, _R.MISSING_TOKEN, headers=PREFLIGHT),
]
