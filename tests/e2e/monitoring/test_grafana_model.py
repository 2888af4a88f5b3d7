"""Grafana's own description of its JSON, as the package grafana-foundation-sdk has it, knows what the dashboards say.

Grafana itself cannot be had from the registries that these tests use.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dashboards import documents
from tests.e2e.aws.described import require_module

pytestmark = pytest.mark.e2e

OF_THE_DATA_SOURCE = {"definition", "step", "textFormat", "titleFormat"}
"""What the Prometheus data source adds to variables and annotations: the description leaves these to it."""


def as_grafana_reads_it(dashboard: dict[str, Any]) -> Any:
    """Through the description and back: what it does not know is gone."""
    require_module("grafana_foundation_sdk")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415 - of the group e2e
    from grafana_foundation_sdk.cog.plugins import register_default_plugins  # noqa: PLC0415
    from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: PLC0415

    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


def lost(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Where ``theirs`` lacks something of ``ours``, or has something else."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            if name not in OF_THE_DATA_SOURCE and value is not None:
                yield from lost(value, theirs.get(name), f"{place}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(mine, other, f"{place}[{index}]")
    elif ours != theirs:
        yield place


@pytest.mark.parametrize("name", documents())
def test_grafana_knows_everything_that_a_dashboard_says(name: str) -> None:
    dashboard = json.loads(documents()[name])
    assert list(lost(dashboard, as_grafana_reads_it(dashboard))) == []


def test_what_grafana_does_not_know_is_noticed() -> None:
    dashboard = json.loads(documents()["overview.json"])
    dashboard["panels"][1]["options"]["colourMode"] = "background"
    assert list(lost(dashboard, as_grafana_reads_it(dashboard))) == [".panels[1].options.colourMode"]
