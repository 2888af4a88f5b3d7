"""Services of several processes, and programs, that tests start."""

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import Client, eventually, settings
from verifier.app import Configuration, supervising
from verifier.observability.log import open_log


@asynccontextmanager
async def supervised(config: dict[str, Any], configuration: Configuration | None = None) -> AsyncIterator[Client]:
    """Workers, and their supervisor in this process. Connections are not kept: each may get another worker."""
    made = settings(*config["issuers"], **{name: value for name, value in config.items() if name != "issuers"})
    stream = io.StringIO()
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with (
        supervising(made, open_log("json", "debug", stream), configuration=configuration) as service,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        yield Client(service, http, stream)


@dataclass
class Program:
    """``verifier serve`` as a process of its own."""

    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.text += line.decode()
            with suppress(ValueError):
                self.lines.append(json.loads(line))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") == name]

    @property
    def address(self) -> str:
        return str(self.events("serving")[0]["address"])

    @property
    def place(self) -> tuple[str, int]:
        host, _, port = self.address.rpartition(":")
        return host, int(port)


@asynccontextmanager
async def program(config: dict[str, Any], folder: Path) -> AsyncIterator[Program]:
    """From when it serves, or has ended."""
    file = folder / "verifier.json"
    file.write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "verifier",
        *("serve", "--config", file),
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    made = Program(process)
    reading = asyncio.create_task(made.read())
    try:
        await eventually(lambda: made.events("serving") or reading.done(), within=20)
        yield made
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        await reading


def children(of: int) -> set[int]:
    """The workers of a process that live."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == of and state != "Z" and "verifier.cli.worker" in (place / "cmdline").read_text():
                found.add(int(place.name))
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def a_worker() -> int:
    return min(children(os.getpid()))
