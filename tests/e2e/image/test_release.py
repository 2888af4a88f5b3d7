"""What releases it and what starts it beside others, read by the programs that will read them."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.gateways.programs import require
from tests.e2e.image.building import ROOT
from tests.e2e.image.tools import ACTIONLINT, COMPOSE, HOW

pytestmark = pytest.mark.e2e

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_github_would_take_the_workflow(workflow: Path) -> None:
    program = require(ACTIONLINT.name, HOW, ACTIONLINT.needs_go)
    checked = subprocess.run([program, str(workflow)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_compose_takes_its_file_and_finds_what_it_names(tmp_path: Path) -> None:
    program = require(COMPOSE.name, HOW, COMPOSE.needs_go)
    file = ROOT / "deploy/compose/compose.yaml"
    command = [program, "--file", str(file), "config", "--format", "json"]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
    services = json.loads(read.stdout)["services"]
    assert set(services) == {"verifier", "redis", "prometheus", "grafana"}
