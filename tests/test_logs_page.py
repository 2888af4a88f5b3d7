"""docs/logs.md has every event that the service writes, and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEVELS = {"debug", "info", "warning", "error"}
SAID_OTHERWISE = {"deny", "undecided"}
"""Events whose name is the outcome of a decision."""


def written() -> Iterator[str]:
    """The texts that come first in calls of a logger's methods, or of one of them that was chosen before."""
    for path in (ROOT / "verifier").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                not isinstance(node, ast.Call)
                or not node.args
                or not isinstance(getattr(node.args[0], "value", None), str)
            ):
                continue
            called = node.func
            is_method = isinstance(called, ast.Attribute) and called.attr in LEVELS
            if is_method or (isinstance(called, ast.Name) and called.id == "write"):
                yield ast.literal_eval(node.args[0])


def test_every_event_is_documented_and_no_other() -> None:
    rows = [line for line in (ROOT / "docs/logs.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    documented = {line.split("`")[1] for line in rows}
    assert documented == {*written(), *SAID_OTHERWISE, "library"}
