"""The development issuer, held to the standards that it serves."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import encode_basic_auth
from aiohttp.test_utils import TestClient, TestServer
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from verifier.core import keys, token
from verifier.dev.issuer import CLIENT_ID, DevIssuer, new_key

Client = TestClient[Any, Any]
GRANT = {"grant_type": "client_credentials"}


def basic(issuer: DevIssuer) -> dict[str, str]:
    return {"Authorization": encode_basic_auth(CLIENT_ID, issuer.client_secret)}


@pytest.fixture
def issuer() -> DevIssuer:
    return DevIssuer("http://127.0.0.1:8081")


@pytest.fixture
async def client(issuer: DevIssuer) -> AsyncIterator[Client]:
    async with TestClient(TestServer(issuer.application())) as made:
        yield made


@pytest.mark.parametrize("name", ["openid-configuration", "oauth-authorization-server"])
async def test_its_metadata_is_valid(name: str, client: Client, issuer: DevIssuer) -> None:
    document = await (await client.get(f"/.well-known/{name}")).json()
    AuthorizationServerMetadata(document).validate()
    assert document["issuer"] == issuer.url


async def test_its_keys_can_all_be_used_and_none_is_private(client: Client) -> None:
    document = await (await client.get("/jwks")).json()
    loaded = keys.load_jwks(document)
    assert (len(loaded.keys), dict(loaded.dropped)) == (3, {})


async def test_its_keys_are_served_by_etag(client: Client) -> None:
    etag = (await client.get("/jwks")).headers["ETag"]
    assert (await client.get("/jwks", headers={"If-None-Match": etag})).status == 304


async def test_a_client_gets_an_access_token_by_its_secret(client: Client, issuer: DevIssuer) -> None:
    answer = await client.post("/token", data=GRANT, headers=basic(issuer))
    document = await answer.json()
    made = token.parse(document["access_token"])
    assert (made.type, made.unverified_claims["client_id"], document["token_type"]) == ("at+jwt", CLIENT_ID, "Bearer")
    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_secret_may_stand_in_the_form(client: Client, issuer: DevIssuer) -> None:
    form = {**GRANT, "client_id": CLIENT_ID, "client_secret": issuer.client_secret, "scope": "write:pets"}
    assert (await (await client.post("/token", data=form)).json())["scope"] == "write:pets"


@pytest.mark.parametrize("authorization", ["", "Basic", "Basic !!!", "Basic ZGV2Ondyb25n", "Basic /w==", "Bearer x"])
async def test_a_wrong_secret_is_an_invalid_client(authorization: str, client: Client) -> None:
    answer = await client.post("/token", data=GRANT, headers={"Authorization": authorization})
    assert (answer.status, (await answer.json())["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("form", "error"),
    [({"grant_type": "password"}, "unsupported_grant_type"), ({**GRANT, "scope": "admin"}, "invalid_scope")],
)
async def test_other_grants_and_scopes_are_refused(
    form: dict[str, str], error: str, client: Client, issuer: DevIssuer
) -> None:
    answer = await client.post("/token", data=form, headers=basic(issuer))
    assert (answer.status, (await answer.json())["error"]) == (400, error)


async def test_any_token_can_be_minted(client: Client) -> None:
    wanted = {"claims": {"sub": "me", "scope": None, "x": [1]}, "alg": "ES256"}
    made = token.parse((await (await client.post("/mint", json=wanted)).json())["access_token"])
    assert (made.algorithm, made.unverified_claims["sub"], made.unverified_claims["x"]) == ("ES256", "me", [1])
    assert "scope" not in made.unverified_claims


@pytest.mark.parametrize("body", [b"", b"[]", b'{"alg":"none"}', b'{"claims":1}'])
async def test_what_cannot_be_minted_is_told(body: bytes, client: Client) -> None:
    assert (await client.post("/mint", data=body)).status == 400


async def test_a_rotation_keeps_the_old_keys_for_one_round_unless_told_to_forget(client: Client) -> None:
    async def kids() -> set[str]:
        return {key["kid"] for key in (await (await client.get("/jwks")).json())["keys"]}

    first = await kids()
    await client.post("/rotate")
    assert (first < await kids(), len(await kids())) == (True, 6)
    await client.post("/rotate?forget")
    assert (len(await kids()), first & await kids()) == (3, set())


def test_it_makes_keys_of_its_own_algorithms_alone() -> None:
    with pytest.raises(ValueError, match="ES512"):
        new_key("ES512")
