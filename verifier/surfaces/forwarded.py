"""What a gateway tells about the request that it asks about, for the surfaces of gateways."""

from collections.abc import Callable, Sequence

from verifier.core import paths
from verifier.core.reasons import Reason
from verifier.core.routes import Target
from verifier.core.verdict import Allowed, Denied, Verdict
from verifier.engine import Question
from verifier.surfaces import answer, openapi
from verifier.surfaces.surface import ANY, Answer, Asked, Endpoint, Request, Surface, taken_for

Told = tuple[str, str, str]
"""Method, host and request target of the original request, as they came."""

_ALLOW = Answer(200, (), b"")

_METHOD_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
_OTHER_ORIGINALS = frozenset({"x-original-method", "x-original-url", "x-original-uri"})
_PATH_OVERRIDE = "x-rewrite-url"
_MEANINGFUL = _METHOD_OVERRIDES | _OTHER_ORIGINALS | {_PATH_OVERRIDE}


def surface(
    name: str,
    path: str,
    told: Callable[[Request], Told | Denied],
    *,
    summary: str,
    adapt: Callable[[Answer], Answer] = lambda answered: answered,
    holdable: Callable[[Request], tuple[str, ...]] = lambda _: (),
    unreadable: int | None = None,
) -> Surface:
    """The surface of gateways that tell the original request as ``told`` finds it. ``adapt`` makes of an answer what
    they understand; for ``holdable`` and ``unreadable`` see ``Endpoint``."""

    def write(verdicts: Sequence[Verdict]) -> Answer:
        verdict = verdicts[0]
        return adapt(_ALLOW if isinstance(verdict, Allowed) else answer.refusal(verdict))

    endpoint = Endpoint(
        path=path,
        methods=ANY,
        content_type=None,
        read=reader(told),
        write=write,
        refuse=lambda denied: adapt(answer.refusal(denied)),
        for_gateways=True,
        holdable=holdable,
        unreadable=unreadable,
        openapi={
            "summary": summary,
            "security": [{}, {"bearer": []}],
            "responses": openapi.decision_responses("Allow, with the identity headers"),
        },
    )
    return Surface(name, (endpoint,))


def reader(told: Callable[[Request], Told | Denied]) -> Callable[[Request], Asked]:
    """Reads the one question about the original request as ``told`` finds it."""

    def read(request: Request) -> Asked:
        original = told(request)
        asked = original if isinstance(original, Denied) else _question(request, *original)
        return asked if isinstance(asked, Denied) else (asked,)

    return read


def header(request: Request, name: str) -> str | Denied:
    """The one value of the header ``name`` (lower case)."""
    values = request.values(name)
    if len(values) == 1 and values[0]:
        return values[0]
    found = f"{len(values)} times" if len(values) != 1 else "once and empty"
    return malformed(f"expected the header {name} once and with a value, found it {found}")


def told_otherwise(request: Request) -> Denied | None:
    """Whether the original request is told as nginx does too, and maybe another one."""
    there = sorted(name for name in _OTHER_ORIGINALS if request.values(name))
    return malformed(f"the gateway must remove the header {there[0]}") if there else None


def may_be_no_text(host: str, target: str) -> bool:
    """Whether Envoy may have put an exclamation mark in the place of a byte of the host or the path: it does for each
    that is no text, and hands on the byte itself."""
    return "!" in host + target.partition("?")[0]


def malformed(detail: str) -> Denied:
    return Denied(Reason.MALFORMED_REQUEST, detail)


def _question(request: Request, method: str, host: str, target: str) -> Question | Denied:
    if not _MEANINGFUL.isdisjoint(taken_for(request.headers)):
        return malformed("the gateway must drop headers with underscores: services take them for those with dashes")
    if request.values(_PATH_OVERRIDE):
        return malformed("the request has a header that overrides its path (X-Rewrite-URL)")
    if any(value != method for name in _METHOD_OVERRIDES for value in request.values(name)):
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
