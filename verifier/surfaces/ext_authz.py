"""``/ext-authz/…``: Envoy and Istio ask with the original request line behind this prefix (HTTP service)."""

from verifier.core.verdict import Denied
from verifier.surfaces import forwarded
from verifier.surfaces.forwarded import Told
from verifier.surfaces.surface import Request

_PREFIX = "/ext-authz"


def told(request: Request) -> Told | Denied:
    host = forwarded.header(request, "host")
    if isinstance(host, Denied):
        return host
    target = request.path.removeprefix(_PREFIX)
    if forwarded.may_be_no_text(host, target):
        return forwarded.malformed("an exclamation mark in a host or path may stand for a byte that is no text")
    return forwarded.told_otherwise(request) or (request.method, host, target)


SURFACE = forwarded.surface(
    "ext_authz",
    f"{_PREFIX}/",
    told,
    summary="Judge the request whose method, host and path these are, without the prefix (Envoy)",
)
