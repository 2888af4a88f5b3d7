"""The whole path: a gateway, run with its file of ``deploy/gateways/``, that asks the verifier about each request.

The gateway has one core, the verifier another. The application behind it costs next to nothing: nginx itself answers
204 on another port, and Envoy answers in its place.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.suite.processes import ROOT, Process
from benchmarks.suite.row import Place, Running
from benchmarks.suite.servers.envoy import OPTIONS, program
from benchmarks.suite.servers.verifier import configuration, verifier
from benchmarks.suite.tokens import Tokens
from tests.e2e.gateways.programs import find
from tests.support import free_port

DEPLOY = ROOT / "deploy" / "gateways"
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    {temporary}
    include {folder}/verifier.conf;
    server {{
        listen 127.0.0.1:{application};
        return 204;
    }}
}}
"""


def _changed(file: Path, changes: Mapping[str, str]) -> str:
    text = file.read_text()
    for old, new in changes.items():
        if old not in text:
            raise RuntimeError(f"{file.name} does not hold {old}")
        text = text.replace(old, new)
    return text


@contextmanager
def _in_front(place: Place, running: Running, name: str, command: list[str | Path], port: int) -> Iterator[Running]:
    process = Process(command, [place.cores.server], place.folder / f"{name}.out")
    try:
        process.wait_until_listening(port)
        yield Running(port, {name: process, **running.processes}, running.hits)
    finally:
        process.stop()


@contextmanager
def nginx(place: Place, tokens: Tokens) -> Iterator[Running]:
    found, port, application, folder = find("nginx"), free_port(), free_port(), place.folder
    if found is None:
        raise RuntimeError("there is no nginx")
    with verifier(place, configuration(tokens), [place.cores.second]) as running:
        changes = {"127.0.0.1:8000": f"127.0.0.1:{port}", "127.0.0.1:3000": f"127.0.0.1:{application}"}
        changes["127.0.0.1:8080"] = f"127.0.0.1:{running.port}"
        (folder / "verifier.conf").write_text(_changed(DEPLOY / "nginx" / "verifier.conf", changes))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        file = folder / "nginx.conf"
        file.write_text(_NGINX.format(folder=folder, temporary=temporary, application=application))
        command: list[str | Path] = [found, "-e", "stderr", "-p", folder, "-c", file]
        with _in_front(place, running, "nginx", command, port) as whole:
            yield whole


@contextmanager
def envoy(place: Place, tokens: Tokens) -> Iterator[Running]:
    port = free_port()
    with verifier(place, configuration(tokens), [place.cores.second]) as running:
        changes = {
            "port_value: 8000": f"port_value: {port}",
            "port_value: 8080": f"port_value: {running.port}",
            "route: {cluster: application}": "direct_response: {status: 200}",
        }
        file = place.folder / "envoy.yaml"
        file.write_text(_changed(DEPLOY / "envoy" / "envoy.yaml", changes))
        with _in_front(place, running, "envoy", [program(), "-c", file, *OPTIONS], port) as whole:
            yield whole
