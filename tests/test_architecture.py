"""The rules of the house that a reader relies on, read off the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "verifier"
MODULES = sorted(ROOT.rglob("*.py"))

# Low to high. What stands in one set may not import each other, but for the pairs below.
LAYERS = (
    {"core", "background"},
    {"remembered"},
    {"ports"},
    {"inquiry"},
    {"engine"},
    {"surfaces", "remote", "store", "observability", "presets", "config"},
    {"server"},
    {"app"},
    {"cli", "dev"},
)
BESIDE = {
    ("config", "presets"),  # an issuer's settings begin with its preset's
    ("config", "store"),  # likewise which addresses of Redis there are
    ("config", "remote"),  # one rule says which addresses keys may come from
    ("cli", "dev"),
    ("dev", "core"),
}


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rank(name: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    own = part(path)
    for name in imports(path):
        if not name.startswith("verifier.") or own == "__init__" or name == "verifier.__version__":
            continue
        other = name.split(".")[1]
        assert other == own or rank(other) < rank(own) or (own, other) in BESIDE, f"{path} imports {name}"


def test_a_refusal_is_caught_by_those_who_decide_or_explain() -> None:
    catching = {
        str(path.relative_to(ROOT))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ExceptHandler) and node.type is not None and "Rejected" in ast.unparse(node.type)
    }
    assert catching == {
        "engine.py",
        "inquiry.py",
        "core/bearer.py",  # no token is no refusal where none is needed
        "core/explanation.py",
        "core/identity.py",  # what another replica packed and does not hold here is a miss
        "core/paths.py",  # whether two spellings are of one path
        "core/policy.py",  # whether demands are met, where it is not the request's that are asked about
        "core/routes.py",  # a path that cannot be read in one way is a rule that denies
        "core/revoking.py",  # an administrator is told what is wrong with the token to revoke
        "core/trial.py",  # what would be refused is told, and nothing else comes of it
        "cli/explain.py",
    }


def test_only_the_configuration_reads_the_environment() -> None:
    reading = {
        part(path)
        for path in MODULES
        if {"environ", "getenv"} & set(path.read_text("utf-8").replace("(", ".").replace("[", ".").split("."))
    }
    assert reading == {"config"}
