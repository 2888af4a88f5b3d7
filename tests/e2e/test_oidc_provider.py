"""Against a certified OpenID provider: discovery, verification by four algorithms, rotation and removal of a key."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.oidc_provider import ALGORITHMS, AUDIENCE, OidcProvider, oidc_provider, require_provider
from tests.support import Client, private_key, serve, settings

pytestmark = pytest.mark.e2e


def private_jwks(generation: int, algorithms: tuple[str, ...] = ALGORITHMS) -> list[dict[str, Any]]:
    return [
        {**private_key(name, f"{name}-{generation}", generation).as_dict(private=True), "alg": name, "use": "sig"}
        for name in algorithms
    ]


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[OidcProvider]:
    require_provider()
    async with oidc_provider(tmp_path, private_jwks(0)) as made:
        yield made


@pytest.fixture
async def client(provider: OidcProvider) -> AsyncIterator[Client]:
    main = {"name": "provider", "issuer": provider.issuer, "audiences": [AUDIENCE], "algorithms": list(ALGORITHMS)}
    async with serve(settings(main, keys={"unknown_kid_cooldown": "1s"})) as made:
        yield made


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_its_access_tokens_are_allowed(algorithm: str, client: Client, provider: OidcProvider) -> None:
    reply = await client.verify(await provider.token(algorithm, "read:pets write:pets"))
    assert reply.status == 200
    principal = reply.json["principal"]
    assert (principal["issuer"], principal["client_id"]) == (provider.issuer, "e2e")
    assert (principal["scopes"], principal["audiences"]) == (["read:pets", "write:pets"], [AUDIENCE])


async def test_its_tokens_are_introspected(client: Client, provider: OidcProvider) -> None:
    reply = await client.post("/introspect", data={"token": await provider.token("ES256")})
    assert (reply.json["active"], reply.json["scope"]) == (True, "read:pets")


async def test_a_scope_that_was_not_granted_is_lacking(client: Client, provider: OidcProvider) -> None:
    body = {"token": await provider.token("RS256"), "scopes": ["write:pets"]}
    assert (await client.post("/verify", json=body)).reason == "insufficient_scope"


async def test_a_rotation_is_followed_and_the_removed_keys_are_distrusted(
    client: Client, provider: OidcProvider
) -> None:
    old = await provider.token("RS256")
    assert (await client.verify(old)).status == 200
    await asyncio.sleep(1.0)
    await provider.replace_keys(private_jwks(1) + private_jwks(0))
    assert (await client.verify(await provider.token("RS256"))).status == 200
    assert (await client.verify(old)).status == 200
    await asyncio.sleep(1.0)
    await provider.replace_keys(private_jwks(2))
    assert (await client.verify(await provider.token("ES256"))).status == 200
    assert (await client.verify(old)).reason == "unknown_key"


async def test_a_set_without_a_fitting_key_refuses_its_tokens(client: Client, provider: OidcProvider) -> None:
    old = await provider.token("EdDSA")
    await asyncio.sleep(1.0)
    await provider.replace_keys(private_jwks(1, ("RS256",)))
    assert (await client.verify(await provider.token("RS256"))).status == 200
    assert (await client.verify(old)).reason == "unknown_key"
