"""``make release-tools``: what checks workflows and Compose files, out of their Go modules, for machines with Go that
lack them. It takes minutes, once. Where Go is missing nothing is built, and the tests of it skip."""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.gateways.programs import BUILT, GoVersion, find, go


@dataclass(frozen=True)
class Tool:
    """A program ``name`` that is the package ``package`` of ``module``."""

    name: str
    module: str
    package: str
    needs_go: GoVersion


ACTIONLINT = Tool("actionlint", "github.com/rhysd/actionlint@v1.7.12", "./cmd/actionlint", (1, 24))
COMPOSE = Tool("docker-compose", "github.com/docker/compose/v2@v2.40.3", "./cmd", (1, 24))
HOW = "run make release-tools, with Go 1.24"


def build(tool: Tool) -> None:
    program = go(tool.needs_go)
    if find(tool.name) or program is None:
        _say(f"{tool.name} is there" if program else f"there is no Go to build {tool.name} with: its tests skip")
        return
    download = [program, "mod", "download", "-json", tool.module]
    told = json.loads(subprocess.run(download, capture_output=True, text=True, check=True).stdout)
    _say(f"building {tool.name}…")
    BUILT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as folder:
        # Go builds no main module out of its cache, which is read-only too.
        source, made = Path(folder, "source"), Path(folder, "made")
        shutil.copytree(told["Dir"], source, copy_function=shutil.copyfile)
        for directory in (source, *(path for path in source.rglob("*") if path.is_dir())):
            directory.chmod(0o700)
        options = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(made)]
        environment = {**os.environ, "CGO_ENABLED": "0"}
        subprocess.run([program, "build", "-C", str(source), *options, tool.package], check=True, env=environment)
        made.replace(BUILT / tool.name)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - for whoever called make


if __name__ == "__main__":
    for tool in (ACTIONLINT, COMPOSE):
        build(tool)
