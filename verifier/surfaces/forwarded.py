"""What a gateway tells about the request that it asks about, for the surfaces of gateways."""

from collections.abc import Callable, Sequence

from verifier.core import paths
from verifier.core.reasons import Reason
from verifier.core.routes import Target
from verifier.core.verdict import Allowed, Denied, Verdict
from verifier.engine import Question
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer, Asked, Request

Told = tuple[str, str, str]
"""Method, host and request target of the original request, as they came."""

_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")


def reader(told: Callable[[Request], Told | Denied]) -> Callable[[Request], Asked]:
    """Reads a request whose original is what ``told`` finds in it."""

    def read(request: Request) -> Asked:
        original = told(request)
        asked = original if isinstance(original, Denied) else _question(request, *original)
        return asked if isinstance(asked, Denied) else (asked,)

    return read


def write(verdicts: Sequence[Verdict]) -> Answer:
    """A gateway looks at status and headers; a denial has a body for the client."""
    if isinstance(verdicts[0], Allowed):
        return answer.empty(200)
    return answer.refusal(verdicts[0])


def header(request: Request, name: str) -> str | Denied:
    """The one value of the header ``name`` (lower case)."""
    values = request.values(name)
    if len(values) == 1 and values[0]:
        return values[0]
    return malformed(f"expected the header {name} once, found it {len(values)} times")


def absent(request: Request, *names: str) -> Denied | None:
    """Headers that would tell the original request in another way, and maybe another one."""
    there = [name for name in names if request.values(name)]
    return malformed(f"the gateway must remove the header {there[0]}") if there else None


def malformed(detail: str) -> Denied:
    return Denied(Reason.MALFORMED_REQUEST, detail)


def _question(request: Request, method: str, host: str, target: str) -> Question | Denied:
    if request.values("x-rewrite-url"):
        return malformed("the request has a header that overrides its path (X-Rewrite-URL)")
    if any(value != method for name in _OVERRIDES for value in request.values(name)):
        return malformed("the request has a header that overrides its method")
    authority, path = paths.split(target)
    if authority is not None and authority.lower() != host.lower():
        return malformed("the host of the original request is told twice, and not the same")
    wanted = Target(method, host, path, _preflight_of(request, method))
    return Question(request.values("authorization"), target=wanted)


def _preflight_of(request: Request, method: str) -> str | None:
    """The method that a browser asks about (Fetch, CORS-preflight request); None where the request is none."""
    asked, origin = request.values("access-control-request-method"), request.values("origin")
    if method == "OPTIONS" and len(asked) == len(origin) == 1 and all((*asked, *origin)):
        return asked[0]
    return None
