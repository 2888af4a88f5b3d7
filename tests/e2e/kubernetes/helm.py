"""Helm, run on the chart. As a program, it writes the snapshots of `tests/helm` anew: `make helm-snapshots`."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.gateways import programs
from tests.helm.chart import NAMESPACE, SETS, SNAPSHOTS, values_file
from tests.helm.generated import CHART

GO = (1, 26)
HOW_TO_GET = "make helm-tools"
RELEASE = "verifier"
#: The oldest Kubernetes whose output is looked at, which has all that the chart uses.
KUBERNETES = "1.33"
#: Copies of files that have tests of their own.
_COPIES = re.compile(r"(?ms)^---\n# Source: verifier/templates/(?:dashboards|prometheusrules)\.yaml\n.*?(?=^---\n|\Z)")


def helm(
    *arguments: str, program: str = "helm", environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    found = programs.require(program, HOW_TO_GET, GO)
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=60)


def template(*arguments: str, program: str = "helm") -> str:
    """What Helm renders. Raises ``ValueError`` with what it says where it does not."""
    done = helm(
        "template",
        RELEASE,
        str(CHART),
        "--namespace",
        NAMESPACE,
        "--kube-version",
        KUBERNETES,
        *arguments,
        program=program,
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def snapshot(name: str, program: str = "helm") -> str:
    rendered = _COPIES.sub("", template("--values", str(values_file(name)), program=program))
    # Helm 4 and Helm 3 differ in the blank lines between objects.
    return re.sub(r"\n+---\n", "\n---\n", rendered).rstrip("\n") + "\n"


def main() -> None:
    for left in SNAPSHOTS.iterdir():
        left.unlink()
    for name in SETS:
        Path(SNAPSHOTS, f"{name}.yaml").write_text(snapshot(name), "utf-8")


if __name__ == "__main__":
    main()
