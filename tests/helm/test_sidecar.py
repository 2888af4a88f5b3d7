"""The manifests of `deploy/kubernetes`, read; `tests/e2e/kubernetes` runs what they say."""

import yaml

from tests.e2e.kubernetes.pod import FILES, spec
from tests.helm.restricted import violations
from verifier import __version__
from verifier.config import Settings


def test_nginx_does_what_the_tested_file_for_it_does() -> None:
    """All but the addresses is deploy/gateways/nginx/verifier.conf."""
    ours = (FILES / "nginx.conf").read_text("utf-8").partition("\nupstream ")[2]
    tested = (FILES.parent / "gateways" / "nginx" / "verifier.conf").read_text("utf-8").partition("\nupstream ")[2]
    changed = tested.replace("server 127.0.0.1:8080;", "server unix:/run/verifier/verifier.sock;")
    assert ours == changed.replace("listen 127.0.0.1:8000;", "listen 8000;")


def test_the_pod_meets_the_standard_restricted() -> None:
    assert list(violations(spec())) == []


def test_the_verifier_starts_before_nginx_and_ends_after_it() -> None:
    [sidecar] = spec()["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("verifier", "Always")
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_the_application_does_not_reach_the_socket() -> None:
    containers = (*spec()["initContainers"], *spec()["containers"])
    mounts = {one["name"]: [mount["name"] for mount in one.get("volumeMounts", ())] for one in containers}
    mounting = {name for name, mounted in mounts.items() if "socket" in mounted}
    assert mounting == {"verifier", "nginx"}


def test_the_configuration_of_the_sidecar_can_be_used() -> None:
    assert Settings(**yaml.safe_load((FILES / "verifier.yaml").read_text("utf-8"))).listen.startswith("unix:")


def test_the_image_is_of_this_version() -> None:
    [sidecar] = spec()["initContainers"]
    assert sidecar["image"].endswith(f":{__version__}")
