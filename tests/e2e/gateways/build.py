"""``make traefik``, ``make istio-tools``, ``make collector``: programs out of their Go modules, for machines that have
Go and not them. It takes minutes, once. Where Go is missing nothing is built, and the tests of it skip."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.gateways.gateways import Traefik
from tests.e2e.gateways.istio import GO as GO_OF_ISTIO
from tests.e2e.gateways.programs import BUILT, GoVersion, go

ENVIRONMENT = {**os.environ, "CGO_ENABLED": "0"}
TRAEFIK = "github.com/traefik/traefik/v3@v3.6.12"
ISTIO = ("istio.io/istio/pilot/cmd/pilot-discovery", "istio.io/istio/istioctl/cmd/istioctl")
ISTIO_MODULE = Path(__file__).parents[1] / "istio"
COLLECTOR_MODULE = Path(__file__).parents[1] / "collector"
GO_OF_COLLECTOR = (1, 25)


def traefik() -> None:
    if found := Traefik.found():
        _say(f"Traefik is there: {found}")
        return
    program = _go_for("Traefik", Traefik.needs_go)
    download = [program, "mod", "download", "-json", TRAEFIK]
    told = json.loads(subprocess.run(download, capture_output=True, text=True, check=False).stdout)
    if "Error" in told:
        sys.exit(f"Traefik's module cannot be had: {told['Error']}")
    with tempfile.TemporaryDirectory() as folder:
        # Go builds no main module out of its cache, which is read-only too.
        source = Path(folder, "source")
        shutil.copytree(told["Dir"], source, copy_function=shutil.copyfile)
        for made in (source, *(path for path in source.rglob("*") if path.is_dir())):
            made.chmod(0o700)
        _build(program, source, "./cmd/traefik")


def istio() -> None:
    _build(_go_for("Istio", GO_OF_ISTIO), ISTIO_MODULE, *ISTIO)


def collector() -> None:
    _build(_go_for("the collector", GO_OF_COLLECTOR), COLLECTOR_MODULE, ".")


def _go_for(what: str, oldest: GoVersion) -> str:
    found = go(oldest)
    if found is None:
        _say(f"there is no Go {'.'.join(map(str, oldest))} to build {what} with: its tests skip where it is missing")
        sys.exit()
    return found


def _build(program: str, source: Path, *packages: str) -> None:
    """The programs ``packages`` of the module in ``source``, into ``BUILT``; each is there whole or not at all."""
    _say(f"building {', '.join(packages)} of {source.name}…")
    BUILT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as made:
        options = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", f"{made}/"]
        subprocess.run([program, "build", "-C", str(source), *options, *packages], check=True, env=ENVIRONMENT)
        for built in Path(made).iterdir():
            built.replace(BUILT / built.name)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - for whoever called make


if __name__ == "__main__":
    {"traefik": traefik, "istio": istio, "collector": collector}[sys.argv[1]]()
