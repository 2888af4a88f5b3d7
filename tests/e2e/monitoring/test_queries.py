"""A real Prometheus answers every query of the dashboards and rules with what a running service exposes."""

import base64
import json
import math
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests import promql
from tests.dashboards import documents
from tests.e2e.gateways.programs import require
from tests.e2e.monitoring.prometheus import HOW_TO_GET, Prometheus, prometheus, write_yesterday
from tests.e2e.monitoring.scene import happen, scene
from tests.redis_servers import redis_server
from tests.support import eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("monitoring"),
]

DASHBOARDS = {name: json.loads(text) for name, text in documents().items()}
VARIABLES = {each["name"]: each for each in DASHBOARDS["overview.json"]["templating"]["list"]}
RUNBOOKS = Path(__file__).parents[3] / "docs" / "runbooks"

LOOKS = 4
"""Seconds for Prometheus to look, at one a second, and to carry the rules out on what it saw."""

INTERVALS = {"__rate_interval": "2m", "__range": "5m"}

YESTERDAY: tuple[tuple[str, dict[str, str], float], ...] = (
    ("job:verifier_denials:ratio_rate1h", {}, 0.01),
    ("job:verifier_decisions:rate1h", {}, 2.0),
    ("job_issuer:verifier_denials:ratio_rate1h", {"issuer": "main"}, 0.01),
    ("job_issuer:verifier_decisions:rate1h", {"issuer": "main"}, 2.0),
)
"""Name, labels and value of what was recorded a day ago."""

FIRING = {
    "VerifierNoKeys",  # of the issuer that was never there
    "VerifierKeysStale",  # of the one that went down
    "VerifierKeysOld",
    "VerifierConfigDiffers",  # the ports of the two replicas
    "VerifierCertificateExpiresSoon",
    "VerifierCertificateAboutToExpire",
}
"""Some of the alerts that the scene must cause where they wait for nothing."""


@dataclass(frozen=True)
class Asked:
    """A query, and labels that one of its samples must have. Its ``selectors`` are queries too: where parts are joined
    by ``or``, one of them would hide that another asks for nothing."""

    expr: str
    labels: frozenset[str] = frozenset()

    @property
    def selectors(self) -> list[str]:
        """Without offsets of minutes, as nobody knows what was before the scene began."""
        return [re.sub(r" offset \d+m$", "", selector) for selector in promql.selectors(self.expr)]


@dataclass(frozen=True)
class Watched:
    """A Prometheus that has seen everything, and what Grafana would offer for the variables."""

    prometheus: Prometheus
    values: dict[str, list[str]]

    def as_grafana_asks(self, expr: str) -> str:
        """``expr`` with everything chosen."""
        return substituted(expr, self.values)

    async def data(self, expr: str) -> list[dict[str, Any]]:
        """The samples that hold a number."""
        found = await self.prometheus.query(self.as_grafana_asks(expr))
        return [sample for sample in found if not math.isnan(float(sample["value"][1]))]


def substituted(expr: str, values: dict[str, list[str]]) -> str:
    def one(found: re.Match[str]) -> str:
        name = found[1]
        if name in INTERVALS:
            return INTERVALS[name]
        everything = VARIABLES[name]["allValue"]
        return everything or f"({'|'.join(re.escape(value).replace(chr(92), 2 * chr(92)) for value in values[name])})"

    return re.sub(r"\$([a-z_]+)", one, expr)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    require("prometheus", HOW_TO_GET)
    require("promtool", HOW_TO_GET)
    folder = tmp_path_factory.mktemp("monitoring")
    (folder / "cache-key").write_bytes(base64.b64encode(secrets.token_bytes(32)))
    write_yesterday(folder, YESTERDAY)
    with redis_server() as redis:
        async with scene(folder, redis) as made, prometheus(folder, made.targets) as watching:
            await eventually(lambda: watching.query(f"count(up == 1) == {len(made.targets)}"), within=30)
            await happen(made)
            happened = time.time()
            await eventually(lambda: watching.query(f"min(timestamp(up)) > {happened + LOOKS}"), within=30)
            yield Watched(watching, await _offered(watching))


async def _offered(watching: Prometheus) -> dict[str, list[str]]:
    """Each variable in its turn, as they depend on those before."""
    values: dict[str, list[str]] = {}
    for name, variable in VARIABLES.items():
        if variable["type"] == "query":
            query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            assert query is not None
            values[name] = await watching.label_values(query[2], substituted(query[1], values))
    return values


def of_panels() -> list[Any]:
    """Each query of each panel, with the labels that its legend or its columns name."""
    found = []
    for file, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            shown = [each["options"]["include"]["names"] for each in panel.get("transformations", [])[:1]]
            for target in panel.get("targets", []):
                labels = {
                    *re.findall(r"{{(\w+)}}", target["legendFormat"]),
                    *(name for names in shown for name in names),
                }
                name = f"{file}-{panel['title']}-{target['refId']}"
                found.append(pytest.param(Asked(target["expr"], frozenset(labels - {"Value"})), id=name))
    return found


def of_alerts() -> list[Any]:
    return [pytest.param(Asked(rule["expr"]), id=rule["alert"]) for rule in promql.alerts()]


def of_recording() -> list[Any]:
    return [
        pytest.param(Asked(rule["expr"]), id=rule["record"])
        for rule in promql.recording()
        if promql.selectors(rule["expr"])
    ]


def of_runbooks() -> list[Any]:
    """What each page says to ask."""
    texts = {page.stem: page.read_text("utf-8") for page in sorted(RUNBOOKS.glob("Verifier*.md"))}
    blocks = {name: re.findall(r"```promql\n(.*?)```", text, re.DOTALL) for name, text in texts.items()}
    return [pytest.param("".join(found).splitlines(), id=name) for name, found in blocks.items()]


def of_annotations() -> list[Any]:
    first = DASHBOARDS["overview.json"]["annotations"]["list"]
    return [pytest.param(Asked(each["expr"]), id=each["name"]) for each in first]


@pytest.mark.parametrize("asked", of_panels())
async def test_the_query_of_a_panel_is_answered(asked: Asked, watched: Watched) -> None:
    found = await watched.data(asked.expr)
    assert found, watched.as_grafana_asks(asked.expr)
    assert asked.labels <= {label for sample in found for label in sample["metric"]}


@pytest.mark.parametrize("asked", [*of_panels(), *of_recording(), *of_alerts(), *of_annotations()])
async def test_each_part_of_a_query_is_answered(asked: Asked, watched: Watched) -> None:
    assert asked.selectors
    assert [part for part in asked.selectors if not await watched.prometheus.query(watched.as_grafana_asks(part))] == []


@pytest.mark.parametrize("queries", of_runbooks())
async def test_prometheus_understands_the_queries_of_a_runbook(queries: list[str], watched: Watched) -> None:
    assert queries
    for query in queries:
        await watched.prometheus.query(query)


@pytest.mark.parametrize("name", [rule["record"] for rule in promql.recording()])
async def test_a_rule_records_something(name: str, watched: Watched) -> None:
    assert await watched.data(name)


async def test_prometheus_carries_all_rules_out(watched: Watched) -> None:
    async with watched.prometheus.http.get(f"{watched.prometheus.url}/api/v1/rules") as answer:
        groups = (await answer.json())["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(promql.recording()) + len(promql.alerts())
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


async def test_what_goes_wrong_is_alerted_of(watched: Watched) -> None:
    found = await watched.data('ALERTS{alertstate="firing"}')
    assert {sample["metric"]["alertname"] for sample in found} >= FIRING


@pytest.mark.parametrize("name", [name for name, variable in VARIABLES.items() if variable["type"] == "query"])
async def test_there_is_something_to_choose(name: str, watched: Watched) -> None:
    assert watched.values[name]
