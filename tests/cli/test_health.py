"""``verifier health`` against a running service."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support import AUD, Client, FakeIssuer, eventually, free_port, serve, settings
from verifier.cli import main
from verifier.cli.health import _reachable


async def health(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["health", *arguments], catch_exceptions=False)


@pytest.fixture
async def ready(client: Client) -> Client:
    await eventually(lambda: client.metric("verifier_key_set_keys"))
    return client


async def test_a_service_that_is_ready_is_well(ready: Client) -> None:
    assert (await health("--ops", ready.service.ops_address)).exit_code == 0
    assert (await health("--ops", ready.service.ops_address, "--ready")).exit_code == 0


async def test_one_that_has_no_keys_lives_and_is_not_ready(issuer: FakeIssuer) -> None:
    await issuer.stop()
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        assert (await health("--ops", client.service.ops_address)).exit_code == 0
        told = await health("--ops", client.service.ops_address, "--ready")
        assert (told.exit_code, '"ready":false' in told.output) == (1, True)


async def test_where_nobody_answers_it_says_whom_it_asked() -> None:
    address = f"127.0.0.1:{free_port()}"
    told = await health("--ops", address)
    assert (told.exit_code, address in told.output) == (1, True)


async def test_the_address_is_what_the_file_says_and_mistakes_in_it_are_nothing_to_it(
    ready: Client, tmp_path: Path
) -> None:
    file = tmp_path / "verifier.yaml"
    file.write_text(f"ops: {{listen: '{ready.service.ops_address}'}}\nissuers: nonsense\n")
    assert (await health("--config", str(file))).exit_code == 0


async def test_the_environment_comes_before_the_file(
    ready: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "verifier.yaml"
    file.write_text(f"ops: {{listen: '127.0.0.1:{free_port()}'}}\n")
    monkeypatch.setenv("VERIFIER_CONFIG", str(file))
    assert (await health()).exit_code == 1
    monkeypatch.setenv("VERIFIER__OPS__LISTEN", ready.service.ops_address)
    assert (await health()).exit_code == 0


async def test_a_default_that_the_image_changes_comes_after_the_file(
    ready: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "verifier.yaml"
    file.write_text("issuers: []\n")
    monkeypatch.setenv("VERIFIER_DEFAULT__OPS__LISTEN", ready.service.ops_address)
    assert (await health("--config", str(file))).exit_code == 0
    file.write_text(f"ops: {{listen: '127.0.0.1:{free_port()}'}}\n")
    assert (await health("--config", str(file))).exit_code == 1


@pytest.mark.parametrize("content", ["", "[", "ops: 3", "other: {}", "ops: {}", b"\xff"])
async def test_a_file_that_says_nothing_about_it_means_the_default(
    content: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free_port()}"  # where nobody is, as somebody may be at the real one
    monkeypatch.setenv("VERIFIER_DEFAULT__OPS__LISTEN", address)
    file = tmp_path / "verifier.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert address in (await health("--config", str(file))).output


@pytest.mark.parametrize("address", ["here", "here:port", "127.0.0.1:99999"])
async def test_an_address_that_is_none_is_told(address: str) -> None:
    assert (await health("--ops", address)).exit_code == 1


@pytest.mark.parametrize(
    ("listens", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1"), ("[::]", "::1"), ("[::1]", "::1"), ("a.example", "a.example")],  # noqa: S104
)
def test_one_that_listens_everywhere_is_asked_on_loopback(listens: str, asked: str) -> None:
    assert _reachable(listens) == asked
