"""What the Lambda authorizer adds to a bare request, and how long its import takes (``make bench-shim``).

Both ask the same verifier on loopback over a connection that is kept; it runs in a process of its own, so that it takes
no time of theirs.
"""

import http.client
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from tests.verifier_stub import answers, stub_verifier

SHIM = Path(__file__).parents[1] / "deploy" / "lambda" / "authorizer.py"
ROUNDS = 15
REQUESTS = 200
STARTS = 25
EVENT = {
    "type": "REQUEST",
    "methodArn": "arn:aws:execute-api:eu-central-1:123456789012:abcdef1234/prod/GET/pets/1",
    "headers": {f"x-header-{n}": "value" * 8 for n in range(20)} | {"authorization": "Bearer " + "x" * 900},
}
ALLOW = {"principalId": "alice", "policyDocument": {"Version": "2012-10-17", "Statement": []}, "context": {"sub": "a"}}


def serve(ready: Connection) -> None:
    with stub_verifier(answers(200, ALLOW)) as verifier:
        ready.send(verifier.port)
        ready.recv()


def milliseconds(ask: Callable[[], object]) -> float:
    """The median of one round."""
    taken = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        if ask() != ALLOW:
            raise RuntimeError("no answer: nothing was measured")
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


def bare(port: int) -> Callable[[], object]:
    connection = http.client.HTTPConnection("localhost", port)
    headers = {"Content-Type": "application/json"}

    def ask() -> object:
        connection.request("POST", "/aws/authorizer", json.dumps(EVENT), headers)
        return json.loads(connection.getresponse().read())

    return ask


def shim() -> Callable[[], object]:
    spec = importlib.util.spec_from_file_location("authorizer", SHIM)
    if spec is None or spec.loader is None:
        raise RuntimeError("there is no authorizer")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda: module.handler(EVENT, None)


def fresh(code: str, folder: str, port: int) -> float:
    """Milliseconds that ``code`` takes in a new interpreter, by its own clock."""
    timed = f"import time; began = time.perf_counter()\n{code}\nprint(1e3 * (time.perf_counter() - began))"
    environment = {"PYTHONPATH": folder, "VERIFIER_URL": f"http://localhost:{port}"}
    done = subprocess.run([sys.executable, "-c", timed], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def table(title: str, measured: dict[str, list[float]]) -> None:
    base = statistics.median(next(iter(measured.values())))
    print(f"\n| {title} | ms | Over the first |\n|---|---|---|")
    for name, values in measured.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.3f} ({min(values):.3f}–{max(values):.3f}) | {median - base:+.3f} |")


def asking(port: int) -> None:
    os.environ["VERIFIER_URL"] = f"http://localhost:{port}"
    asked = {"bare http.client": bare(port), "authorizer": shim()}
    measured: dict[str, list[float]] = {name: [] for name in asked}
    for ask in asked.values():
        ask()
    for _ in range(ROUNDS):
        for name, ask in asked.items():
            measured[name].append(milliseconds(ask))
    print(f"{ROUNDS} interleaved rounds of {REQUESTS} requests; medians of rounds: median (range)")
    table("Request", measured)


def starting(port: int) -> None:
    codes = {
        "import of an empty module": "import empty",
        "import of the authorizer": "import authorizer",
        "import and first event": "import authorizer; authorizer.handler({}, None)",
    }
    measured: dict[str, list[float]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "empty.py").touch()
        Path(folder, SHIM.name).write_bytes(SHIM.read_bytes())
        for code in codes.values():
            fresh(code, folder, port)  # compiles
        for _ in range(STARTS):
            for name, code in codes.items():
                measured[name].append(fresh(code, folder, port))
    print(f"\n{STARTS} interleaved fresh interpreters each; median (range)")
    table("Start", measured)


def main() -> None:
    ready, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port: int = ready.recv()
    asking(port)
    starting(port)
    ready.send(None)
    server.join()


if __name__ == "__main__":
    main()
