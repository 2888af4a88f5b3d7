"""What the documentation says is what the program does."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.generated_docs import documents
from verifier.cli import main
from verifier.config import Settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", documents())
def test_the_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == documents()[name], "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def configurations() -> list[tuple[str, str]]:
    found = ((page.name, page.read_text("utf-8")) for page in PAGES)
    blocks = ((name, block) for name, text in found for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    return [(name, block) for name, block in blocks if block.startswith("issuers:")]


@pytest.mark.parametrize(("page", "text"), configurations())
def test_every_configuration_that_is_shown_can_be_used(page: str, text: str) -> None:
    assert Settings(**yaml.safe_load(text)).issuers


def test_configurations_are_shown() -> None:
    assert len(configurations()) >= 2


def commands() -> list[str]:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    return sorted(set(re.findall(r"^(?:\$ )?verifier ([a-z-]+)", text, re.MULTILINE)))


@pytest.mark.parametrize("command", commands())
def test_every_command_that_is_shown_exists(command: str) -> None:
    assert CliRunner().invoke(main, [*shlex.split(command), "--help"]).exit_code == 0


def test_the_version_stands_in_the_changelog_or_is_unreleased() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
