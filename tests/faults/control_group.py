"""Control groups of Linux, with which a process gets less of the machine than there is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.outcome import NotRun

ROOT = Path("/sys/fs/cgroup")
QUOTA = 1_000
"""Microseconds, the least that Linux takes: whoever has used up its share does not stand still for long then."""


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """``paths``: one of the second version, or one for each controller of the first."""

    paths: tuple[Path, ...]

    def take(self, *pids: int) -> None:
        for path in self.paths:
            for pid in pids:
                (path / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How many processes were ended for want of memory."""
        for name in ("memory.oom_control", "memory.events"):
            for path in self.paths:
                if (path / name).exists():
                    words = (path / name).read_text().split()
                    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0
        return 0


@contextmanager
def control_group(*, cores: float | None = None, memory: int | None = None) -> Iterator[ControlGroup]:
    """With a share of one core, or so many bytes. Raises ``NotRun`` where none can be made."""
    name = f"verifier-faults-{os.getpid()}"
    is_second = (ROOT / "cgroup.controllers").exists()
    wanted: list[tuple[Path, str, str]] = []
    if cores is not None:
        period = round(QUOTA / cores)
        if is_second:
            wanted.append((ROOT / name, "cpu.max", f"{QUOTA} {period}"))
        else:
            wanted.append((ROOT / "cpu" / name, "cpu.cfs_period_us", str(period)))
            wanted.append((ROOT / "cpu" / name, "cpu.cfs_quota_us", str(QUOTA)))
    if memory is not None:
        place = (ROOT / name, "memory.max") if is_second else (ROOT / "memory" / name, "memory.limit_in_bytes")
        wanted.append((*place, str(memory)))
    paths = tuple(dict.fromkeys(path for path, _, _ in wanted))
    try:
        try:
            for path in paths:
                path.mkdir()
            for path, file, value in wanted:
                (path / file).write_text(value)
        except OSError as error:
            raise NotRun(f"a control group cannot be made here: {error.strerror}") from None
        yield ControlGroup(paths)
    finally:
        for path in paths:
            if path.exists():
                path.rmdir()
