"""``verifier serve``: cached, verified anew, without its fast lane, with two workers, with a Redis that knows all."""

import base64
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.suite.asking import get, raw
from benchmarks.suite.processes import Process
from benchmarks.suite.row import Place, Running
from benchmarks.suite.tokens import AUDIENCE, ISSUER, Tokens
from tests.redis_servers import program as redis_program
from tests.support import free_port

PROGRAM = Path(sys.executable).with_name("verifier")
Server = Callable[[Place, Tokens], Any]


def configuration(tokens: Tokens, **changes: Any) -> dict[str, Any]:
    keys = {"secret_file": tokens.secret_file} if tokens.algorithm == "HS256" else {"jwks_file": tokens.jwks_file}
    issuer = {"name": "main", "issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": [tokens.algorithm]}
    return {
        "listen": f"127.0.0.1:{free_port()}",
        "ops": {"listen": f"127.0.0.1:{free_port()}"},
        "drain_delay": "0s",
        "issuers": [issuer | {name: str(path) for name, path in keys.items()}],
        "log": {"denials": False},
        **changes,
    }


def start(place: Place, made: dict[str, Any], cores: Sequence[int]) -> Process:
    """Without waiting until it is ready."""
    file = place.folder / "verifier.yaml"
    file.write_text(yaml.safe_dump(made))
    return Process([PROGRAM, "serve", "--config", file], cores, place.folder / "verifier.out")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def wait_until_ready(process: Process, ops: int, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline and process.alive:
        try:
            if get(ops, "/readyz").status == 200:
                return
        except OSError:
            pass
        time.sleep(0.002)
    raise process.not_started()


def cache_hits(ops: int, tier: str) -> float:
    text = get(ops, "/metrics").body.decode()
    wanted = {"kind": "identity", "tier": tier, "result": "hit"}
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "verifier_cache_lookups_total" and wanted.items() <= sample.labels.items()
    )


@contextmanager
def verifier(place: Place, made: dict[str, Any], cores: Sequence[int], tier: str = "memory") -> Iterator[Running]:
    process = start(place, made, cores)
    try:
        data, ops = port_of(made["listen"]), port_of(made["ops"]["listen"])
        wait_until_ready(process, ops)
        yield Running(data, {"verifier": process}, lambda: cache_hits(ops, tier))
    finally:
        process.stop()


def cached(**changes: Any) -> Server:
    """All tokens fit, and stay for the whole measurement."""
    return lambda place, tokens: verifier(place, configuration(tokens, **changes), [place.cores.server])


def anew(place: Place, tokens: Tokens) -> Any:
    """The cache holds 10 and the tokens come in a circle of thousands, so that none is ever found in it."""
    return verifier(place, configuration(tokens, cache={"max_entries": 10}), [place.cores.server])


def two_workers(place: Place, tokens: Tokens) -> Any:
    return verifier(place, configuration(tokens, workers=2), [place.cores.server, place.cores.second])


@contextmanager
def shared(place: Place, tokens: Tokens) -> Iterator[Running]:
    """Every identity is found in Redis, as if another replica had just verified it. Redis has a core of its own."""
    port, key = free_port(), place.folder / "redis.key"
    key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(place.folder)]
    redis = Process([redis_program(), *options], [place.cores.second], place.folder / "redis.out")
    made = configuration(
        tokens,
        cache={"max_entries": 10, "share": "always"},
        # Patient, as it is about what is found, and a neighbour on the machine may hold Redis up for longer than 50 ms.
        redis={"url": f"redis://127.0.0.1:{port}", "key_file": str(key), "timeout": "1s"},
    )
    try:
        redis.wait_until_listening(port)
        with verifier(place, made, [place.cores.server], tier="shared") as running:
            yield Running(running.port, {**running.processes, "redis": redis}, running.hits)
    finally:
        redis.stop()


@contextmanager
def null(place: Place, tokens: Tokens) -> Iterator[Running]:
    """The null responder, with the answer that the verifier gives to the first token."""
    answer, port = place.folder / "answer", free_port()
    with verifier(place, configuration(tokens), [place.cores.server]) as running:
        answer.write_bytes(raw(running.port, "/verify", tokens.good[0]))
    command = [sys.executable, "-m", "benchmarks.suite.servers.null", port, answer]
    process = Process(list(map(str, command)), [place.cores.server], place.folder / "null.out")
    try:
        process.wait_until_listening(port)
        yield Running(port, {"null": process})
    finally:
        process.stop()
