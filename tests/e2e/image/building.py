"""The image out of the Dockerfile, where no image registry can be reached: its base is made of Debian's packages, with
Python as the official image has it, and Buildah builds on that."""

import fcntl
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateways.programs import require

ROOT = Path(__file__).parents[3]
BASE, IMAGE = "localhost/verifier-base:test", "localhost/verifier:test"
PACKAGES = "python3,ca-certificates"
VERSION = "1.2.3-test"
PIP_OPTIONS = ("cert", "index-url", "extra-index-url", "find-links", "trusted-host")


def as_root(*command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """What ``command`` wrote. Raises ``AssertionError`` with its errors where it fails."""
    done = subprocess.run(root(command), capture_output=True, text=True, check=False, **options)
    said = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{said}"
    return done


def root(command: Sequence[str]) -> list[str]:
    return [*(() if os.geteuid() == 0 else ("sudo", "-n")), *command]


def require_programs() -> None:
    for program in ("buildah", "mmdebstrap", "runc"):
        require(program, f"apt-get install {program}")
    if subprocess.run(root(["true"]), check=False).returncode != 0:
        lacking = "an image is built by root, or with a sudo that asks for no password"
        (pytest.fail if os.environ.get("E2E_REQUIRE") == "1" else pytest.skip)(lacking)


@dataclass(frozen=True)
class Image:
    """The built image. ``config`` is Docker's, and ``files`` where its root file system is."""

    config: dict[str, Any]
    files: Path


@contextmanager
def built(folder: Path, lock: Path) -> Iterator[Image]:
    """The image, which the first process that asks builds into ``folder``, in about a minute and a half. The last one
    that lets go of it takes everything away. ``lock`` is a file that all of them can open."""
    mine = folder / f"used-by-{os.getpid()}"
    with _alone(lock):
        folder.mkdir(exist_ok=True)
        mine.touch()
    try:
        with _alone(lock):
            described = folder / "image.json"
            if not described.exists():
                described.write_text(json.dumps(_make(folder)), "utf-8")
            made = json.loads(described.read_text("utf-8"))
        yield Image(made["config"], Path(made["files"]))
    finally:
        with _alone(lock):
            mine.unlink()
            if not [*folder.glob("used-by-*")]:
                as_root("rm", "-rf", "--one-file-system", str(folder))


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path) -> dict[str, Any]:
    store = _Store(folder / "store")
    _make_base(store)
    _build(store, folder)
    _, files = store.mounted(IMAGE)
    config = json.loads(store("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    return {"config": config, "files": str(files)}


@dataclass(frozen=True)
class _Store:
    """Images and containers of this test alone. Of the storage drivers, ``vfs`` is the one that works everywhere."""

    path: Path

    def __call__(self, *arguments: str) -> str:
        where = ["--root", f"{self.path}/root", "--runroot", f"{self.path}/run", "--storage-driver", "vfs"]
        return as_root("buildah", *where, *arguments).stdout.strip()

    def mounted(self, image: str) -> tuple[str, Path]:
        container = self("from", "--pull-never", image)
        return container, Path(self("mount", container))


def _make_base(store: _Store) -> None:
    container, files = store.mounted("scratch")
    as_root("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", _codename(), str(files), *_sources())
    [library] = files.glob("usr/local/lib/python3.*/dist-packages")
    pip = importlib.util.find_spec("pip")
    assert pip is not None
    assert pip.origin is not None
    as_root("cp", "-r", str(Path(pip.origin).parent), f"{library}/")
    as_root("find", f"{files}/usr/lib", "-name", "*.pyc", "-delete")  # as in the official image
    store("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
    store("commit", "--quiet", "--rm", container, BASE)


def _codename() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _sources() -> list[str]:
    """What this machine installs its own distribution from; packages of others are none of ours."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted({f"deb {line}" for line in told.splitlines() if line.split()[1].startswith(_codename())})


def _build(store: _Store, folder: Path) -> None:
    """Build as this machine is configured to reach its package index."""
    secrets, volumes = _pip_as_here(folder)
    store(
        *("build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--tag", IMAGE),
        *("--build-arg", f"BASE={BASE}", "--build-arg", f"VERSION={VERSION}"),
        *(f"--secret={secret}" for secret in secrets),
        *(f"--volume={path}:{path}:ro" for path in volumes),
        str(ROOT),
    )


def _pip_as_here(folder: Path) -> tuple[list[str], list[str]]:
    """pip's own configuration, as secrets of the build, and the folders that it names."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    said = dict(re.findall(r"(?m)^\S*\.(\S+)='(.*)'$", told))
    kept = {name: said[name] for name in PIP_OPTIONS if name in said}
    secrets = []
    if "cert" in kept:
        secrets.append(f"id=pip-ca,src={kept['cert']}")
        kept["cert"] = "/run/secrets/pip-ca"
    configuration = folder / "pip.conf"
    configuration.write_text("\n".join(["[global]", *(f"{name} = {value}" for name, value in kept.items())]))
    secrets.append(f"id=pip-conf,src={configuration}")
    return secrets, [path for path in kept.get("find-links", "").split() if Path(path).is_dir()]
