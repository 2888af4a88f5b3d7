"""``make traefik``, ``make istio-tools``, ``make collector``, ``make helm-tools``: programs out of their Go modules.

For machines that have Go and not them. It takes minutes, once. Where Go is missing nothing is built, and the tests of
it skip.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.gateways.gateways import Traefik
from tests.e2e.gateways.istio import GO as GO_OF_ISTIO
from tests.e2e.gateways.programs import BUILT, GoVersion, go
from tests.e2e.kubernetes.helm import GO as GO_OF_KUBERNETES

ENVIRONMENT = {**os.environ, "CGO_ENABLED": "0"}
TRAEFIK = "github.com/traefik/traefik/v3@v3.6.12"
ISTIO = ("istio.io/istio/pilot/cmd/pilot-discovery", "istio.io/istio/istioctl/cmd/istioctl")
ISTIO_MODULE = Path(__file__).parents[1] / "istio"
COLLECTOR_MODULE = Path(__file__).parents[1] / "collector"
GO_OF_COLLECTOR = (1, 25)
KUBERNETES = {
    "helm": "helm.sh/helm/v4/cmd/helm",
    "helm3": "helm.sh/helm/v3/cmd/helm",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5",
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
}
#: Without it, the API server knows no version of its own, by which Helm goes.
VERSION_OF_KUBERNETES = "v1.36.3"
KUBERNETES_MODULE = Path(__file__).parents[1] / "kubernetes" / "tools"
CRDS = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "sigs.k8s.io/gateway-api@v1.5.1": ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",),
}


def traefik() -> None:
    if found := Traefik.found():
        _say(f"Traefik is there: {found}")
        return
    program = _go_for("Traefik", Traefik.needs_go)
    module = _module(program, TRAEFIK)
    with tempfile.TemporaryDirectory() as folder:
        # Go builds no main module out of its cache, which is read-only too.
        source = Path(folder, "source")
        shutil.copytree(module, source, copy_function=shutil.copyfile)
        for made in (source, *(path for path in source.rglob("*") if path.is_dir())):
            made.chmod(0o700)
        _build(program, source, "./cmd/traefik")


def istio() -> None:
    _build(_go_for("Istio", GO_OF_ISTIO), ISTIO_MODULE, *ISTIO)


def collector() -> None:
    _build(_go_for("the collector", GO_OF_COLLECTOR), COLLECTOR_MODULE, ".")


def kubernetes() -> None:
    program = _go_for("Helm", GO_OF_KUBERNETES)
    version = f"-X k8s.io/component-base/version.gitVersion={VERSION_OF_KUBERNETES}"
    for name, package in KUBERNETES.items():
        _build(program, KUBERNETES_MODULE, package, name=name, link=version)
    (BUILT / "crds").mkdir(exist_ok=True)
    for source in _crds(program):
        shutil.copyfile(source, BUILT / "crds" / source.name)


def _crds(program: str) -> Iterator[Path]:
    for module, paths in CRDS.items():
        folder = _module(program, module)
        yield from (folder / path for path in paths)


def _module(program: str, named: str) -> Path:
    """Where the sources of a module are, such as ``example.com/module@v1.2.3``."""
    download = [program, "mod", "download", "-json", named]
    told = json.loads(subprocess.run(download, capture_output=True, text=True, check=False).stdout)
    if "Error" in told:
        sys.exit(f"the module {named} cannot be had: {told['Error']}")
    return Path(told["Dir"])


def _go_for(what: str, oldest: GoVersion) -> str:
    found = go(oldest)
    if found is None:
        _say(f"there is no Go {'.'.join(map(str, oldest))} to build {what} with: its tests skip where it is missing")
        sys.exit()
    return found


def _build(program: str, source: Path, *packages: str, name: str = "", link: str = "") -> None:
    """The programs ``packages`` of the module in ``source``, into ``BUILT``; each is there whole or not at all.

    One alone may be called ``name``; ``link`` is more for the linker.
    """
    _say(f"building {', '.join(packages)} of {source.name}…")
    BUILT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as made:
        options = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {link}", "-o", f"{made}/{name}"]
        subprocess.run([program, "build", "-C", str(source), *options, *packages], check=True, env=ENVIRONMENT)
        for built in Path(made).iterdir():
            built.replace(BUILT / built.name)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - for whoever called make


if __name__ == "__main__":
    {"traefik": traefik, "istio": istio, "collector": collector, "helm": kubernetes}[sys.argv[1]]()
