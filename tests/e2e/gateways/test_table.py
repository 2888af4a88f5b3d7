"""The one table of requests, through every gateway, with the real verifier behind it."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.gateways.gateways import GATEWAYS, Gateway, running
from tests.e2e.gateways.peers import application, exchange
from tests.gateway_table import ROUTES, TABLE, TOKENS, Row
from tests.support import AUD, Client, FakeIssuer, eventually, fake_issuer, serve, settings

pytestmark = pytest.mark.e2e


def request_of(row: Row, issuer: FakeIssuer) -> bytes:
    token = [] if row.token is None else [f"Authorization: Bearer {TOKENS[row.token](issuer)}"]
    headers = [f"{name}: {value}" for name, value in row.headers]
    lines = [f"{row.method} {row.target} HTTP/1.1", f"Host: {row.host}", *token, *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


@pytest.mark.parametrize("kind", GATEWAYS, ids=lambda kind: kind.name)
async def test_every_gateway_lets_pass_what_the_table_allows_and_nothing_else(
    kind: type[Gateway], tmp_path: Path
) -> None:
    """A gateway may refuse more, with a status of its own. What it lets pass is what the table allows, or is allowed
    once the gateway has changed it: its path cleaned, or a header taken out that means something else."""
    kind.require()
    async with fake_issuer("EdDSA") as issuer:
        partner = {
            "name": "partner",
            "issuer": "https://p.example",
            "audiences": [AUD],
            "jwks_uri": "http://127.0.0.1:1",
        }
        main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
        async with serve(settings(main, partner, routes=ROUTES, preflights="allow")) as client:
            await eventually(lambda: _has_keys(client, issuer))
            port = int(client.service.address.rpartition(":")[2])
            with application() as upstream:
                made = running(kind(tmp_path, port, upstream.port))
                gateway = await asyncio.to_thread(made.__enter__)
                try:
                    passed, refused = [], []
                    for row in TABLE:
                        upstream.got.clear()
                        answer = await asyncio.to_thread(exchange, gateway.port, request_of(row, issuer))
                        if row.reason is not None and upstream.got:
                            got = upstream.got[0]
                            tricks = [name for name, _ in row.headers if got.values(name)]
                            if tricks or not await _may(client, row, got.target, issuer):
                                passed.append((row.name, got.target))
                        if row.reason is None and answer.status != 200:
                            refused.append((row.name, answer.status))
                        for got in upstream.got:
                            expected = [] if row.token is None else ["alice"]
                            if [value for value in got.values("X-Auth-Subject") if value] != expected:
                                passed.append((row.name, "another subject"))
                finally:
                    await asyncio.to_thread(made.__exit__, None, None, None)
    assert passed == []
    assert refused == [one for one in refused if one in kind.refuses_too]


async def _may(client: Client, row: Row, target: str, issuer: FakeIssuer) -> bool:
    """Whether the verifier allows what reached the application."""
    asked = {"method": row.method, "host": row.host, "path": target}
    token = {} if row.token is None else {"token": TOKENS[row.token](issuer)}
    return (await client.post("/verify", json={**asked, **token})).status == 200


async def _has_keys(client: Client, issuer: FakeIssuer) -> bool:
    return (await client.verify(issuer.token("EdDSA"))).status == 200
