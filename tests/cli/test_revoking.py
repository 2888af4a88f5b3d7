"""``verifier revoke`` and ``verifier revocations`` against a running service."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.support import ADMIN_TOKEN, AUD, Client, FakeIssuer, serve, settings
from verifier.cli import main


@pytest.fixture
async def client(issuer: FakeIssuer, admin_token_file: Path) -> AsyncIterator[Client]:
    ops = {"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)}
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, ops=ops)) as made:
        yield made


@pytest.fixture
def options(client: Client, admin_token_file: Path) -> list[str]:
    return ["--ops", f"http://{client.service.ops_address}", "--admin-token-file", str(admin_token_file)]


async def run(*arguments: str, stdin: str = "") -> Result:
    """In a thread, as the command runs a loop of its own and the service is on this one."""
    return await asyncio.to_thread(CliRunner().invoke, main, arguments, input=stdin, catch_exceptions=False)


async def test_a_revoked_subject_is_refused_listed_and_lifted(
    client: Client, issuer: FakeIssuer, options: list[str]
) -> None:
    token = issuer.token("EdDSA", sub="bob")
    assert (await client.verify(token)).status == 200
    result = await run("revoke", "--issuer", "main", "--sub", "bob", "--reason", "left us", *options)
    assert (result.exit_code, "revoked until" in result.output, "this service alone" in result.output) == (
        0,
        True,
        True,
    )
    assert (await client.verify(token)).reason == "revoked"
    assert (await client.verify(issuer.token("EdDSA"))).status == 200
    table = (await run("revocations", "list", *options)).output
    assert "sub bob" in table
    assert "left us" in table
    found = json.loads((await run("revocations", "list", "--json", *options)).output)
    assert (await run("revocations", "lift", found["revocations"][0]["id"], *options)).exit_code == 0
    assert (await client.verify(token)).status == 200
    assert "nothing is revoked" in (await run("revocations", "list", *options)).output


@pytest.mark.parametrize("stdin", [True, False])
async def test_a_token_is_revoked_by_itself(
    stdin: bool, client: Client, issuer: FakeIssuer, options: list[str]
) -> None:
    token = issuer.token("EdDSA")
    given = ("-", f"{token}\n") if stdin else (token, "")
    assert (await run("revoke", "--token", given[0], *options, stdin=given[1])).exit_code == 0
    assert (await client.verify(token)).reason == "revoked"
    assert (await client.verify(issuer.token("EdDSA", sub="other"))).status == 200


@pytest.mark.parametrize("time", ["now", "1700000000", "2023-11-14T22:13:20Z", "2023-11-14 22:13:20"])
async def test_tokens_issued_before_a_time_are_revoked(
    time: str, client: Client, issuer: FakeIssuer, options: list[str]
) -> None:
    result = await run("revoke", "--issuer", "main", "--issued-before", time, "--for", "2h", "--json", *options)
    made = json.loads(result.output)
    assert time == "now" or made["issued_before"] == 1_700_000_000
    assert 7100 < made["expires_at"] - made["made_at"] <= 7201
    assert (await client.verify(issuer.token("EdDSA", iat=1_600_000_000))).reason == "revoked"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--issuer", "main"], "give one of"),
        (["--issuer", "main", "--sub", "a", "--jti", "b"], "give one of"),
        (["--issuer", "nobody", "--sub", "a"], "expected main"),
        (["--issuer", "main", "--issued-before", "soon"], "--issued-before"),
        (["--issuer", "main", "--sub", "a", "--for", "12"], "--for"),
        (["--token", "a.b.c"], "token"),
    ],
)
async def test_what_cannot_be_revoked_is_said(arguments: list[str], said: str, options: list[str]) -> None:
    result = await run("revoke", *arguments, *options)
    assert result.exit_code == 2
    assert said in result.output


async def test_lifting_what_is_not_there_is_an_error(options: list[str]) -> None:
    result = await run("revocations", "lift", "nothing", *options)
    assert (result.exit_code, "there is no such revocation" in result.output) == (2, True)


async def test_a_wrong_admin_token_is_told(client: Client, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text(ADMIN_TOKEN[::-1])
    where = ["--ops", f"http://{client.service.ops_address}", "--admin-token-file", str(tmp_path / "wrong")]
    result = await run("revocations", "list", *where)
    assert (result.exit_code, "send the admin token" in result.output) == (2, True)


def written(tmp_path: Path, ops: dict[str, Any]) -> str:
    path = tmp_path / "verifier.yaml"
    issuer = {"name": "main", "issuer": "https://a.example", "audiences": [AUD]}
    path.write_text(yaml.safe_dump({"issuers": [issuer], "ops": ops}))
    return str(path)


async def test_the_configuration_says_where_to_ask(client: Client, admin_token_file: Path, tmp_path: Path) -> None:
    port = client.service.ops_address.rpartition(":")[2]
    config = written(tmp_path, {"listen": f"0.0.0.0:{port}", "admin_token_file": str(admin_token_file)})
    assert "nothing is revoked" in (await run("revocations", "list", "--config", config)).output


async def test_a_service_without_an_admin_token_has_no_admin(issuer: FakeIssuer, admin_token_file: Path) -> None:
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        where = ["--ops", f"http://{client.service.ops_address}", "--admin-token-file", str(admin_token_file)]
        result = await run("revocations", "list", *where)
    assert (result.exit_code, "ops.admin_token_file" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        ({}, "give --admin-token-file"),
        ({"admin_token_file": "/nowhere"}, "cannot read"),
    ],
)
async def test_a_missing_admin_token_is_told(ops: dict[str, Any], said: str, tmp_path: Path) -> None:
    result = await run("revocations", "list", "--config", written(tmp_path, ops))
    assert (result.exit_code, said in result.output) == (2, True)


async def test_nobody_at_the_ops_port_is_told(admin_token_file: Path) -> None:
    where = ["--ops", "http://127.0.0.1:1", "--admin-token-file", str(admin_token_file)]
    result = await run("revocations", "list", *where)
    assert (result.exit_code, "127.0.0.1:1" in result.output) == (2, True)
