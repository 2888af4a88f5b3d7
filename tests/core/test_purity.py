"""The rules that make the core worth believing, read off its source."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "verifier"
CORE = sorted((ROOT / "core").glob("*.py"))
MODULES = sorted(ROOT.rglob("*.py"))

# What cannot wait, tell the time, read the machine or leave a trace. Whatever is not here needs a decision.
STANDARD = {
    "binascii",
    "collections",
    "contextlib",
    "dataclasses",
    "difflib",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "itertools",
    "json",
    "math",
    "re",
    "struct",
    "types",
    "typing",
}
OTHERS = {"joserfc", "cryptography"}
IMPURE = {"open", "print", "input", "eval", "exec", "compile", "breakpoint", "globals", "__import__"}

each_module_of_the_core = pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


def imported(path: Path) -> set[str]:
    """Full names; a relative import keeps its dots, so that no list allows it."""
    found = nodes(path)
    plain = {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    named = [node for node in found if isinstance(node, ast.ImportFrom)]
    return plain | {f"{'.' * node.level}{node.module}.{alias.name}" for node in named for alias in node.names}


def last_name(node: ast.expr) -> str | None:
    """``Allowed`` of ``Allowed`` and of ``verdict.Allowed``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def calls(path: Path, name: str) -> int:
    return sum(isinstance(node, ast.Call) and last_name(node.func) == name for node in nodes(path))


def places(name: str) -> dict[str, int]:
    """Module → how often it builds ``name``."""
    counted = {path.relative_to(ROOT).as_posix(): calls(path, name) for path in MODULES}
    return {place: count for place, count in counted.items() if count}


def test_there_is_a_core_to_look_at() -> None:
    assert len(CORE) > 10


@each_module_of_the_core
def test_the_core_imports_nothing_that_acts(path: Path) -> None:
    foreign = {name for name in imported(path) if not name.startswith("verifier.core")}
    assert {name.split(".")[0] for name in foreign} <= STANDARD | OTHERS


@each_module_of_the_core
def test_the_core_never_waits(path: Path) -> None:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in nodes(path) if isinstance(node, waiting)]


@each_module_of_the_core
def test_the_core_calls_no_builtin_that_acts(path: Path) -> None:
    called = {last_name(node.func) for node in nodes(path) if isinstance(node, ast.Call)}
    allowed_attributes = {"compile"} if "re" in imported(path) else set()
    assert not called & (IMPURE - allowed_attributes)


@each_module_of_the_core
def test_the_core_keeps_no_state(path: Path) -> None:
    assert not [node for node in nodes(path) if isinstance(node, ast.Global | ast.Nonlocal)]


def test_a_principal_is_built_from_checked_claims_alone() -> None:
    assert places("Principal") == {"core/claims.py": 1}


def test_an_allow_is_built_in_one_place() -> None:
    assert places("Allowed") == {"engine.py": 1}


def test_neither_goes_by_another_name() -> None:
    renamed = [node for path in MODULES for node in nodes(path) if isinstance(node, ast.alias) and node.asname]
    assert not [alias.name for alias in renamed if alias.name in {"Principal", "Allowed"}]
