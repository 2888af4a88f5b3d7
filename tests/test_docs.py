"""What the documentation says is what the program does."""

import re
import shlex
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from click.testing import CliRunner

from tests import gateway_pages
from tests.e2e.gateways.gateways import DEPLOY, Gateway
from tests.e2e.gateways.kinds import GATEWAYS
from tests.generated_docs import documents
from verifier.cli import main
from verifier.config import Settings
from verifier.surfaces.identity_headers import IdentityHeaders

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", documents())
def test_the_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == documents()[name], "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def configurations() -> list[tuple[str, str]]:
    found = ((page.name, page.read_text("utf-8")) for page in PAGES)
    written = ((name, block) for name, text in found for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    blocks = ((name, dedent(block)) for name, block in written)
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


# What these pages say that clients see, tests/e2e/gateways/ proves with the real programs.


@pytest.mark.parametrize("kind", GATEWAYS, ids=lambda kind: kind.name)
def test_the_page_of_a_gateway_says_what_it_answers_for_a_verifier_that_does_not(kind: type[Gateway]) -> None:
    said = gateway_pages.statuses(kind.name)
    assert tuple(said) == gateway_pages.CASES
    assert said[gateway_pages.DEAD] == kind.when_dead
    assert said[gateway_pages.SLOW] == kind.when_slow


@pytest.mark.parametrize("kind", GATEWAYS, ids=lambda kind: kind.name)
def test_the_index_of_gateways_says_the_same_and_names_the_files(kind: type[Gateway]) -> None:
    _, files, *statuses = gateway_pages.row(kind.name)
    said = gateway_pages.statuses(kind.name)
    cases = (gateway_pages.UNDECIDED, gateway_pages.DEAD, gateway_pages.SLOW, gateway_pages.AMBIGUOUS)
    assert statuses == [str(said[case]) for case in cases]
    assert sorted(files.replace("`", "").split(", ")) == sorted(
        str(path.relative_to(DEPLOY)) for path in (DEPLOY / kind.name).iterdir()
    )


@pytest.mark.parametrize("kind", GATEWAYS, ids=lambda kind: kind.name)
def test_the_page_of_a_gateway_names_its_files(kind: type[Gateway]) -> None:
    text = (gateway_pages.PAGES / f"{kind.name}.md").read_text("utf-8")
    assert [path.name for path in (DEPLOY / kind.name).iterdir() if str(path.relative_to(ROOT)) not in text] == []


def test_every_page_about_a_gateway_is_in_the_index() -> None:
    index = gateway_pages.INDEX.read_text("utf-8")
    pages = {page.name for page in gateway_pages.PAGES.glob("*.md")} - {gateway_pages.INDEX.name}
    assert [page for page in sorted(pages) if f"]({page})" not in index] == []


def identities(text: str, name: str) -> int:
    """How often a configuration names the header, as it is, with underscores, or by a pattern."""
    text = re.sub(r"(?m)(^|\s)(#|--) .*$", "", text)
    patterns = re.findall(r"\(\?i\)(\^\S+\$)|regex: (\S+)", text)
    written = text.lower().replace("_", "-").count(name.lower())
    return written + sum(re.fullmatch(either or other, name, re.IGNORECASE) is not None for either, other in patterns)


def configurations_of_gateways() -> list[Path]:
    """Those that have to do with identity; Traefik's static configuration has not."""
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    return sorted(path for path in files if identities(path.read_text("utf-8"), "X-Auth-Subject"))


@pytest.mark.parametrize("path", configurations_of_gateways(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_a_gateway_removes_and_copies_every_identity_header_as_it_does_the_subject(path: Path) -> None:
    text = path.read_text("utf-8")
    places = identities(text, "X-Auth-Subject")
    lacking = [name for name, _ in IdentityHeaders().of(None) if identities(text, name) < places]
    assert lacking == []


def test_every_gateway_has_to_do_with_identity() -> None:
    known = {path.relative_to(DEPLOY).parts[0] for path in configurations_of_gateways()}
    assert {path.name for path in DEPLOY.iterdir()} == known
