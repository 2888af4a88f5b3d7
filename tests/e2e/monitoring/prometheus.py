"""Debian's Prometheus, with the rules of ``deploy/prometheus``, and its promtool."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests import promql
from tests.e2e.gateways.programs import require
from tests.support import eventually, free_port

JOB = {"namespace": "test", "job": "verifier"}
HOW_TO_GET = "apt-get install prometheus"
DAY = 86_400


def promtool(*arguments: str | Path, given: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    program = require("promtool", HOW_TO_GET)
    return subprocess.run([program, *arguments], input=given, capture_output=True, check=False, timeout=60)


@dataclass
class Prometheus:
    url: str
    http: aiohttp.ClientSession

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples of now. Raises ``ValueError`` with what Prometheus says about a query that it cannot answer."""
        async with self.http.post(f"{self.url}/api/v1/query", data={"query": expr}) as answer:
            said = await answer.json()
        if said["status"] != "success":
            raise ValueError(f"{expr}: {said['error']}")
        data = said["data"]
        return data["result"] if data["resultType"] == "vector" else [{"metric": {}, "value": data["result"]}]

    async def label_values(self, label: str, selector: str) -> list[str]:
        asked = {"match[]": selector}
        async with self.http.get(f"{self.url}/api/v1/label/{label}/values", params=asked) as answer:
            return list((await answer.json())["data"])


def write_rules(folder: Path) -> None:
    """Those of ``deploy/prometheus``, but that no alert waits before it fires."""
    for file in promql.RULE_FILES:
        rules = yaml.safe_load((promql.PROMETHEUS / file).read_text("utf-8"))
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule.pop("for", None)
        (folder / file).write_text(yaml.safe_dump(rules))


def write_configuration(folder: Path, targets: Sequence[str]) -> Path:
    """The example in ``deploy/prometheus`` with short intervals and our targets."""
    made = yaml.safe_load((promql.PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    made["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    labels = {"namespace": JOB["namespace"]}
    made["scrape_configs"][0]["static_configs"] = [{"targets": [*targets], "labels": labels}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(made))
    return file


def write_yesterday(folder: Path, series: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
    """What the rules would have recorded a day ago: these values, for ten minutes before and after."""
    moments = range(int(time.time()) - DAY - 600, int(time.time()) - DAY + 600, 10)
    lines = []
    for name, labels, value in series:
        named = ",".join(f"{label}={json.dumps(text)}" for label, text in {**JOB, **labels}.items())
        lines += [f"# TYPE {name} gauge", *(f"{name}{{{named}}} {value} {moment}" for moment in moments)]
    file = folder / "yesterday.om"
    file.write_text("\n".join([*lines, "# EOF", ""]))
    made = promtool("tsdb", "create-blocks-from", "openmetrics", file, folder / "data")
    assert made.returncode == 0, made.stderr.decode()


@asynccontextmanager
async def prometheus(folder: Path, targets: Sequence[str]) -> AsyncIterator[Prometheus]:
    """One that scrapes ``targets`` each second, from when it answers. What ``folder/data`` holds, it knows."""
    program = require("prometheus", HOW_TO_GET)
    write_rules(folder)
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={write_configuration(folder, targets)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as http:
            made = Prometheus(f"http://{address}", http)
            await eventually(lambda: _is_ready(made), within=20)
            yield made
    finally:
        process.kill()
        await process.wait()


async def _is_ready(made: Prometheus) -> bool:
    try:
        async with made.http.get(f"{made.url}/-/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
