"""FastAPI under uvicorn (uvloop, httptools, one worker, no access log) with PyJWT: ``fastapi_app.py``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.suite.processes import Process
from benchmarks.suite.row import Place, Running
from benchmarks.suite.tokens import AUDIENCE, ISSUER, Tokens
from tests.support import free_port

APP = "benchmarks.suite.servers.fastapi_app:app"
OPTIONS = ["--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log", "--log-level", "warning"]


@contextmanager
def fastapi(place: Place, tokens: Tokens) -> Iterator[Running]:
    port = free_port()
    told = {
        "BENCH_ISSUER": ISSUER,
        "BENCH_AUDIENCE": AUDIENCE,
        "BENCH_ALGORITHM": tokens.algorithm,
        "BENCH_JWKS": str(tokens.jwks_file),
    }
    command = [sys.executable, "-m", "uvicorn", APP, "--port", str(port), *OPTIONS]
    process = Process(command, [place.cores.server], place.folder / "fastapi.out", told)
    try:
        process.wait_until_listening(port)
        yield Running(port, {"uvicorn": process})
    finally:
        process.stop()
