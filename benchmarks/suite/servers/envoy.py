"""Envoy with its filter ``jwt_authn``, on one worker thread, with and without that filter's cache."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from benchmarks.suite.asking import get
from benchmarks.suite.processes import Process
from benchmarks.suite.row import Place, Running
from benchmarks.suite.tokens import AUDIENCE, ISSUER, Tokens
from tests.e2e.gateways.programs import find
from tests.support import free_port

OPTIONS = ["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
_TYPE = "type.googleapis.com/envoy.extensions.filters"


def program() -> str:
    found = find("envoy")
    if found is None:
        raise RuntimeError("there is no Envoy")
    return found


def _filter(tokens: Tokens, cache: int) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "require_expiration": True,
        "local_jwks": {"filename": str(tokens.jwks_file)},
    }
    if cache:
        # Envoy leaves longer tokens out; its default of 4,096 bytes is more than ours have, and is written out.
        provider["jwt_cache_config"] = {"jwt_cache_size": cache, "jwt_max_token_size": 4_096}
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{_TYPE}.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"main": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "main"}}],
        },
    }


def _manager(judge: dict[str, Any]) -> dict[str, Any]:
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "clients",
            "http_filters": [judge, router],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _hits(admin: int) -> float:
    said = get(admin, "/stats?filter=jwt_cache_hit").body.decode()
    return sum(float(line.rpartition(":")[2]) for line in said.splitlines())


@contextmanager
def _envoy(place: Place, tokens: Tokens, cache: int) -> Iterator[Running]:
    port, admin = free_port(), free_port()
    listener = {"address": _address(port), "filter_chains": [{"filters": [_manager(_filter(tokens, cache))]}]}
    made = {"admin": {"address": _address(admin)}, "static_resources": {"listeners": [listener]}}
    file = place.folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(made))
    process = Process([program(), "-c", file, *OPTIONS], [place.cores.server], place.folder / "envoy.out")
    try:
        process.wait_until_listening(port)
        yield Running(port, {"envoy": process}, lambda: _hits(admin))
    finally:
        process.stop()


def envoy(cache: int = 0) -> Callable[[Place, Tokens], Any]:
    """``cache``: for how many tokens."""
    return lambda place, tokens: _envoy(place, tokens, cache)
