"""Processes pinned to cores, what they take of them, and cores that are kept from going idle."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")

_SPIN = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process and its children: now, and at most so far."""

    now: int
    most: int


def pinned(cores: Sequence[int]) -> list[str]:
    """What a command begins with, to run on these cores and no others."""
    return ["taskset", "-c", ",".join(map(str, cores))]


class Process:
    """A program on ``cores`` that is ended with everything that it started."""

    def __init__(
        self, command: Sequence[str | Path], cores: Sequence[int], output: Path, more: Mapping[str, str] | None = None
    ) -> None:
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [*pinned(cores), *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, **(more or {})},
            )
        self.pid = self._process.pid

    def wait_until_listening(self, port: int, within: float = 20.0) -> None:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self.alive:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise self.not_started()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def not_started(self) -> RuntimeError:
        """With what it had to say; it is ended."""
        self.stop()
        return RuntimeError(f"does not start: {self._output.read_text(errors='replace')[-2_000:]}")

    def cpu_seconds(self) -> float:
        fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in family(self.pid))
        return sum(int(stat[11]) + int(stat[12]) for stat in fields) / TICKS

    def memory(self) -> Memory:
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in family(self.pid)]
        return Memory(_sum_of("VmRSS", texts), _sum_of("VmHWM", texts))

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def family(pid: int) -> list[int]:
    """``pid`` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile
        children.setdefault(parent, []).append(int(entry.parent.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found


def _sum_of(name: str, texts: Sequence[str]) -> int:
    lines = (line for text in texts for line in text.splitlines() if line.startswith(f"{name}:"))
    return sum(1024 * int(line.split()[1]) for line in lines)


def core_seconds(core: int) -> float:
    """How long it has been in use, by whomever, other machines on the same host among them; interrupts not counted."""
    (line,) = (line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _, _, _, _, steal = map(int, line.split()[1:9])
    return (user + nice + system + steal) / TICKS


@contextmanager
def kept_awake(cores: Sequence[int]) -> Iterator[None]:
    """Spinners of the lowest priority: waking a virtual core that went idle costs the one who wakes it, and that is the
    server with each of its answers."""
    spinners = [
        subprocess.Popen([*pinned([core]), sys.executable, "-c", _SPIN], stdin=subprocess.DEVNULL) for core in cores
    ]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
