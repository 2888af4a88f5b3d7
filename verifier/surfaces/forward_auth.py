"""``/forward-auth``: Traefik, Caddy and HAProxy tell the original request in ``X-Forwarded-…``."""

from verifier.core.verdict import Denied
from verifier.surfaces import forwarded
from verifier.surfaces.forwarded import Told
from verifier.surfaces.surface import Request


def told(request: Request) -> Told | Denied:
    found = []
    for name in ("method", "host", "uri"):
        value = forwarded.header(request, f"x-forwarded-{name}")
        if isinstance(value, Denied):
            return value
        found.append(value)
    method, host, uri = found
    return forwarded.told_otherwise(request) or (method, host, uri)


SURFACE = forwarded.surface(
    "forward_auth",
    "/forward-auth",
    told,
    summary="Judge the request that X-Forwarded-Method, X-Forwarded-Host and X-Forwarded-Uri tell",
)
