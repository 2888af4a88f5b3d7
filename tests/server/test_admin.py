"""``/admin/revocations`` on the ops port."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import ADMIN_TOKEN, AUD, Client, FakeIssuer, serve, settings


@pytest.fixture
async def client(issuer: FakeIssuer, admin_token_file: Path) -> AsyncIterator[Client]:
    async with _served(issuer, admin_token_file) as made:
        yield made


def _served(issuer: FakeIssuer, admin_token_file: Path, **changes: Any) -> Any:
    ops = {"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)}
    return serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, ops=ops, **changes))


def _replace(file: Path, content: str | None) -> None:
    file.unlink()
    if content is not None:
        file.write_text(content)


SUBJECT = {"issuer": "main", "sub": "bob"}


@pytest.mark.parametrize(
    "authorization",
    [
        [],
        ["Bearer wrong"],
        ["Bearer"],
        ["Bearer "],
        [ADMIN_TOKEN],
        [f"Basic {ADMIN_TOKEN}"],
        [f"Bearer {ADMIN_TOKEN}x"],
        [f"Bearer {ADMIN_TOKEN[:-1]}"],
        [f"Bearer {ADMIN_TOKEN.upper()}"],
        [f"Bearer {ADMIN_TOKEN}", f"Bearer {ADMIN_TOKEN}"],
        ["Bearer \udcff"],
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_nobody_without_the_admin_token_is_served(method: str, authorization: list[str], client: Client) -> None:
    path = "/admin/revocations/x" if method == "DELETE" else "/admin/revocations"
    headers = [("Authorization", value) for value in authorization]
    body = {"json": SUBJECT} if method == "POST" else {}
    reply = await client.ops(path, method, headers=headers, **body)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="admin"'
    assert (await client.admin("GET")).json["revocations"] == []


async def test_the_scheme_may_be_written_in_any_case(client: Client) -> None:
    headers = {"Authorization": f"bearer {ADMIN_TOKEN}"}
    assert (await client.ops("/admin/revocations", headers=headers)).status == 200


async def test_a_new_admin_token_counts_at_once(client: Client, admin_token_file: Path) -> None:
    _replace(admin_token_file, "another-token-of-enough-length-0123")
    assert (await client.admin("GET")).status == 401
    assert (await client.admin("GET", token="another-token-of-enough-length-0123")).status == 200


@pytest.mark.parametrize("content", [None, "", "\n"])
async def test_without_a_readable_admin_token_nobody_is_served(
    content: str | None, client: Client, admin_token_file: Path
) -> None:
    _replace(admin_token_file, content)
    assert (await client.admin("GET", token="")).status == 503


async def test_without_an_admin_token_file_there_is_no_admin(issuer: FakeIssuer) -> None:
    made = settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})
    async with serve(made) as client:
        assert (await client.admin("GET")).status == 404


async def test_the_data_port_has_no_admin(client: Client) -> None:
    reply = await client.get("/admin/revocations", Authorization=f"Bearer {ADMIN_TOKEN}")
    assert reply.status == 404


async def test_a_revocation_is_answered_with_its_place(client: Client) -> None:
    made = await client.admin("POST", json={**SUBJECT, "reason": "left us"})
    assert made.status == 201
    assert made.headers["Location"] == f"/admin/revocations/{made.json['id']}"
    shown = (await client.admin("GET")).json["revocations"]
    assert [(one["sub"], one["reason"], one["shared"]) for one in shown] == [("bob", "left us", False)]


async def test_the_newest_revocation_is_listed_first(client: Client) -> None:
    for name in ("a", "b", "c"):
        await client.admin("POST", json={"issuer": "main", "sub": name})
    assert [one["sub"] for one in (await client.admin("GET")).json["revocations"]] == ["c", "b", "a"]


async def test_a_head_says_nothing(client: Client) -> None:
    reply = await client.admin("HEAD")
    assert (reply.status, reply.text) == (200, "")


async def test_a_revocation_that_is_over_is_neither_listed_nor_in_force(client: Client, issuer: FakeIssuer) -> None:
    await client.admin("POST", json={**SUBJECT, "expires_at": time.time() + 0.2})
    token = issuer.token("EdDSA", sub="bob")
    assert (await client.verify(token)).reason == "revoked"
    await asyncio.sleep(0.25)
    assert (await client.verify(token)).status == 200
    assert (await client.admin("GET")).json["revocations"] == []


async def test_what_was_lifted_cannot_be_lifted_again(client: Client) -> None:
    made = (await client.admin("POST", json=SUBJECT)).json
    assert [(await client.admin("DELETE", f"/{made['id']}")).status for _ in range(2)] == [204, 404]


@pytest.mark.parametrize("path", ["/", "/%2e%2e", "/x/y", "/" + "x" * 5_000, "/%00", "/\u00fc"])
async def test_an_id_that_is_none_is_not_there(path: str, client: Client) -> None:
    assert (await client.admin("DELETE", path)).status == 404


@pytest.mark.parametrize(
    "request_of",
    [
        {"data": "", "headers": {"Content-Type": "application/json"}},
        {"json": []},
        {"json": {}},
        {"json": {"issuer": "main"}},
        {"json": {**SUBJECT, "jti": "t1"}},
        {"json": {**SUBJECT, "until": 1}},
        {"json": {**SUBJECT, "issuer": "nobody"}},
        {"json": {**SUBJECT, "sub": 1}},
        {"json": {**SUBJECT, "sub": ""}},
        {"json": {**SUBJECT, "expires_at": 1}},
        {"json": {"issuer": "main", "issued_before": "yesterday"}},
        {"json": {"issuer": "main", "issued_before": 32_503_680_000}},
        {"data": '{"issuer": "main", "sub": "a", "sub": "b"}', "headers": {"Content-Type": "application/json"}},
    ],
    ids=str,
)
async def test_what_is_no_revocation_is_refused_and_changes_nothing(request_of: dict[str, Any], client: Client) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", **request_of.pop("headers", {})}
    reply = await client.ops("/admin/revocations", "POST", headers=headers, **request_of)
    assert reply.status == 400
    assert (await client.admin("GET")).json["revocations"] == []


async def test_a_body_of_another_type_is_refused(client: Client) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await client.ops("/admin/revocations", "POST", headers=headers, data={"sub": "bob"})).status == 415


async def test_a_full_list_says_so_and_keeps_what_it_has(issuer: FakeIssuer, admin_token_file: Path) -> None:
    async with _served(issuer, admin_token_file, revocations={"max_entries": 2}) as client:
        found = [(await client.admin("POST", json={"issuer": "main", "sub": name})).status for name in "abc"]
        assert found == [201, 201, 507]
        assert len((await client.admin("GET")).json["revocations"]) == 2


async def test_what_is_over_makes_room(issuer: FakeIssuer, admin_token_file: Path) -> None:
    async with _served(issuer, admin_token_file, revocations={"max_entries": 1}) as client:
        await client.admin("POST", json={**SUBJECT, "expires_at": time.time() + 0.1})
        await asyncio.sleep(0.15)
        assert (await client.admin("POST", json=SUBJECT)).status == 201


async def test_a_revocation_is_in_the_log_without_whom_it_concerns(client: Client) -> None:
    made = (await client.admin("POST", json=SUBJECT)).json
    (line,) = [line for line in client.log() if line["event"] == "revoked"]
    assert (line["id"], line["kind"]) == (made["id"], "sub")
    assert "bob" not in str(line)


async def test_a_token_without_jti_is_revoked_by_its_content_and_no_other_is(
    client: Client, issuer: FakeIssuer
) -> None:
    one, other = issuer.token("EdDSA"), issuer.token("EdDSA", nonce="other")
    await client.admin("POST", json={"token": one})
    assert [(await client.verify(token)).reason for token in (one, other)] == ["revoked", None]


async def test_a_token_that_cannot_be_read_is_told_when_the_service_starts(issuer: FakeIssuer, tmp_path: Path) -> None:
    """And not only to the one who needs it when something has leaked."""
    ops = {"listen": "127.0.0.1:0", "admin_token_file": str(tmp_path / "missing")}
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, ops=ops)) as client:
        (line,) = [line for line in client.log() if line["event"] == "file_unusable"]
    assert (line["kind"], line["detail"].startswith("cannot read")) == ("ops.admin_token_file", True)


async def test_whoever_tries_tokens_is_counted_and_told_of_once_a_minute(client: Client) -> None:
    for number in range(5):
        assert (await client.admin("GET", token=f"guess-{number}")).status == 401
    assert await client.metric("verifier_admin_refusals_total") == 5
    (line,) = [line for line in client.log() if line["event"] == "administrator_refused"]
    assert line["entries"] == 1
    assert "guess" not in client.log_stream.getvalue()
    await client.admin("GET")
    assert await client.metric("verifier_admin_refusals_total") == 5
