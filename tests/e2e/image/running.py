"""A container of the image as a careful platform runs it: read-only root, no capabilities, nothing added but the
configuration, and the user, command and environment that the image itself says."""

import json
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.e2e.image.building import Image, as_root, root

CONFIGURATION = "/etc/verifier"
NAMESPACES = ("pid", "mount", "ipc", "uts")
STARTS_WITHIN = 30.0

Network = Literal["own", "host"]


@dataclass
class Container:
    """One that runs. ``log`` is what it wrote."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    _pid: int = field(default=0)

    def execute(self, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run ``command`` inside, as a health check is."""
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        return subprocess.run(
            root(["runc", "exec", *variables, self.name, *command]),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def ask(self, url: str, *options: str) -> tuple[int, str]:
        """Status and body of the answer, asked for in the container's own network."""
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "curl", "--silent", "--max-time", "10"]
        done = subprocess.run(
            root([*command, "--write-out", "\n%{http_code}", *options, url]),
            capture_output=True,
            text=True,
            check=False,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    @property
    def pid(self) -> int:
        """The first process of the container, as the host counts."""
        if not self._pid:
            self._pid = int(json.loads(as_root("runc", "state", self.name).stdout)["pid"])
        return self._pid

    def wait_until_ready(self, ops: str = "http://127.0.0.1:9090") -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while self.process.poll() is None and time.monotonic() < deadline:
            listed = (
                subprocess.run(root(["runc", "state", self.name]), capture_output=True, check=False).returncode == 0
            )
            if listed and self.ask(f"{ops}/readyz")[0] == 200:
                return
            time.sleep(0.1)
        raise AssertionError(f"not ready within {STARTS_WITHIN} s:\n{self.log.read_text('utf-8')}")

    def stop(self, within: float = 20.0) -> int:
        """SIGTERM, and the exit code."""
        as_root("runc", "kill", self.name, "TERM")
        return self.process.wait(within)


@contextmanager
def running(
    image: Image, folder: Path, *arguments: str, network: Network = "own", environment: Mapping[str, str] | None = None
) -> Iterator[Container]:
    """A container with ``folder`` mounted at ``CONFIGURATION``; ``arguments`` stand in the place of the image's own.

    ``own`` is a network with nothing but loopback, ``host`` is that of the test.
    """
    name = f"verifier-test-{secrets.token_hex(6)}"
    bundle = folder / name
    bundle.mkdir()
    (bundle / "config.json").write_text(
        json.dumps(_specification(image, folder, arguments, network, environment or {}))
    )
    log = bundle / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            root(["runc", "run", "--bundle", str(bundle), name]), stdout=stream, stderr=stream, stdin=subprocess.DEVNULL
        )
        try:
            yield Container(name, process, log)
        finally:
            if process.poll() is None:
                subprocess.run(root(["runc", "kill", name, "KILL"]), capture_output=True, check=False)
                process.wait(10)
            subprocess.run(root(["runc", "delete", "--force", name]), capture_output=True, check=False)


def run(image: Image, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run ``command`` to its end; a first word without a slash is an argument of the image's entry point."""
    with running(image, folder, *command) as container:
        code = container.process.wait(60)
        return subprocess.CompletedProcess(command, code, container.log.read_text("utf-8"))


def _specification(
    image: Image, folder: Path, arguments: tuple[str, ...], network: Network, environment: Mapping[str, str]
) -> dict[str, Any]:
    """What the OCI runtime is told."""
    user, group = map(int, image.config["User"].split(":"))
    given = [f"{name}={value}" for name, value in environment.items()]
    entry = [] if arguments and arguments[0].startswith("/") else image.config["Entrypoint"]
    namespaces = NAMESPACES + (("network",) if network == "own" else ())
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": user, "gid": group},
            "args": [*entry, *(arguments or image.config["Cmd"])],
            "env": [*image.config["Env"], *given],
            "cwd": image.config["WorkingDir"] or "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": str(image.files), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": CONFIGURATION, "type": "bind", "source": str(folder), "options": ["bind", "ro"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in namespaces]},
    }
