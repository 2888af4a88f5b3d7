"""What the chart and its page take over: the schema of `config`, rules and dashboards, the table of values."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from verifier.config import Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "verifier"
PAGE = "kubernetes.md"
BEGIN, END = "<!-- values: written by make docs -->\n", "<!-- end of values -->"
_COMMENT = re.compile(r"^(?P<indent> *)# -- (?P<text>.*)")
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]+):")


def documents() -> Mapping[str, str]:
    """File name, beside ``docs/`` → what must stand in it."""
    return {
        PAGE: _with_table((ROOT / "docs" / PAGE).read_text("utf-8")),
        "../helm/verifier/values.schema.json": json.dumps(schema(), indent=2) + "\n",
        **{f"../{copy.relative_to(ROOT)}": source.read_text("utf-8") for copy, source in copies().items()},
    }


def copies() -> Mapping[Path, Path]:
    """Files of the chart → those that they are copies of: Helm packs nothing that lies outside of the chart."""
    rules = {CHART / "files/prometheus" / path.name: path for path in (ROOT / "deploy/prometheus").glob("*.yml")}
    boards = {CHART / "files/grafana" / path.name: path for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
    return {copy: source for copy, source in (rules | boards).items() if source.name != "prometheus.yml"}


@cache
def schema() -> Mapping[str, Any]:
    """That of the values, with the product's own in the place of `config`. What is beside it is written by hand."""
    written = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    config = Settings.model_json_schema()
    # Whether there are issuers, the templates ask: they may come from elsewhere.
    kept = {key: value for key, value in config.items() if key not in {"$defs", "required"}}
    return {**written, "properties": {**written["properties"], "config": kept}, "$defs": config["$defs"]}


@cache
def values() -> Mapping[str, Any]:
    read: Mapping[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return read


def described() -> Iterator[tuple[str, str]]:
    """Each value's path and what its comment says, in their order."""
    path: list[str] = []
    text = ""
    for line in (CHART / "values.yaml").read_text("utf-8").splitlines():
        if comment := _COMMENT.match(line):
            text = comment["text"]
        elif key := _KEY.match(line):
            path = [*path[: len(key["indent"]) // 2], key["key"]]
            if text:
                yield ".".join(path), text
            text = ""


def value_at(path: str) -> Any:
    found: Any = values()
    for step in path.split("."):
        found = found[step]
    return found


def _with_table(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = (f"| `{path}` | {_shown(value_at(path))} | {text} |" for path, text in described())
    return "\n".join([before + BEGIN, "| Value | Default | Means |", "|---|---|---|", *rows, "", END + after])


def _shown(value: Any) -> str:
    if value in ("", [], {}):
        return "–"
    text = json.dumps(value).replace("|", "\\|")
    return f"`{text}`" if len(text) <= 60 else "see `values.yaml`"
