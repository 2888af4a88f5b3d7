"""``/forward-auth``: Traefik, Caddy and HAProxy tell the original request in ``X-Forwarded-…``."""

from verifier.core.verdict import Denied
from verifier.surfaces import forwarded, openapi
from verifier.surfaces.forwarded import Told
from verifier.surfaces.surface import ANY, Endpoint, Request, Surface


def told(request: Request) -> Told | Denied:
    found = []
    for name in ("method", "host", "uri"):
        value = forwarded.header(request, f"x-forwarded-{name}")
        if isinstance(value, Denied):
            return value
        found.append(value)
    method, host, uri = found
    return forwarded.absent(request, "x-original-method", "x-original-url", "x-original-uri") or (method, host, uri)


SURFACE = Surface(
    name="forward_auth",
    endpoints=(
        Endpoint(
            path="/forward-auth",
            methods=ANY,
            content_type=None,
            read=forwarded.reader(told),
            write=forwarded.write,
            for_gateways=True,
            openapi={
                "summary": "Judge the request that X-Forwarded-Method, X-Forwarded-Host and X-Forwarded-Uri tell",
                "security": [{}, {"bearer": []}],
                "responses": openapi.decision_responses("Allow, with the identity headers"),
            },
        ),
    ),
)
