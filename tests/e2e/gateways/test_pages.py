"""What each page says that a client sees, in the real gateway with the real verifier behind it."""

import asyncio
from pathlib import Path

import pytest

from tests import gateway_pages as page
from tests.e2e.gateways.gateways import Gateway, running
from tests.e2e.gateways.kinds import GATEWAYS
from tests.e2e.gateways.peers import application, exchange
from tests.support import AUD, eventually, fake_issuer, serve, settings

pytestmark = pytest.mark.e2e

ROUTES = [{"path": "/write", "scopes": ["write"]}, {"path": "/internal/**", "deny": True}]


def asking(*tokens: str, path: str = "/pets", version: str = "1.1", host: str | None = "api.example") -> bytes:
    """The bytes of a request with all the ``tokens``."""
    hosts = [] if host is None else [f"Host: {host}"]
    authorized = [f"Authorization: Bearer {token}" for token in tokens]
    lines = [f"GET {path} HTTP/{version}", *hosts, *authorized, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii")


@pytest.mark.parametrize("kind", GATEWAYS, ids=lambda kind: kind.name)
async def test_a_client_sees_what_the_page_says(kind: type[Gateway], tmp_path: Path) -> None:
    kind.require()
    async with fake_issuer("EdDSA") as issuer:
        good = issuer.token("EdDSA", scope="read")
        undecided = issuer.token("EdDSA", iss="https://partner.example")
        requests = {
            page.NO_TOKEN: asking(),
            page.BAD_TOKEN: asking("no-token"),
            page.NO_SCOPE: asking(good, path="/write"),
            page.DENIED: asking(good, path="/internal"),
            page.AMBIGUOUS: asking("a,b"),
            page.TWICE: asking(good, good),
            page.HTTP_1_0: asking(good, version="1.0"),
            page.HOSTLESS: asking(good, version="1.0", host=None),
            page.UNDECIDED: asking(undecided),
        }
        main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
        partner = {
            "name": "partner",
            "issuer": "https://partner.example",
            "audiences": [AUD],
            "jwks_uri": "http://127.0.0.1:1",
        }
        with application() as upstream:
            async with serve(settings(main, partner, routes=ROUTES, grpc={"listen": "127.0.0.1:0"})) as client:

                async def has_keys() -> bool:
                    return (await client.verify(good)).status == 200

                await eventually(has_keys)
                address = client.service.grpc_address if kind.over_grpc else client.service.address
                port = int(str(address).rpartition(":")[2])
                made = running(kind(tmp_path, port, upstream.port))
                gateway = await asyncio.to_thread(made.__enter__)
                try:
                    seen, passed = {}, []
                    for case, sent in requests.items():
                        upstream.got.clear()
                        answer = await asyncio.to_thread(exchange, gateway.port, sent)
                        seen[case] = answer.status
                        if upstream.got:
                            passed.append(case)
                finally:
                    await asyncio.to_thread(made.__exit__, None, None, None)
    expected = page.statuses(kind.name)
    assert seen == {case: expected[case] for case in requests}
    assert passed == [case for case in requests if expected[case] == 200]
