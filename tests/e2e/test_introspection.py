"""Opaque tokens and introspection (RFC 7662) against a certified OpenID provider: who we say we are, what its answers
lead to, how long they count, and what an outage does."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OctKey

from tests.e2e.oidc_provider import ALGORITHMS, AUDIENCE, OidcProvider, oidc_provider, require_provider
from tests.redis_servers import RedisServer
from tests.support import Client, eventually, private_key, public_jwk, serve, settings, sign

pytestmark = pytest.mark.e2e

BASIC, POST, KEY = METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt")
RESERVED = " %41+&=:;/?#[]@!$'()*,\\\"<>~"
"""What form-encoding changes, or could (RFC 6749 §2.3.1)."""


@dataclass(frozen=True)
class Registered:
    """A client that does nothing but introspect: ``at_provider`` as registered there, ``here`` as configured."""

    at_provider: dict[str, Any]
    here: dict[str, Any]
    file: Path


def client_with_secret(folder: Path, auth: str, client_id: str, secret: str) -> Registered:
    file = folder / f"{auth}-{len(client_id)}"
    file.write_text(secret)
    here = {"auth": auth, "client_id": client_id, "client_secret_file": str(file)}
    return Registered(registration(client_id, auth, client_secret=secret), here, file)


def client_with_key(folder: Path, algorithm: str, *, pem: bool = False) -> Registered:
    key = private_key(algorithm, None if pem else "gateway", 7)
    client_id = f"{algorithm}-{'pem' if pem else 'jwk'}"
    file = folder / client_id
    if pem:
        assert not isinstance(key, OctKey)
        file.write_bytes(key.as_pem(private=True))
    else:
        file.write_text(json.dumps({**key.as_dict(private=True), "alg": algorithm}))
    known = registration(client_id, KEY, jwks={"keys": [public_jwk(key, alg=algorithm)]})
    return Registered(known, {"auth": KEY, "client_id": client_id, "client_key_file": str(file)}, file)


def client_with(auth: str, folder: Path) -> Registered:
    if auth == KEY:
        return client_with_key(folder, "ES256")
    return client_with_secret(folder, auth, "gateway", secrets.token_urlsafe(24))


def registration(client_id: str, auth: str, **credentials: Any) -> dict[str, Any]:
    nothing: dict[str, list[str]] = {"grant_types": [], "redirect_uris": [], "response_types": []}
    return {"client_id": client_id, "token_endpoint_auth_method": auth, **nothing, **credentials}


def signing_keys() -> list[dict[str, Any]]:
    return [{**private_key("RS256", "e2e").as_dict(private=True), "alg": "RS256", "use": "sig"}]


@asynccontextmanager
async def provider_for(folder: Path, *clients: Registered) -> AsyncIterator[OidcProvider]:
    require_provider()
    async with oidc_provider(folder, signing_keys(), [client.at_provider for client in clients]) as made:
        yield made


@pytest.fixture
def gateway(tmp_path: Path) -> Registered:
    return client_with_secret(tmp_path, BASIC, "gateway", secrets.token_urlsafe(24))


@pytest.fixture
async def provider(tmp_path: Path, gateway: Registered) -> AsyncIterator[OidcProvider]:
    async with provider_for(tmp_path, gateway) as made:
        yield made


def asking(provider: OidcProvider, client: Registered, introspect: str = "opaque", **changes: Any) -> dict[str, Any]:
    """The configuration of ``provider`` as an issuer that ``client`` asks; ``changes`` are those of introspection."""
    return {
        "name": "provider",
        "issuer": provider.issuer,
        "audiences": [AUDIENCE],
        "introspect": introspect,
        "introspection": {**client.here, **changes},
    }


@pytest.fixture
async def client(provider: OidcProvider, gateway: Registered) -> AsyncIterator[Client]:
    async with serve(settings(asking(provider, gateway))) as made:
        yield made


async def becomes(client: Client, token: str, wanted: int | str) -> None:
    """Wait until the answer about ``token`` has this status or reason."""

    async def has_become() -> bool:
        reply = await client.verify(token)
        return wanted in {reply.status, reply.reason}

    await eventually(has_become)


def made_up() -> str:
    """A token that no issuer knows."""
    return secrets.token_urlsafe(32)


@pytest.mark.parametrize("introspect", ["opaque", "always", "only"])
async def test_an_opaque_token_is_allowed_as_the_provider_describes_it(
    introspect: str, provider: OidcProvider, gateway: Registered
) -> None:
    token = await provider.token("opaque", "read:pets write:pets")
    async with serve(settings(asking(provider, gateway, introspect))) as client:
        reply = await client.verify(token)
    assert reply.status == 200
    described = await provider.introspect(token)
    principal = reply.json["principal"]
    assert (principal["issuer"], principal["client_id"]) == (provider.issuer, "e2e")
    assert (principal["scopes"], principal["audiences"]) == (["read:pets", "write:pets"], [AUDIENCE])
    assert principal["expires_at"] == described["exp"]


@pytest.mark.parametrize("endpoint", ["discovered", "configured"])
@pytest.mark.parametrize("auth", METHODS)
async def test_each_way_to_say_who_we_are_is_accepted(auth: str, endpoint: str, tmp_path: Path) -> None:
    ours = client_with(auth, tmp_path)
    async with provider_for(tmp_path, ours) as provider:
        fixed = {"endpoint": f"{provider.issuer}/token/introspection"} if endpoint == "configured" else {}
        async with serve(settings(asking(provider, ours, **fixed))) as client:
            assert (await client.verify(await provider.token("opaque"))).status == 200
        asked = await provider.introspections()
    assert asked == [{"client": ours.here["client_id"], "auth": auth, "status": 200}]


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # joserfc says so of each signature; the provider takes them
@pytest.mark.parametrize(
    ("algorithm", "pem"),
    [
        *((algorithm, False) for algorithm in ALGORITHMS),
        *((algorithm, True) for algorithm in ALGORITHMS if algorithm != "PS256"),  # in PEM, an RSA key is for RS256
    ],
)
async def test_an_assertion_by_each_algorithm_is_accepted(algorithm: str, pem: bool, tmp_path: Path) -> None:
    ours = client_with_key(tmp_path, algorithm, pem=pem)
    async with provider_for(tmp_path, ours) as provider, serve(settings(asking(provider, ours))) as client:
        assert (await client.verify(await provider.token("opaque"))).status == 200


async def test_each_call_has_an_assertion_of_its_own(tmp_path: Path) -> None:
    """The provider accepts none twice."""
    ours = client_with(KEY, tmp_path)
    async with provider_for(tmp_path, ours) as provider, serve(settings(asking(provider, ours))) as client:
        tokens = [await provider.token("opaque") for _ in range(10)]
        replies = await asyncio.gather(*map(client.verify, tokens))
    assert [reply.status for reply in replies] == [200] * 10


@pytest.mark.parametrize("auth", [BASIC, POST])
async def test_a_client_id_and_a_secret_of_reserved_characters_are_accepted(auth: str, tmp_path: Path) -> None:
    ours = client_with_secret(tmp_path, auth, f"a{RESERVED}z", f"{secrets.token_urlsafe(24)}{RESERVED}")
    async with provider_for(tmp_path, ours) as provider, serve(settings(asking(provider, ours))) as client:
        assert (await client.verify(await provider.token("opaque"))).status == 200


def spoil(client: Registered, auth: str) -> None:
    """Put a wrong secret, or a key that the provider does not know, in the place of the right one."""
    if auth == KEY:
        other = private_key("ES256", "gateway", 8).as_dict(private=True)
        client.file.write_text(json.dumps({**other, "alg": "ES256"}))
    else:
        client.file.write_text(secrets.token_urlsafe(24))


@pytest.mark.parametrize("known", [True, False], ids=["active", "unknown"])
@pytest.mark.parametrize("auth", METHODS)
async def test_wrong_credentials_of_ours_are_an_outage_and_no_denial(auth: str, known: bool, tmp_path: Path) -> None:
    ours = client_with(auth, tmp_path)
    async with provider_for(tmp_path, ours) as provider, serve(settings(asking(provider, ours))) as client:
        spoil(ours, auth)
        token = await provider.token("opaque") if known else made_up()
        replies = [await client.verify(token) for _ in range(5)]  # on past the opening of the breaker
    assert {(reply.status, reply.reason) for reply in replies} == {(503, "introspection_unavailable")}


async def test_a_client_that_the_provider_does_not_know_is_an_outage_and_no_denial(
    provider: OidcProvider, gateway: Registered
) -> None:
    async with serve(settings(asking(provider, gateway, client_id="stranger"))) as client:
        reply = await client.verify(await provider.token("opaque"))
    assert (reply.status, reply.reason) == (503, "introspection_unavailable")


async def test_the_log_says_that_the_provider_refuses_our_credentials(
    client: Client, provider: OidcProvider, gateway: Registered
) -> None:
    spoil(gateway, BASIC)
    await client.verify(await provider.token("opaque"))
    (line,) = (line for line in client.log() if line["event"] == "introspection_unavailable")
    assert line["detail"] == f"{provider.issuer}/token/introspection: answered 401, invalid_client"


async def test_a_corrected_secret_is_used_by_the_next_call(
    client: Client, provider: OidcProvider, gateway: Registered
) -> None:
    token, right = await provider.token("opaque"), gateway.file.read_text()
    spoil(gateway, BASIC)
    assert (await client.verify(token)).status == 503
    gateway.file.write_text(right)
    assert (await client.verify(token)).status == 200


@pytest.mark.parametrize("auth", [BASIC, POST, KEY])
async def test_an_emptied_credential_is_an_outage_and_no_denial(auth: str, tmp_path: Path) -> None:
    ours = client_with(auth, tmp_path)
    async with provider_for(tmp_path, ours) as provider, serve(settings(asking(provider, ours))) as client:
        ours.file.write_text("")
        reply = await client.verify(await provider.token("opaque"))
    assert (reply.status, reply.reason) == (503, "introspection_unavailable")


async def test_a_token_that_the_provider_does_not_know_is_inactive(client: Client) -> None:
    reply = await client.verify(made_up())
    assert (reply.status, reply.reason) == (401, "inactive")


async def test_no_token_that_a_caller_can_make_up_is_an_outage(client: Client) -> None:
    texts = ["a", "a.b", "a.b.c.d.e", "..", "+/~=", "__proto__", "constructor", "null", "0" * 16_000, made_up() * 300]
    replies = [await client.verify(text) for text in texts]
    assert {reply.status for reply in replies} == {401}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"audiences": ["https://another.example.test"]}, "wrong_audience"),
        ({"client_ids": ["another"]}, "wrong_client"),
        ({"required_claims": {"client_id": "another"}}, "claim_not_satisfied"),
    ],
)
async def test_what_the_provider_answers_is_held_against_the_configuration(
    changes: dict[str, Any], reason: str, provider: OidcProvider, gateway: Registered
) -> None:
    async with serve(settings({**asking(provider, gateway), **changes})) as client:
        assert (await client.verify(await provider.token("opaque"))).reason == reason


async def test_a_scope_that_an_opaque_token_was_not_granted_is_lacking(client: Client, provider: OidcProvider) -> None:
    body = {"token": await provider.token("opaque", "read:pets"), "scopes": ["write:pets"]}
    assert (await client.post("/verify", json=body)).reason == "insufficient_scope"


async def test_an_opaque_token_can_be_introspected_here_too(client: Client, provider: OidcProvider) -> None:
    reply = await client.post("/introspect", data={"token": await provider.token("opaque")})
    assert (reply.json["active"], reply.json["scope"], reply.json["client_id"]) == (True, "read:pets", "e2e")


async def test_an_opaque_token_that_is_bound_to_a_key_is_no_bearer_token(
    client: Client, provider: OidcProvider
) -> None:
    """The provider says so by the token's type (RFC 9449 §6.2)."""
    key = private_key("ES256", None, 9)
    claims = {"htm": "POST", "htu": f"{provider.issuer}/token", "iat": int(time.time()), "jti": secrets.token_hex()}
    proof = sign(claims, key, "ES256", typ="dpop+jwt", jwk=public_jwk(key))
    token = await provider.token("opaque", proof=proof)
    assert (await provider.introspect(token))["token_type"] == "DPoP"
    assert (await client.verify(token)).reason == "wrong_token_type"


async def test_a_revoked_token_is_refused_once_the_answer_about_it_has_lapsed(
    provider: OidcProvider, gateway: Registered
) -> None:
    async with serve(settings(asking(provider, gateway, ttl="1s"))) as client:
        token = await provider.token("opaque")
        assert (await client.verify(token)).status == 200
        await provider.revoke(token)
        await becomes(client, token, "inactive")


async def test_a_revoked_token_is_refused_at_once_where_no_answer_is_kept(
    provider: OidcProvider, gateway: Registered
) -> None:
    async with serve(settings(asking(provider, gateway, ttl="0s"))) as client:
        token = await provider.token("opaque")
        assert (await client.verify(token)).status == 200
        await provider.revoke(token)
        assert (await client.verify(token)).reason == "inactive"


async def test_an_answer_counts_for_its_ttl_whatever_the_provider_says_by_then(
    client: Client, provider: OidcProvider
) -> None:
    token = await provider.token("opaque")
    assert (await client.verify(token)).status == 200
    await provider.revoke(token)
    assert (await client.verify(token)).status == 200


async def test_an_answer_does_not_count_past_the_end_of_its_token(client: Client, provider: OidcProvider) -> None:
    token = await provider.token("brief")
    assert (await client.verify(token)).status == 200
    await becomes(client, token, "inactive")


async def test_a_token_that_is_asked_about_by_many_at_once_is_introspected_once(
    client: Client, provider: OidcProvider
) -> None:
    token = await provider.token("opaque")
    replies = await asyncio.gather(*(client.verify(token) for _ in range(50)))
    assert {reply.status for reply in replies} == {200}
    assert len(await provider.introspections()) == 1


async def test_a_token_that_is_asked_about_again_and_again_is_introspected_once(
    client: Client, provider: OidcProvider
) -> None:
    token = await provider.token("opaque")
    assert {(await client.verify(token)).status for _ in range(50)} == {200}
    assert len(await provider.introspections()) == 1


async def test_an_unknown_token_that_is_asked_about_again_and_again_is_introspected_once(
    client: Client, provider: OidcProvider
) -> None:
    token = made_up()
    assert {(await client.verify(token)).reason for _ in range(50)} == {"inactive"}
    assert len(await provider.introspections()) == 1


async def test_a_jwt_is_not_asked_about_where_only_opaque_tokens_are(client: Client, provider: OidcProvider) -> None:
    assert (await client.verify(await provider.token("RS256"))).status == 200
    assert await provider.introspections() == []


@pytest.mark.parametrize("introspect", ["always", "only"])
async def test_a_jwt_that_the_provider_calls_inactive_is_refused_though_its_signature_holds(
    introspect: str, client: Client, provider: OidcProvider, gateway: Registered
) -> None:
    """oidc-provider keeps no JWT that it issues: to its introspection endpoint each of them is inactive from the
    start, and its revocation endpoint does nothing about them. ``client`` goes by the signature alone."""
    token = await provider.token("RS256")
    assert await provider.introspect(token) == {"active": False}
    assert (await client.verify(token)).status == 200
    async with serve(settings(asking(provider, gateway, introspect))) as strict:
        reply = await strict.verify(token)
    assert (reply.status, reply.reason) == (401, "inactive")


async def test_a_jwt_whose_signature_does_not_hold_is_not_asked_about(
    provider: OidcProvider, gateway: Registered
) -> None:
    head, _, signature = (await provider.token("RS256")).rpartition(".")
    forged = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    async with serve(settings(asking(provider, gateway, "always"))) as client:
        assert (await client.verify(forged)).reason == "bad_signature"
    assert await provider.introspections() == []


@pytest.fixture
async def remembering(provider: OidcProvider) -> OidcProvider:
    """The provider, taught to know its JWTs when it is asked about them (provider.mjs says how)."""
    provider.remembers_jwts = True
    await provider.replace_keys(signing_keys())
    return provider


@pytest.mark.parametrize("introspect", ["always", "only"])
async def test_a_jwt_that_the_provider_calls_active_is_allowed(
    introspect: str, remembering: OidcProvider, gateway: Registered
) -> None:
    token = await remembering.token("RS256", "read:pets write:pets")
    async with serve(settings(asking(remembering, gateway, introspect))) as client:
        reply = await client.verify(token)
    assert reply.status == 200
    principal = reply.json["principal"]
    assert (principal["client_id"], principal["scopes"]) == ("e2e", ["read:pets", "write:pets"])
    assert principal["expires_at"] == (await remembering.introspect(token))["exp"]


@pytest.mark.parametrize("introspect", ["always", "only"])
async def test_a_jwt_that_was_revoked_at_the_provider_is_refused_though_its_signature_holds(
    introspect: str, remembering: OidcProvider, gateway: Registered
) -> None:
    async with serve(settings(asking(remembering, gateway, introspect, ttl="1s"))) as client:
        token = await remembering.token("RS256")
        assert (await client.verify(token)).status == 200
        await remembering.revoke(token)
        await becomes(client, token, "inactive")


async def test_a_provider_that_stopped_is_an_outage_and_no_denial(client: Client, provider: OidcProvider) -> None:
    token = await provider.token("opaque")
    await provider.stop()
    replies = [await client.verify(token) for _ in range(5)]
    assert {(reply.status, reply.reason) for reply in replies} == {(503, "introspection_unavailable")}
    assert {reply.headers["Retry-After"] for reply in replies} == {"1"}


async def test_a_provider_that_is_started_again_is_asked_again(client: Client, provider: OidcProvider) -> None:
    """It forgot its tokens, and so calls the old one inactive: an answer, where the outage gave none."""
    old = await provider.token("opaque")
    await provider.stop()
    assert {(await client.verify(old)).status for _ in range(5)} == {503}
    await provider.start(signing_keys())
    await becomes(client, await provider.token("opaque"), 200)
    assert (await client.verify(old)).reason == "inactive"


async def test_a_provider_that_was_away_when_the_service_started_is_found_later(
    provider: OidcProvider, gateway: Registered
) -> None:
    await provider.stop()
    async with serve(settings(asking(provider, gateway, "only"))) as client:
        assert (await client.verify(made_up())).reason == "introspection_unavailable"
        await provider.start(signing_keys())
        await becomes(client, await provider.token("opaque"), 200)


async def test_a_provider_that_hangs_is_an_outage_at_the_deadline_and_is_asked_again_later(
    provider: OidcProvider, gateway: Registered
) -> None:
    async with serve(settings(asking(provider, gateway, deadline="300ms"))) as client:
        token = await provider.token("opaque")
        provider.pause()
        async with asyncio.timeout(2):
            assert (await client.verify(token)).reason == "introspection_unavailable"
        provider.resume()
        await becomes(client, token, 200)


async def test_what_was_answered_before_an_outage_counts_on(client: Client, provider: OidcProvider) -> None:
    token = await provider.token("opaque")
    assert (await client.verify(token)).status == 200
    await provider.stop()
    assert (await client.verify(token)).status == 200


@dataclass(frozen=True)
class Two:
    """Providers whose opaque tokens look alike, and a service that asks ``first``, then ``second``."""

    first: OidcProvider
    second: OidcProvider
    client: Client


@pytest.fixture
async def two(tmp_path: Path, provider: OidcProvider, gateway: Registered) -> AsyncIterator[Two]:
    (tmp_path / "second").mkdir()
    async with provider_for(tmp_path / "second", gateway) as second:
        issuers = [{**asking(provider, gateway), "name": "first"}, {**asking(second, gateway), "name": "second"}]
        async with serve(settings(*issuers)) as client:
            yield Two(provider, second, client)


async def test_of_two_providers_the_one_that_knows_the_token_decides(two: Two) -> None:
    reply = await two.client.verify(await two.second.token("opaque"))
    assert reply.json["principal"]["issuer"] == two.second.issuer


async def test_a_provider_that_stopped_takes_no_other_along(two: Two) -> None:
    token = await two.second.token("opaque")
    await two.first.stop()
    assert (await two.client.verify(token)).status == 200


async def test_a_token_that_the_stopped_one_of_two_providers_may_know_is_not_denied(two: Two) -> None:
    token = await two.second.token("opaque")
    await two.second.stop()
    assert (await two.client.verify(token)).reason == "introspection_unavailable"


@pytest.fixture
def shared(redis: RedisServer, key_file: Path) -> dict[str, Any]:
    """What makes a service one of several."""
    return {"redis": {"url": redis.url, "key_file": str(key_file), "timeout": "1s"}}


@asynccontextmanager
async def replicas(
    provider: OidcProvider, gateway: Registered, shared: dict[str, Any], **introspection: Any
) -> AsyncIterator[tuple[Client, Client]]:
    made = settings(asking(provider, gateway, **introspection), **shared)
    async with serve(made) as one, serve(made) as two:
        yield one, two


@pytest.mark.parametrize("known", [True, False], ids=["active", "unknown"])
async def test_two_replicas_share_one_introspection(
    known: bool, provider: OidcProvider, gateway: Registered, shared: dict[str, Any]
) -> None:
    token = await provider.token("opaque") if known else made_up()
    async with replicas(provider, gateway, shared) as both:
        replies = await asyncio.gather(*(replica.verify(token) for replica in both for _ in range(25)))
    assert {reply.status for reply in replies} == {200 if known else 401}
    assert len(await provider.introspections()) == 1


async def test_a_replica_allows_what_another_found_out_before_the_provider_stopped(
    provider: OidcProvider, gateway: Registered, shared: dict[str, Any]
) -> None:
    token = await provider.token("opaque")
    async with replicas(provider, gateway, shared) as (one, two):
        assert (await one.verify(token)).status == 200
        await provider.stop()
        assert (await two.verify(token)).status == 200


async def test_a_revoked_token_is_refused_by_both_replicas_once_the_answer_has_lapsed(
    provider: OidcProvider, gateway: Registered, shared: dict[str, Any]
) -> None:
    token = await provider.token("opaque")
    async with replicas(provider, gateway, shared, ttl="1s", deadline="1s") as both:
        assert [(await replica.verify(token)).status for replica in both] == [200, 200]
        await provider.revoke(token)
        for replica in both:
            await becomes(replica, token, "inactive")


async def test_an_answer_that_lapsed_before_the_deadline_is_asked_for_anew_without_a_wait(
    provider: OidcProvider, gateway: Registered, shared: dict[str, Any]
) -> None:
    token = await provider.token("opaque")
    async with replicas(provider, gateway, shared, ttl="200ms", deadline="10s") as (client, _):
        assert (await client.verify(token)).status == 200
        async with asyncio.timeout(3):
            while len(await provider.introspections()) < 2:
                assert (await client.verify(token)).status == 200
