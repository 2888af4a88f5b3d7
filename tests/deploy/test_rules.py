"""The rules of ``deploy/prometheus`` and the pages about them. What promtool says of them, and that a running service
answers them, tests/e2e/monitoring shows."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import promql
from tests.dashboards import documents
from tests.deploy import exposed
from verifier.observability.metrics import BUCKETS, LOOP_BUCKETS

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
INDEX = RUNBOOKS / "README.md"
ADDRESS = "https://github.com/token-verifier/token-verifier/blob/main/docs/runbooks/{}.md"
CHAPTERS = ["What it means", "What users feel", "First look", "Likely causes", "What to do", "When it is over"]

ALERTS = {rule["alert"]: rule for rule in promql.alerts()}
PAGES = {path.stem: path for path in RUNBOOKS.glob("*.md") if path != INDEX}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == ADDRESS.format(alert)


def test_names_of_alerts_are_told_apart() -> None:
    assert len(ALERTS) == len(promql.alerts())


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert sorted(PAGES) == sorted(ALERTS)


@pytest.mark.parametrize("alert", PAGES)
def test_a_page_answers_the_questions_of_whoever_was_woken(alert: str) -> None:
    text = PAGES[alert].read_text("utf-8")
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == CHAPTERS
    assert [chapter for chapter in text.split("\n## ")[1:] if len(chapter.partition("\n")[2].strip()) < 20] == []


@pytest.mark.parametrize("alert", PAGES)
def test_a_page_gives_a_query_and_asks_for_what_exists(alert: str) -> None:
    blocks = re.findall(r"```promql\n(.*?)```", PAGES[alert].read_text("utf-8"), re.DOTALL)
    assert blocks
    asked = {name for block in blocks for line in block.splitlines() for name in promql.metrics(line.partition("#")[0])}
    assert asked <= exposed.known()


def test_the_index_names_each_page_with_how_bad_it_is() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", INDEX.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted((name, name, rule["labels"]["severity"]) for name, rule in ALERTS.items())


@pytest.mark.parametrize("rule", [*promql.recording(), *promql.alerts()], ids=lambda rule: next(iter(rule.values())))
def test_what_a_rule_asks_for_exists(rule: dict[str, Any]) -> None:
    assert promql.metrics(rule["expr"]) <= exposed.known()


def test_what_is_recorded_is_used() -> None:
    used = {name for rule in promql.alerts() for name in promql.metrics(rule["expr"])}
    shown = "".join(documents().values())
    assert [name for name in exposed.recorded() if name not in used and name not in shown] == []


@pytest.mark.parametrize("ratio", ["job:verifier_unanswered:ratio_rate", "job:verifier_slow:ratio_rate"])
def test_the_rules_of_an_objective_differ_in_nothing_but_their_window(ratio: str) -> None:
    found = {
        rule["record"].removeprefix(ratio): rule["expr"]
        for rule in promql.recording()
        if rule["record"].startswith(ratio)
    }
    assert list(found) == ["5m", "30m", "1h", "2h", "6h", "1d", "3d"]
    assert len({expr.replace(f"[{window}]", "[WINDOW]") for window, expr in found.items()}) == 1


def test_bounds_of_times_are_bounds_of_buckets() -> None:
    """Between two bounds a histogram knows nothing."""
    slow = {bound for rule in promql.recording() for bound in re.findall(r'le="([^"]+)"', rule["expr"])}
    delayed = ALERTS["VerifierEventLoopDelayed"]["expr"].rpartition("> ")[2]
    assert {float(bound) for bound in slow} <= set(BUCKETS)
    assert float(delayed) in LOOP_BUCKETS


def cases() -> list[tuple[str, bool]]:
    """Of ``promtool test rules``: the alert, and whether it is to fire."""
    files = sorted((promql.PROMETHEUS / "tests").glob("*.yml"))
    tests = [test for file in files for test in yaml.safe_load(file.read_text("utf-8"))["tests"]]
    return [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]


@pytest.mark.parametrize("fires", [True, False], ids=["firing", "silent"])
def test_every_alert_is_tried(fires: bool) -> None:
    tried = Counter(alert for alert, fired in cases() if fired is fires)
    assert [alert for alert in ALERTS if not tried[alert]] == []


def test_prometheus_reads_the_rules() -> None:
    example = yaml.safe_load((promql.PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    assert example["rule_files"] == list(promql.RULE_FILES)
    pattern = next(iter(re.findall(r'job=~"([^"]+)"', ALERTS["VerifierTargetDown"]["expr"])))
    assert all(re.fullmatch(pattern, job["job_name"]) for job in example["scrape_configs"])


@pytest.mark.parametrize("file", promql.RULE_FILES)
def test_a_rule_file_can_stand_under_the_spec_of_a_prometheus_rule(file: str) -> None:
    """As docs/monitoring.md says how to make one."""
    text = (promql.PROMETHEUS / file).read_text("utf-8")
    embedded = "spec:\n" + re.sub("(?m)^", "  ", text)
    assert yaml.safe_load(embedded)["spec"] == yaml.safe_load(text)
