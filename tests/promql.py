"""Just enough of PromQL to find what an expression asks for, and the rule files that hold expressions."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).parents[1] / "deploy" / "prometheus"
RULE_FILES = ("recording.yml", "alerts.yml")

_TOKEN = re.compile(
    r"""
      (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<matchers>\{(?:[^}"]|"(?:[^"\\]|\\.)*")*\})
    | (?P<range>\[[^\]]*\])
    | (?P<offset>\boffset\s+\w+)
    | (?P<labels>\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\))
    | (?P<number>\d[\w.]*)
    | (?P<function>[A-Za-z_]\w*(?=\s*\())
    | (?P<name>[A-Za-z_:][\w:]*)
    """,
    re.VERBOSE,
)
_WORDS = {"and", "or", "unless", "bool", "inf", "nan"}
_BEFORE_THEIR_LABELS = {"sum", "min", "max", "count", "avg", "count_values", "topk"}


def selectors(expr: str) -> list[str]:
    """The instant selectors of ``expr``, each once, in order: a name with its matchers and its offset."""
    found: list[str] = []
    is_open = False
    for token in _TOKEN.finditer(expr):
        kind, text = token.lastgroup, token.group()
        if kind == "name" and text.lower() not in _WORDS | _BEFORE_THEIR_LABELS:
            found.append(text)
            is_open = True
        elif kind == "matchers" and is_open:
            found[-1] += text
            is_open = False
        elif kind == "matchers":
            found.append(text)
        elif kind == "offset":
            found[-1] += f" {text}"
            is_open = False
        else:
            is_open = False
    return list(dict.fromkeys(found))


def metrics(expr: str) -> set[str]:
    """Names of the series that ``expr`` asks for."""
    return {name for selector in selectors(expr) for name in _names(selector)}


def _names(selector: str) -> Iterator[str]:
    """Those of a selector, also where it has them in ``__name__``."""
    name, _, matchers = selector.partition(" offset ")[0].partition("{")
    listed = re.search(r'__name__=~"(\w*)\(([^)]*)\)(\w*)"', matchers)
    if listed:
        yield from (f"{listed[1]}{one}{listed[3]}" for one in listed[2].split("|"))
    else:
        yield name


@cache
def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / file).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recording() -> list[dict[str, Any]]:
    return rules("recording.yml")


def alerts() -> list[dict[str, Any]]:
    return rules("alerts.yml")
