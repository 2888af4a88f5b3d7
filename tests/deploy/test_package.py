"""The package for Lambda is the same bytes wherever and whenever it is made."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "deploy" / "lambda"


def packed(folder: Path, target: Path, umask: int = 0o022) -> tuple[bytes, str]:
    """The package, and what is said about it."""
    said = subprocess.run(
        [sys.executable, str(folder / "package.py"), str(target)],
        capture_output=True,
        text=True,
        check=True,
        umask=umask,
    )
    return target.read_bytes(), said.stdout


def test_two_packages_are_the_same_bytes_whatever_the_times_and_permissions(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("authorizer.py", "package.py"):
        (elsewhere / name).write_bytes((FOLDER / name).read_bytes())
        (elsewhere / name).chmod(0o600)
        os.utime(elsewhere / name, (1_000_000_000, 1_000_000_000))
    first, said = packed(FOLDER, tmp_path / "one" / "authorizer.zip")
    second, _ = packed(elsewhere, tmp_path / "two" / "authorizer.zip", umask=0o077)
    assert first == second
    assert hashlib.sha256(first).hexdigest() in said


def test_the_package_holds_the_handler_where_lambda_looks_for_it(tmp_path: Path) -> None:
    packed(FOLDER, tmp_path / "authorizer.zip")
    code = "import authorizer; print(authorizer.__file__, authorizer.handler.__name__)"
    environment = {"PYTHONPATH": str(tmp_path / "authorizer.zip"), "VERIFIER_URL": "http://localhost"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert done.stdout == f"{tmp_path}/authorizer.zip/authorizer.py handler\n"
