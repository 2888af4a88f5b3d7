"""The machine: which cores do what, and what a reader must know of it to judge the figures."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cryptography.hazmat.backends.openssl.backend import backend

from tests.e2e.gateways.programs import find
from tests.redis_servers import program as redis_program

PACKAGES = ("aiohttp", "cryptography", "fastapi", "httptools", "joserfc", "pyjwt", "redis", "uvicorn", "uvloop")
PROGRAMS = {
    "envoy": ("--version", r"/([\d.]+)/"),
    "haproxy": ("-v", r"version (\S+)"),
    "nginx": ("-v", r"nginx/(\S+)"),
    "redis-server": ("--version", r"v=(\S+)"),
    "wrk": ("-v", r"wrk (?:debian/)?(\S+)"),
}


@dataclass(frozen=True, slots=True)
class Cores:
    """``helper`` is that of a second process that belongs to the server: Redis, the verifier behind a gateway, a second
    worker. There is none where the machine has two cores."""

    server: int
    helper: int | None
    load: tuple[int, ...]

    @property
    def second(self) -> int:
        if self.helper is None:
            raise RuntimeError("the machine has too few cores")
        return self.helper


def polls_when_idle() -> bool:
    """Whether an idle core looks out for work for a while before it sleeps, as guests of KVM do. To wake it then costs
    next to nothing, and less than to interrupt a spinner on it."""
    driver = Path("/sys/devices/system/cpu/cpuidle/current_driver")
    return driver.exists() and driver.read_text().strip() == "haltpoll"


def cores() -> Cores:
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        raise SystemExit("two cores are needed: one for the server, one for the load")
    if len(mine) == 2:
        return Cores(mine[0], None, (mine[1],))
    return Cores(mine[0], mine[1], tuple(mine[2:4]))


def description() -> dict[str, str | int]:
    names = re.findall(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "kernel": platform.release(),
        "hypervisor": "yes" if "hypervisor" in Path("/proc/cpuinfo").read_text() else "no",
    }


def versions() -> dict[str, str]:
    """Of everything that takes part and is there."""
    found = {"python": platform.python_version(), "verifier": version("token-verifier")}
    found["openssl of cryptography"] = backend.openssl_version_text().removeprefix("OpenSSL ").split()[0]
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    for name, (flag, pattern) in PROGRAMS.items():
        path = redis_program() if name == "redis-server" else find(name)
        if path is not None:
            done = subprocess.run([path, flag], capture_output=True, text=True, timeout=20, check=False)
            said = re.search(pattern, done.stdout + done.stderr)
            found[name] = said[1] if said else "unknown"
    return found
