"""The chart as it is rendered for each set of values in `ci/`, out of the snapshots beside this module.

`make helm-snapshots` writes them anew, and `make e2e` fails when they are behind the chart.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.helm.generated import CHART

Manifest = Mapping[str, Any]

SNAPSHOTS = Path(__file__).parent / "snapshots"
SETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "auth"


def values_file(name: str) -> Path:
    return CHART / "ci" / f"{name}-values.yaml"


def values(name: str) -> Mapping[str, Any]:
    """What the set says, without the defaults."""
    read: Mapping[str, Any] = yaml.safe_load(values_file(name).read_text("utf-8"))
    return read


@cache
def rendered(name: str) -> list[Manifest]:
    return [one for one in yaml.safe_load_all((SNAPSHOTS / f"{name}.yaml").read_text("utf-8")) if one]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] == kind]


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """The metadata and the spec of every pod that there would be."""
    for one in manifests:
        if one["kind"] == "Pod":
            yield one
        elif "template" in one.get("spec", {}):
            yield one["spec"]["template"]


def deployment(manifests: list[Manifest]) -> Manifest:
    [found] = of_kind(manifests, "Deployment")
    return found


def container(pod: Manifest, name: str = "verifier") -> Manifest:
    spec = pod["spec"]
    found: list[Manifest] = [
        one for one in (*spec.get("initContainers", ()), *spec["containers"]) if one["name"] == name
    ]
    return found[0]


def environment(one: Manifest) -> dict[str, str]:
    """Variables whose value is written."""
    return {entry["name"]: entry["value"] for entry in one["env"] if "value" in entry}


def service_container(name: str) -> Manifest:
    return container(deployment(rendered(name))["spec"]["template"])
