"""The programs that the tests run: where they are found, and what is said where they are not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUILT = Path(__file__).parents[3] / ".tools"
"""Where ``make traefik`` and ``make istio-tools`` put what they build."""

GoVersion = tuple[int, int]


def find(program: str) -> str | None:
    """What the environment names (``NGINX=/path/to/nginx``), else the one on the PATH, else one that was built here, or
    where Debian puts servers, or beside Python."""
    elsewhere = f"{BUILT}:/usr/sbin:/usr/local/sbin:{Path(sys.executable).parent}"
    return os.environ.get(_variable(program)) or shutil.which(program) or shutil.which(program, path=elsewhere)


def require(program: str, how_to_get: str, needs_go: GoVersion | None = None) -> str:
    """Skip where ``program`` is missing; fail where it must not be (``E2E_REQUIRE=1``), unless only a Go that is not
    here could build it."""
    found = find(program)
    if found is not None:
        return found
    lacking = f"{program} is not installed: {how_to_get}, or name it with {_variable(program)}=/path/to/it"
    if os.environ.get("E2E_REQUIRE") == "1" and (needs_go is None or go(needs_go)):
        pytest.fail(lacking)
    pytest.skip(lacking)


def go(oldest: GoVersion) -> str | None:
    """A Go that is not older."""
    found = shutil.which("go")
    if found is None:
        return None
    said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"go(\d+)\.(\d+)", said)
    return found if version and (int(version[1]), int(version[2])) >= oldest else None


def _variable(program: str) -> str:
    return program.replace("-", "_").upper()
