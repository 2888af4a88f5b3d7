"""A real service, an issuer that stops, starts and changes its keys, and clients that flood it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support import AUD, Client, FakeIssuer, claims, eventually, fake_issuer, private_key, serve, settings, sign

COOLDOWN = 1.0


@pytest.fixture
async def client(issuer: FakeIssuer) -> AsyncIterator[Client]:
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with serve(settings(main, keys={"unknown_kid_cooldown": "1s", "refresh": "1h"})) as made:
        yield made


async def flood(client: Client, url: str, seconds: float) -> list[int]:
    """About a thousand tokens a second, each under a made-up ``kid``; returns the statuses."""
    statuses: list[int] = []
    numbers = itertools.count()
    key = private_key("EdDSA", which=9)
    ends = time.monotonic() + seconds

    async def one_client() -> None:
        while time.monotonic() < ends:
            forged = sign(claims(time.time(), iss=url), key, "EdDSA", kid=f"forged-{next(numbers)}")
            statuses.append((await client.verify(forged)).status)
            await asyncio.sleep(0.004)

    await asyncio.gather(*(one_client() for _ in range(8)))
    return statuses


async def test_keys_are_discovered_and_fetched_once_for_many_requests(client: Client, issuer: FakeIssuer) -> None:
    replies = await asyncio.gather(*(client.verify(issuer.token("EdDSA", jti=str(n))) for n in range(200)))
    assert {reply.status for reply in replies} == {200}
    assert (issuer.discoveries, issuer.key_fetches) == (1, 1)


async def test_verification_goes_on_while_the_issuer_is_down(client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA"))
    await issuer.stop()
    assert (await client.verify(issuer.token("EdDSA", sub="bob"))).status == 200
    assert (await client.ops("/readyz")).status == 200


async def test_a_rotation_during_a_flood_of_forged_kids_is_picked_up_within_a_cooldown(
    client: Client, issuer: FakeIssuer
) -> None:
    await client.verify(issuer.token("EdDSA"))
    await issuer.stop()
    flooding = asyncio.create_task(flood(client, issuer.url, 3.0))
    await asyncio.sleep(0.5)
    issuer.keys = [private_key("EdDSA", "k2", 2)]
    fetches = issuer.key_fetches
    await issuer.restart()
    restarted = time.monotonic()

    async def new_tokens_pass() -> bool:
        return (await client.verify(issuer.token("EdDSA", jti=str(time.monotonic())))).status == 200

    await eventually(new_tokens_pass, within=COOLDOWN + 0.5)
    took = time.monotonic() - restarted
    statuses = await flooding
    assert took <= COOLDOWN + 0.5
    assert len(statuses) > 500
    assert set(statuses) == {401}
    assert issuer.key_fetches - fetches <= 3 / COOLDOWN + 1


async def test_a_withdrawn_key_is_distrusted_at_the_next_fetch_cached_allows_included(
    client: Client, issuer: FakeIssuer
) -> None:
    old = issuer.token("EdDSA")
    assert (await client.verify(old)).status == 200
    issuer.keys = [private_key("EdDSA", "k2", 2)]
    await asyncio.sleep(COOLDOWN)
    assert (await client.verify(issuer.token("EdDSA"))).status == 200  # its new kid causes the fetch
    assert (await client.verify(old)).reason == "unknown_key"


async def test_a_service_that_starts_while_the_issuer_is_down_recovers_by_itself() -> None:
    async with fake_issuer("EdDSA") as issuer:
        await issuer.stop()
        async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
            reply = await client.verify(issuer.token("EdDSA"))
            assert (reply.status, reply.reason) == (503, "keys_unavailable")
            assert (await client.ops("/readyz")).status == 503
            await issuer.restart()

            async def allowed() -> bool:
                return (await client.verify(issuer.token("EdDSA"))).status == 200

            await eventually(allowed, within=5)
            assert (await client.ops("/readyz")).status == 200


async def test_one_issuers_outage_is_not_anothers() -> None:
    async with fake_issuer("EdDSA") as up, fake_issuer("EdDSA") as down:
        down.fault = lambda _: web.Response(status=500)
        made = [{"name": n, "issuer": i.url, "audiences": [AUD]} for n, i in (("up", up), ("down", down))]
        async with serve(settings(*made)) as client:
            assert (await client.verify(up.token("EdDSA"))).status == 200
            assert (await client.verify(down.token("EdDSA"))).status == 503
            ready = await client.ops("/readyz")
            assert ready.status == 200
            assert "answered 500" in ready.json["issuers"]["down"]["last_error"]


async def test_a_slow_issuer_does_not_slow_those_whose_keys_are_known(client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA"))

    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    issuer.fault = slow
    await asyncio.sleep(COOLDOWN)
    unknown = asyncio.create_task(client.verify(sign(claims(time.time(), iss=issuer.url), algorithm="EdDSA", kid="x")))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(1):
        assert (await client.verify(issuer.token("EdDSA", sub="bob"))).status == 200
    assert not unknown.done()
    unknown.cancel()


@pytest.mark.parametrize("body", [b"", b"<html>sign in</html>", b'{"keys":[{"kty":"RS', b"[]"])
async def test_nonsense_from_the_issuer_leaves_the_last_keys_in_place(
    body: bytes, client: Client, issuer: FakeIssuer
) -> None:
    await client.verify(issuer.token("EdDSA"))
    issuer.fault = lambda _: web.Response(body=body)
    await asyncio.sleep(COOLDOWN)
    await client.verify(sign(claims(time.time(), iss=issuer.url), algorithm="EdDSA", kid="x"))
    assert await client.metric("verifier_key_fetches_total", result="error") == 1
    assert (await client.verify(issuer.token("EdDSA", sub="bob"))).status == 200


async def test_one_odd_key_of_several_is_counted_and_does_not_matter(issuer: FakeIssuer) -> None:
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        good = issuer.keys[0].as_dict(private=False)
        issuer.fault = lambda request: (
            web.json_response({"keys": [{"kty": "oct", "k": "AA"}, good, {"kty": "RSA"}]})
            if request.path == "/jwks"
            else web.json_response({"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks"})
        )
        assert (await client.verify(issuer.token("EdDSA"))).status == 200
        assert await client.metric("verifier_keys_dropped", issuer="main", cause="symmetric") == 1


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_three_issuers_side_by_side_keep_to_their_own_keys(algorithm: str) -> None:
    """The same ``kid`` in all of them never crosses."""
    names = ("RS256", "ES256", "EdDSA")
    async with fake_issuer("RS256") as one, fake_issuer("ES256") as two, fake_issuer("EdDSA") as three:
        issuers = dict(zip(names, (one, two, three), strict=True))
        made = [{"name": n.lower(), "issuer": i.url, "audiences": [AUD]} for n, i in issuers.items()]
        async with serve(settings(*made)) as client:
            own = issuers[algorithm]
            reply = await client.verify(own.token(algorithm))
            assert reply.json["principal"]["issuer_name"] == algorithm.lower()
            forged = sign(claims(time.time(), iss=own.url), private_key(algorithm, which=1), algorithm)
            assert (await client.verify(forged)).reason == "bad_signature"
            other = issuers["EdDSA" if algorithm != "EdDSA" else "ES256"]
            crossed = sign(claims(time.time(), iss=other.url), own.keys[0], algorithm)
            assert (await client.verify(crossed)).reason == "unknown_key"


async def test_a_key_file_that_is_replaced_is_noticed(tmp_path: Path) -> None:
    import json  # noqa: PLC0415 - only here

    def write(which: int) -> None:
        key: Any = private_key("EdDSA", which=which)
        (tmp_path / "jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))

    write(0)
    main = {
        "name": "main",
        "issuer": "https://issuer.example/",
        "audiences": [AUD],
        "jwks_file": tmp_path / "jwks.json",
    }
    async with serve(settings(main)) as client:
        old = sign(claims(time.time()), private_key("EdDSA"), "EdDSA")
        assert (await client.verify(old)).status == 200
        write(1)

        async def replaced() -> bool:
            return (await client.verify(old)).reason == "bad_signature"

        await eventually(replaced, within=6)
        assert (await client.verify(sign(claims(time.time()), private_key("EdDSA", which=1), "EdDSA"))).status == 200


async def test_clients_that_hang_up_while_waiting_leave_nothing_behind(issuer: FakeIssuer) -> None:
    released = asyncio.Event()

    async def stall(_request: web.Request) -> web.Response:
        await released.wait()
        return web.json_response({"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks"})

    issuer.fault = stall
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        impatient = aiohttp.ClientTimeout(total=0.1)
        headers = {"Authorization": f"Bearer {issuer.token('EdDSA')}"}
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await client.http.get(f"{client.url}/verify", headers=headers, timeout=impatient)
        issuer.fault = None
        released.set()

        async def allowed() -> bool:
            return (await client.verify(issuer.token("EdDSA"))).status == 200

        await eventually(allowed)
        assert issuer.key_fetches == 1


async def test_a_replica_that_does_not_know_the_revocations_is_not_ready_for_a_while(issuer: FakeIssuer) -> None:
    """Then it is: it knows as much as it will, and ``when_unfollowed`` says what that comes to."""
    made = settings(
        {"name": "main", "issuer": issuer.url, "audiences": [AUD]},
        redis={"url": "redis://127.0.0.1:1", "trusted": True},
        revocations={"grace": "1s"},
    )
    async with serve(made) as client:

        async def is_ready() -> bool:
            return (await client.ops("/readyz")).status == 200

        assert (await client.verify(issuer.token("EdDSA"))).status == 200  # it has the keys
        assert not await is_ready()
        await eventually(is_ready)
