"""``/ext-authz/…``: Envoy and Istio ask with the original request line behind this prefix (HTTP service)."""

from verifier.core.verdict import Denied
from verifier.surfaces import forwarded, openapi
from verifier.surfaces.forwarded import Told
from verifier.surfaces.surface import ANY, Endpoint, Request, Surface

_PREFIX = "/ext-authz"


def told(request: Request) -> Told | Denied:
    host = forwarded.header(request, "host")
    if isinstance(host, Denied):
        return host
    other = forwarded.absent(request, "x-original-method", "x-original-url", "x-original-uri")
    return other or (request.method, host, request.path.removeprefix(_PREFIX))


SURFACE = Surface(
    name="ext_authz",
    endpoints=(
        Endpoint(
            path=f"{_PREFIX}/",
            methods=ANY,
            content_type=None,
            read=forwarded.reader(told),
            write=forwarded.write,
            for_gateways=True,
            openapi={
                "summary": "Judge the request whose method, host and path these are, without the prefix (Envoy)",
                "security": [{}, {"bearer": []}],
                "responses": openapi.decision_responses("Allow, with the identity headers"),
            },
        ),
    ),
)
