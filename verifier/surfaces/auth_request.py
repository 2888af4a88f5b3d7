"""``/auth-request``: nginx tells the original request in ``X-Original-Method`` and ``X-Original-URL``.

nginx passes on 401 and 403, takes 2xx for an allow, and everything else for an error of its own (500). So what is 400
elsewhere is 401 here, and what is 503 elsewhere is 500.
"""

from verifier.core import paths
from verifier.core.verdict import Denied
from verifier.surfaces import forwarded
from verifier.surfaces.forwarded import Told
from verifier.surfaces.surface import Answer, Request

_STATUS = {400: 401, 503: 500}

# nginx compares what the client sent under these names, and takes no Vary beyond 128 bytes.
_VARY = (
    "Authorization",
    "X-Original-Method",
    "X-Original-URL",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Rewrite-URL",
)


def told(request: Request) -> Told | Denied:
    method = forwarded.header(request, "x-original-method")
    url = forwarded.header(request, "x-original-url")
    for value in (method, url):
        if isinstance(value, Denied):
            return value
    host, _ = paths.split(str(url))
    if host is None:
        return forwarded.malformed("x-original-url is not scheme://host/path")
    return str(method), host, str(url)


def for_nginx(answered: Answer) -> Answer:
    return answered._replace(status=_STATUS.get(answered.status, answered.status))


def holdable(request: Request) -> tuple[str, ...]:
    """nginx can hold decisions. What changes something is asked about each time, and so are preflights, which depend
    on more."""
    return _VARY if request.values("x-original-method") in {("GET",), ("HEAD",)} else ()


SURFACE = forwarded.surface(
    "auth_request",
    "/auth-request",
    told,
    summary="Judge the request that X-Original-Method and X-Original-URL tell (nginx)",
    adapt=for_nginx,
    holdable=holdable,
    unreadable=401,
)
