"""The dashboards of ``deploy/grafana``, written once here: ``make docs`` makes the JSON."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.dashboards import caches, issuers, overview

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"


def documents() -> Mapping[str, str]:
    """File name → what must stand in it."""
    made = {
        "overview.json": overview.made(),
        "issuers.json": issuers.made(),
        "caches.json": caches.made(),
    }
    return {name: json.dumps(dashboard, indent=2) + "\n" for name, dashboard in made.items()}
