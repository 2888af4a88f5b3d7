"""Which rows there are, in the order of the report, and which of them this machine cannot have."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from benchmarks.suite import results
from benchmarks.suite.machine import Cores
from benchmarks.suite.row import Row
from benchmarks.suite.servers import envoy, fastapi, gateways, haproxy, verifier
from tests.e2e.gateways.programs import find

MAIN = ("RS256", "ES256")
OTHERS = ("PS256", "ES384", "ES512", "ES256K", "EdDSA", "HS256")
CACHED = {"RS256": results.CACHED_RS256, "ES256": results.CACHED_ES256}
ANEW = {"RS256": results.ANEW_RS256, "ES256": results.ANEW_ES256}
LATENCY = ("null", "verifier-cached-rs256", "envoy-cached-rs256", "haproxy-rs256", "fastapi-rs256")
"""The rows whose times are measured too."""

# A cache must be full, and then have every token; a server that verifies anew must have none.
_cached = partial(Row, hits="all", passes=1)
_anew = partial(Row, hits="none")


@dataclass(frozen=True, slots=True)
class Planned:
    """A row, and why it is left out, if it is."""

    row: Row
    lacks: str = ""


def planned(cores: Cores) -> list[Planned]:
    null = Row("null", "null responder", results.CACHED_RS256, "RS256", verifier.null, judges=False)
    rows = [Planned(null)]
    rows += _verifier_cached(cores)
    rows += _verifier_anew()
    for algorithm in MAIN:
        rows += _envoy(algorithm)
        rows += _without_cache(algorithm)
    return [*rows, *_whole_path(cores)]


def _verifier_cached(cores: Cores) -> Iterator[Planned]:
    title, rs256, es256 = "verifier, cached", results.CACHED_RS256, results.CACHED_ES256
    yield Planned(_cached("verifier-cached-rs256", title, rs256, "RS256", verifier.cached()))
    yield Planned(_cached("verifier-cached-es256", title, es256, "ES256", verifier.cached(), main=False))
    off = verifier.cached(fast_lane=False)
    yield Planned(_cached("verifier-lane-off", f"{title}, fast lane off", rs256, "RS256", off))
    # Each worker has a cache of its own, so that more than one pass is needed until both know all tokens.
    two = partial(_cached, passes=8)
    yield Planned(
        two("verifier-two-workers", f"{title}, two workers on two cores", rs256, "RS256", verifier.two_workers),
        "" if len(cores.load) > 1 else "the machine has fewer than four cores",
    )
    # What could not be written to Redis at once is dropped, and written when it is asked about again.
    shared = partial(_cached, passes=2, main=False)
    yield Planned(
        shared("verifier-shared-rs256", "verifier, found in Redis", rs256, "RS256", verifier.shared),
        _lacks_cores(cores),
    )


def _verifier_anew() -> Iterator[Planned]:
    for algorithm in MAIN:
        yield Planned(_anew(f"verifier-new-{algorithm.lower()}", "verifier", ANEW[algorithm], algorithm, verifier.anew))
    for algorithm in OTHERS:
        name, title = f"verifier-new-{algorithm.lower()}", f"verifier, {algorithm}"
        yield Planned(_anew(name, title, results.ANEW_OTHERS, algorithm, verifier.anew, main=False))


def _envoy(algorithm: str) -> Iterator[Planned]:
    lacks, end, main = _lacks_program("envoy", "make bench installs it"), algorithm.lower(), algorithm == "RS256"
    with_cache, without = envoy.envoy(cache=10_000), envoy.envoy()
    title = "Envoy jwt_authn"
    yield Planned(
        _cached(f"envoy-cached-{end}", f"{title}, its cache", CACHED[algorithm], algorithm, with_cache, main=main),
        lacks,
    )
    yield Planned(_anew(f"envoy-new-{end}", f"{title}, no cache", ANEW[algorithm], algorithm, without), lacks)


def _without_cache(algorithm: str) -> Iterator[Planned]:
    """Those that have none, and so verify every token anew."""
    group, end = ANEW[algorithm], algorithm.lower()
    yield Planned(
        Row(f"haproxy-{end}", "HAProxy jwt_verify", group, algorithm, haproxy.haproxy),
        _lacks_program("haproxy", "apt-get install haproxy"),
    )
    yield Planned(
        Row(f"fastapi-{end}", "FastAPI with PyJWT", group, algorithm, fastapi.fastapi, main=algorithm == "RS256"),
        _lacks_package("fastapi", "uvicorn", "jwt"),
    )


def _whole_path(cores: Cores) -> Iterator[Planned]:
    path = partial(_cached, path="/pets/7", main=False)
    yield Planned(
        path("nginx-verifier", "nginx, auth_request", results.PATH, "RS256", gateways.nginx),
        _lacks_program("nginx", "apt-get install nginx") or _lacks_cores(cores),
    )
    yield Planned(
        path("envoy-verifier", "Envoy, ext_authz", results.PATH, "RS256", gateways.envoy),
        _lacks_program("envoy", "make bench installs it") or _lacks_cores(cores),
    )


def _lacks_program(name: str, how_to_get: str) -> str:
    return "" if find(name) else f"{name} is not on this machine ({how_to_get})"


def _lacks_package(*names: str) -> str:
    missing = [name for name in names if find_spec(name) is None]
    return f"not installed: {', '.join(missing)} (make bench does)" if missing else ""


def _lacks_cores(cores: Cores) -> str:
    return "" if cores.helper is not None else "the machine has too few cores"
