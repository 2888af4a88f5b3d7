"""The dashboards of ``deploy/grafana``. That their queries are answered, tests/e2e/monitoring shows."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import promql
from tests.dashboards import FOLDER, documents
from tests.deploy import exposed

DASHBOARDS = {name: json.loads(text) for name, text in documents().items()}
UIDS = {"token-verifier-overview", "token-verifier-issuers", "token-verifier-caches"}
"""Others link to them."""

OF_GRAFANA = {"__range", "__rate_interval", "datasource"}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the headings of rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


ALL_PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in panels(dashboard)
]


def queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def asked(dashboard: dict[str, Any]) -> set[str]:
    """Names of the series that its panels show."""
    return {name for panel in panels(dashboard) for expr in queries(panel) for name in promql.metrics(expr)}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_json_is_what_the_source_makes(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == documents()[name], "run: make docs"


def test_there_is_no_json_without_a_source() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(DASHBOARDS)


def test_what_identifies_them_stays() -> None:
    assert {dashboard["uid"] for dashboard in DASHBOARDS.values()} == UIDS


@pytest.mark.parametrize("panel", ALL_PANELS)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]


@pytest.mark.parametrize("panel", ALL_PANELS)
def test_a_panel_asks_the_data_source_that_was_chosen(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


@pytest.mark.parametrize("panel", ALL_PANELS)
def test_what_a_panel_asks_for_exists(panel: dict[str, Any]) -> None:
    assert {name for expr in queries(panel) for name in promql.metrics(expr)} <= exposed.known()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_what_its_variables_and_annotations_ask_for_exists(name: str) -> None:
    dashboard = DASHBOARDS[name]
    asking = [variable["definition"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    inner = [re.fullmatch(r"label_values\((.*), \w+\)", query) for query in asking]
    expressions = [found[1] for found in inner if found] + [each["expr"] for each in dashboard["annotations"]["list"]]
    assert len(expressions) == len(asking) + len(dashboard["annotations"]["list"])
    assert {name for expr in expressions for name in promql.metrics(expr)} <= exposed.known()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_variable_that_is_used_is_there_and_one_that_is_there_is_used(name: str) -> None:
    dashboard = DASHBOARDS[name]
    text = json.dumps([dashboard["panels"], dashboard["templating"], dashboard["annotations"]])
    used = set(re.findall(r"\$\{?([a-z_]\w*)", text)) - {"__all"}
    there = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert used - OF_GRAFANA == there - OF_GRAFANA


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_a_place_and_a_title_of_their_own(name: str) -> None:
    shown = panels(DASHBOARDS[name])
    assert len({panel["title"] for panel in shown}) == len(shown)
    assert len({panel["id"] for panel in DASHBOARDS[name]["panels"]}) == len(DASHBOARDS[name]["panels"])
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARDS[name]["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert max(one["x"] + one["w"], other["x"] + other["w"]) <= 24


def test_every_metric_of_the_service_is_shown_somewhere() -> None:
    shown = set().union(*(asked(dashboard) for dashboard in DASHBOARDS.values()))
    behind = {name for rule in promql.recording() if rule["record"] in shown for name in promql.metrics(rule["expr"])}
    assert [name for name, series in exposed.families().items() if not series & (shown | behind)] == []


def test_the_overview_turns_red_where_the_objective_is_missed() -> None:
    objectives = {rule["record"]: rule["expr"] for rule in promql.recording() if rule["expr"].startswith("vector(")}
    answered = next(
        each for each in panels(DASHBOARDS["overview.json"]) if each["title"] == "Answered in the last hour"
    )
    steps = answered["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert objectives["verifier:availability:objective"] == f"vector({steps[1]['value']})"


def test_the_line_for_gateways_is_half_of_what_they_wait() -> None:
    waits = next(rule["expr"] for rule in promql.recording() if rule["record"] == "verifier:gateway_timeout:seconds")
    time = next(each for each in panels(DASHBOARDS["overview.json"]) if each["title"] == "Time of decisions")
    assert waits == f"vector({2 * time['fieldConfig']['defaults']['thresholds']['steps'][1]['value']:g})"


def test_grafana_finds_them_where_its_files_say() -> None:
    provisioning = Path(FOLDER).parent / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text("utf-8"))["datasources"][0]
    provider = yaml.safe_load((provisioning / "dashboards" / "token-verifier.yml").read_text("utf-8"))["providers"][0]
    assert source["type"] == "prometheus"
    assert (provider["type"], provider["options"]) == ("file", {"path": "/var/lib/grafana/dashboards"})
