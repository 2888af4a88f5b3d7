"""The parts of ``docs/`` that are written from the source: ``make docs``. A test fails when they are behind it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.helm import generated as chart
from verifier.config import Settings
from verifier.core.reasons import Reason
from verifier.observability.labels import Named, Values
from verifier.observability.merging import How
from verifier.observability.metrics import Metrics
from verifier.presets import presets
from verifier.surfaces import openapi, surfaces

DOCS = Path(__file__).parents[1] / "docs"
UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def documents() -> Mapping[str, str]:
    """File name → what must stand in it."""
    return {
        "configuration.md": _configuration(),
        "metrics.md": _metrics(),
        "presets.md": _presets(),
        "config.schema.json": json.dumps(Settings.model_json_schema(), indent=2) + "\n",
        "openapi.json": json.dumps(openapi.document(surfaces()), indent=2) + "\n",
        **chart.documents(),
    }


def _configuration() -> str:
    schema = Settings.model_json_schema()
    text = [(DOCS / "configuration.head.md").read_text("utf-8").rstrip(), ""]
    sections = {"": schema, **{name: _resolve(schema, part) for name, part in schema["properties"].items()}}
    for name in ("issuers", "callers"):
        sections[name] = _resolve(schema, sections[name]["items"])
    sections = {title: section for name, part in sections.items() for title, section in _with_parts(schema, name, part)}
    for name, section in sections.items():
        if "properties" not in section:
            continue
        text += [f"## {_title(name)}", "", section.get("description", "") if name else "", ""]
        text += ["| Key | Type | Default | Means |", "|---|---|---|---|", *_rows(schema, section), ""]
    return "\n".join(line for line, after in zip(text, [*text[1:], "x"], strict=True) if line or after) + "\n"


def _with_parts(
    schema: Mapping[str, Any], name: str, section: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The section, and those inside of it that may be left out."""
    yield name, section
    for key, part in section.get("properties", {}).items():
        for option in part.get("anyOf", ()):
            if "$ref" in option:
                yield f"{name}[].{key}", _resolve(schema, option)


def _title(name: str) -> str:
    return {"": "Top level", "issuers": "`issuers[]`", "callers": "`callers[]`"}.get(name, f"`{name}`")


def _resolve(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = part.get("$ref")
    found: Mapping[str, Any] = schema["$defs"][reference.rpartition("/")[2]] if reference else part
    return found


def _rows(schema: Mapping[str, Any], section: Mapping[str, Any]) -> Iterator[str]:
    for name, part in section["properties"].items():
        if "$ref" in part or name == "issuers":
            continue
        default = _default(name, part, section)
        yield f"| `{name}` | {_type(schema, part)} | {default} | {part.get('description', '')} |"


def _type(schema: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return "map"
    if "anyOf" in part:
        kinds = [_type(schema, option) for option in part["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in part or "enum" in part:
        return " or ".join(f"`{value}`" for value in part.get("enum", [part.get("const")])[:4])
    if part.get("type") == "array":
        return "list"
    if "ms|s|m|h|d" in part.get("pattern", ""):
        return "duration"
    return str({"object": "map", "integer": "number", "boolean": "bool"}.get(part["type"], part["type"]))


def _default(name: str, part: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    if name in section.get("required", ()):
        return "mandatory"
    value = part.get("default")
    if value is None:
        return "–"
    if "ms|s|m|h|d" in part.get("pattern", ""):
        return f"`{_duration(value)}`"
    if isinstance(value, list):
        return f"`[{', '.join(value)}]`" if value else "–"
    return f"`{json.dumps(value).strip(chr(34))}`" if value != {} else "–"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    size, unit = next((size, unit) for size, unit in UNITS if seconds % size == 0)
    return f"{seconds / size:g}{unit}"


OF_LIBRARIES = {
    "process_": ("CPU time, memory, descriptors and start of the processes", "sum; of the start, the earliest"),
    "python_gc_": ("Python's garbage collector, by `generation`", "sum"),
    "python_info": ("Python's version, in the labels; always 1", "highest"),
}
"""What the client library brings along: beginning of the name → what it means, and what it is for several workers."""

TOGETHER = {How.SUM: "sum", How.MAX: "highest", How.MIN: "lowest"}


def _metrics() -> str:
    metrics = Metrics()
    text = [(DOCS / "metrics.head.md").read_text("utf-8").rstrip(), ""]
    text += ["| Metric | Type | Labels | Means | Several workers |", "|---|---|---|---|---|"]
    for family in metrics.registry.collect():
        if family.name in metrics.allowed:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = "; ".join(
                f"`{label}`: {_words(allowed)}" for label, allowed in metrics.allowed[family.name].items()
            )
            together = TOGETHER[metrics.gauges.get(family.name, How.SUM)]
            text.append(f"| `{name}` | {family.type} | {labels or '–'} | {family.documentation} | {together} |")
    text += [
        f"| `{name}{'…' if name.endswith('_') else ''}` | | | {means} | {together} |"
        for name, (means, together) in OF_LIBRARIES.items()
    ]
    return "\n".join(text) + "\n"


def _words(allowed: Values) -> str:
    if {*Reason} <= {*allowed}:
        words = ["a [reason](reasons.md)"]
    else:
        words = [word if isinstance(word, Named) else f"`{word}`" for word in allowed if word]
    return ", ".join(words) + (", or empty" if "" in allowed else "")


def _presets() -> str:
    lines = [
        "# Presets",
        "",
        "`preset: NAME` fills an issuer's settings with what the vendor's tokens look like. A setting that you write",
        "replaces the preset's; `required_claims` are added to the preset's own.",
        "",
    ]
    for name, preset in presets().items():
        lines += [f"## `{name}`: {preset.title}", "", preset.note, "", "```yaml"]
        lines += [f"{key}: {json.dumps(value)}" for key, value in preset.defaults.items()]
        lines += ["```", ""]
    return "\n".join(lines)


def main() -> None:
    for name, text in documents().items():
        (DOCS / name).parent.resolve().mkdir(exist_ok=True)
        (DOCS / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
