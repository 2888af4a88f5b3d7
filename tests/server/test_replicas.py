"""Replicas that share a Redis behave as one."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.redis_servers import RedisServer
from tests.support import (
    AUD,
    Client,
    FakeIssuer,
    eventually,
    opaque_issuer,
    private_key,
    serve,
    settings,
)


@asynccontextmanager
async def replicas(number: int, *issuers: dict[str, Any], **changes: Any) -> AsyncIterator[list[Client]]:
    """Services of one configuration, started at once."""
    made = settings(*({"name": "main", "audiences": [AUD], **issuer} for issuer in issuers), **changes)
    async with AsyncExitStack() as stack:
        yield list(await asyncio.gather(*(stack.enter_async_context(serve(made)) for _ in range(number))))


@pytest.fixture
def shared(redis: RedisServer, key_file: Path) -> dict[str, Any]:
    """What makes a service one of several."""
    return {"redis": {"url": redis.url, "key_file": str(key_file), "timeout": "500ms"}}


@pytest.fixture
def administered(shared: dict[str, Any], admin_token_file: Path) -> dict[str, Any]:
    return {**shared, "ops": {"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)}}


async def statuses(clients: Sequence[Client], token: str) -> list[int]:
    return [(await client.verify(token)).status for client in clients]


async def reasons(clients: Sequence[Client], token: str) -> list[str | None]:
    return [(await client.verify(token)).reason for client in clients]


async def test_three_replicas_fetch_keys_once(shared: dict[str, Any], issuer: FakeIssuer) -> None:
    async with replicas(3, {"issuer": issuer.url}, **shared) as clients:
        assert await statuses(clients, issuer.token("EdDSA")) == [200, 200, 200]
        fetches = [await client.metric("verifier_key_fetches_total", result="shared") for client in clients]
    assert (issuer.discoveries, issuer.key_fetches) == (1, 1)
    assert sum(fetches) == 2


async def test_a_rotation_that_one_replica_notices_is_known_to_the_others(
    shared: dict[str, Any], issuer: FakeIssuer
) -> None:
    keys = {"unknown_kid_cooldown": "1s"}
    async with replicas(3, {"issuer": issuer.url}, keys=keys, **shared) as clients:
        assert await statuses(clients, issuer.token("EdDSA")) == [200, 200, 200]
        await asyncio.sleep(1.1)
        issuer.keys = [private_key("EdDSA", "k2", 1)]
        token = issuer.token("EdDSA")
        assert await statuses(clients, token) == [200, 200, 200]
    assert issuer.key_fetches == 2


async def test_unknown_kids_at_all_replicas_cause_one_fetch_a_cooldown(
    shared: dict[str, Any], issuer: FakeIssuer
) -> None:
    async with replicas(3, {"issuer": issuer.url}, keys={"unknown_kid_cooldown": "2s"}, **shared) as clients:
        assert await statuses(clients, issuer.token("EdDSA")) == [200, 200, 200]
        await asyncio.sleep(2.1)
        forged = [issuer.token("EdDSA", private_key("EdDSA", f"forged-{n}", 1)) for n in range(30)]
        found = await asyncio.gather(*(client.verify(token) for token in forged for client in clients))
    assert {reply.reason for reply in found} == {"unknown_key"}
    assert issuer.key_fetches == 2


async def test_a_replica_that_starts_while_the_issuer_is_down_takes_the_shared_keys(
    shared: dict[str, Any], issuer: FakeIssuer
) -> None:
    async with replicas(1, {"issuer": issuer.url}, **shared) as clients:
        await clients[0].verify(issuer.token("EdDSA"))
    await issuer.stop()
    async with replicas(1, {"issuer": issuer.url}, **shared) as clients:
        assert await statuses(clients, issuer.token("EdDSA")) == [200]


async def test_shared_keys_that_are_older_than_a_refresh_are_taken_while_the_issuer_is_down(
    shared: dict[str, Any], issuer: FakeIssuer
) -> None:
    keys = {"refresh": "1s", "unknown_kid_cooldown": "1s"}
    async with replicas(1, {"issuer": issuer.url}, keys=keys, **shared) as clients:
        await clients[0].verify(issuer.token("EdDSA"))
    await issuer.stop()
    await asyncio.sleep(1.2)
    async with replicas(1, {"issuer": issuer.url}, keys=keys, **shared) as clients:
        assert await statuses(clients, issuer.token("EdDSA")) == [200]
        await eventually(lambda: any(line["event"] == "keys_unavailable" for line in clients[0].log()))


async def test_an_opaque_token_is_introspected_once_by_all_replicas(
    shared: dict[str, Any], issuer: FakeIssuer, secret_file: Path
) -> None:
    token = issuer.opaque("opaque-1")
    asked = opaque_issuer("asked", f"{issuer.url}/introspect", secret_file)
    async with replicas(3, {**asked, "issuer": issuer.url}, **shared) as clients:
        found = await asyncio.gather(*(client.verify(token) for client in clients for _ in range(50)))
    assert {reply.status for reply in found} == {200}
    assert issuer.introspections == 1


async def test_an_inactive_token_is_introspected_once_by_all_replicas(
    shared: dict[str, Any], issuer: FakeIssuer, secret_file: Path
) -> None:
    asked = opaque_issuer("asked", f"{issuer.url}/introspect", secret_file)
    async with replicas(3, asked, **shared) as clients:
        found = await asyncio.gather(*(client.verify("made-up") for client in clients for _ in range(20)))
    assert {reply.reason for reply in found} == {"inactive"}
    assert issuer.introspections == 1


async def test_an_outage_of_introspection_is_not_remembered_as_a_denial(
    shared: dict[str, Any], issuer: FakeIssuer, secret_file: Path
) -> None:
    token = issuer.opaque("opaque-1")
    asked = opaque_issuer("asked", f"{issuer.url}/introspect", secret_file)
    async with replicas(2, {**asked, "issuer": issuer.url}, **shared) as clients:
        await issuer.stop()
        assert await reasons(clients, token) == ["introspection_unavailable"] * 2
        await issuer.restart()
        await asyncio.sleep(1.1)  # the breaker's pause
        assert await statuses(clients, token) == [200, 200]


async def test_a_signature_is_checked_once_where_everything_is_shared(
    shared: dict[str, Any], issuer: FakeIssuer, redis: RedisServer
) -> None:
    async with replicas(2, {"issuer": issuer.url}, cache={"share": "always"}, **shared) as clients:
        assert await statuses(clients[1:], issuer.token("EdDSA", jti="to have the keys")) == [200]
        token = issuer.token("EdDSA")
        assert await statuses(clients[:1], token) == [200]
        with redis.admin() as admin:
            await eventually(lambda: len(admin.keys("*:identity:*")) == 2)
        assert await statuses(clients[1:], token) == [200]
        assert await clients[1].metric("verifier_cache_lookups_total", tier="shared", result="hit") == 1


async def test_a_shared_identity_does_not_outlive_its_key(
    shared: dict[str, Any], issuer: FakeIssuer, redis: RedisServer
) -> None:
    token = issuer.token("EdDSA")
    async with replicas(1, {"issuer": issuer.url}, cache={"share": "always"}, **shared) as clients:
        assert await statuses(clients, token) == [200]
    issuer.keys = [private_key("EdDSA", "k1", 1)]
    with redis.admin() as admin:  # or the next replica would take the old keys too
        admin.delete(*admin.keys("verifier:keys:*"), *admin.keys("verifier:fetch:*"))
    async with replicas(1, {"issuer": issuer.url}, cache={"share": "always"}, **shared) as clients:
        assert await statuses(clients, issuer.token("EdDSA", jti="to have the keys")) == [200]
        assert await reasons(clients, token) == ["bad_signature"]


async def test_a_shared_identity_is_not_one_under_another_configuration(
    shared: dict[str, Any], issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA")
    async with replicas(1, {"issuer": issuer.url}, cache={"share": "always"}, **shared) as clients:
        assert await statuses(clients, token) == [200]
    stricter = {"issuer": issuer.url, "audiences": ["another"]}
    async with replicas(1, stricter, cache={"share": "always"}, **shared) as clients:
        assert await reasons(clients, token) == ["wrong_audience"]


async def test_replicas_with_other_keys_share_nothing_and_decide_alike(
    shared: dict[str, Any], issuer: FakeIssuer, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("A" * 43 + "=")
    other = {"redis": {**shared["redis"], "key_file": str(tmp_path / "other")}}
    token = issuer.token("EdDSA")
    async with (
        replicas(1, {"issuer": issuer.url}, cache={"share": "always"}, **shared) as (one,),
        replicas(1, {"issuer": issuer.url}, cache={"share": "always"}, **other) as (two,),
    ):
        assert await statuses([one, two], token) == [200, 200]
        assert await two.metric("verifier_sealed_entries_refused_total", cause="other_key") >= 1


async def test_a_new_sealing_key_is_introduced_without_losing_what_is_shared(
    shared: dict[str, Any], issuer: FakeIssuer, tmp_path: Path
) -> None:
    (tmp_path / "new").write_text("A" * 43 + "=")
    rotated = {
        **shared["redis"],
        "key_file": str(tmp_path / "new"),
        "previous_key_file": shared["redis"]["key_file"],
    }
    async with replicas(1, {"issuer": issuer.url}, **shared) as clients:
        assert await statuses(clients, issuer.token("EdDSA")) == [200]
    async with replicas(1, {"issuer": issuer.url}, redis=rotated) as clients:
        assert await statuses(clients, issuer.token("EdDSA")) == [200]
    assert issuer.key_fetches == 1


async def test_a_revocation_at_one_replica_is_known_at_all(administered: dict[str, Any], issuer: FakeIssuer) -> None:
    async with replicas(3, {"issuer": issuer.url}, **administered) as clients:
        token = issuer.token("EdDSA", jti="t1")
        assert await statuses(clients, token) == [200, 200, 200]
        made = (await clients[0].admin("POST", json={"issuer": "main", "jti": "t1"})).json
        assert made["shared"] is True
        for client in clients:
            await eventually(partial(_is, client, token, "revoked"), within=2)
        assert await statuses(clients, issuer.token("EdDSA", jti="t2")) == [200, 200, 200]
        assert (await clients[2].admin("DELETE", f"/{made['id']}")).status == 204
        for client in clients:
            await eventually(partial(_is, client, token, None), within=2)
        assert await clients[1].metric("verifier_revocation_lag_seconds_count") == 1


async def _is(client: Client, token: str, reason: str | None) -> bool:
    reply = await client.verify(token)
    return reply.reason == reason if reason else reply.status == 200


async def test_a_replica_that_starts_later_knows_the_revocations(
    administered: dict[str, Any], issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA")
    async with replicas(1, {"issuer": issuer.url}, **administered) as clients:
        assert await statuses(clients, token) == [200]
        await clients[0].admin("POST", json={"token": token})
    async with replicas(1, {"issuer": issuer.url}, **administered) as clients:
        assert await reasons(clients, token) == ["revoked"]


async def test_a_revocation_reaches_what_another_replica_had_verified(
    administered: dict[str, Any], issuer: FakeIssuer, secret_file: Path
) -> None:
    token = issuer.opaque("opaque-1", sub="bob")
    asked = opaque_issuer("asked", f"{issuer.url}/introspect", secret_file)
    async with replicas(2, {**asked, "issuer": issuer.url}, **administered) as clients:
        assert await statuses(clients, token) == [200, 200]
        await clients[0].admin("POST", json={"issuer": "asked", "sub": "bob"})
        await eventually(lambda: _is(clients[1], token, "revoked"), within=2)


async def test_a_revocation_that_no_other_replica_would_hear_of_is_not_made(
    administered: dict[str, Any], issuer: FakeIssuer
) -> None:
    away = {**administered, "redis": {**administered["redis"], "url": "redis://127.0.0.1:1"}}
    async with replicas(1, {"issuer": issuer.url}, **away) as clients:
        reply = await clients[0].admin("POST", json={"issuer": "main", "sub": "alice"})
        assert (reply.status, "did not confirm" in reply.text) == (503, True)
        assert await statuses(clients, issuer.token("EdDSA")) == [200]


async def test_revocations_that_redis_lost_are_put_back(
    administered: dict[str, Any], issuer: FakeIssuer, redis: RedisServer
) -> None:
    token = issuer.token("EdDSA")
    async with replicas(2, {"issuer": issuer.url}, **administered) as clients:
        await clients[0].admin("POST", json={"token": token})
        await eventually(lambda: _is(clients[1], token, "revoked"))
        with redis.admin() as admin:
            admin.flushall()
        await eventually(lambda: _restored(clients))
        async with replicas(1, {"issuer": issuer.url}, **administered) as later:
            assert await reasons(later, token) == ["revoked"]


async def _restored(clients: Sequence[Client]) -> bool:
    return any(line["event"] == "revocations_restored" for client in clients for line in client.log())


async def test_revocations_that_redis_lost_are_put_back_although_new_ones_came(
    administered: dict[str, Any], issuer: FakeIssuer, redis: RedisServer
) -> None:
    tokens = [issuer.token("EdDSA", jti=f"t{n}") for n in range(3)]
    async with replicas(2, {"issuer": issuer.url}, **administered) as clients:
        for token in tokens[:2]:
            await clients[0].admin("POST", json={"token": token})
        await eventually(lambda: _is(clients[1], tokens[1], "revoked"))
        with redis.admin() as admin:
            admin.flushall()
        await clients[0].admin("POST", json={"token": tokens[2]})
        await eventually(lambda: _restored(clients))
        async with replicas(1, {"issuer": issuer.url}, **administered) as later:
            assert [(await later[0].verify(token)).reason for token in tokens] == ["revoked"] * 3


async def test_nothing_of_a_token_is_in_the_clear(
    administered: dict[str, Any], issuer: FakeIssuer, redis: RedisServer, secret_file: Path
) -> None:
    """Everything that travels to Redis, and everything that stays there."""
    secret = "subject-that-nobody-may-see"
    asked = opaque_issuer("asked", f"{issuer.url}/introspect", secret_file)
    opaque = issuer.opaque("opaque-that-nobody-may-see", sub=secret, iss="https://asked.example")
    token = issuer.token("EdDSA", sub=secret, jti="jti-that-nobody-may-see")
    seen: list[str] = []
    with redis.admin() as admin, admin.monitor() as monitor:  # type: ignore[no-untyped-call]
        admin.config_set("rdbcompression", "no")  # a dump would hide what it packs
        async with replicas(2, {"issuer": issuer.url}, asked, cache={"share": "always"}, **administered) as clients:
            for client in clients:
                assert await statuses([client], token) == [200]
                assert await statuses([client], opaque) == [200]
            await clients[0].admin("POST", json={"issuer": "main", "sub": secret, "reason": "reason-not-to-see"})
            await eventually(lambda: _is(clients[1], token, "revoked"))
        admin.echo("the end")
        while not seen or "the end" not in seen[-1]:
            seen.append(monitor.next_command()["command"])
    with redis.admin() as admin:
        kept = [admin.dump(key) for key in admin.keys("*")]
        names = b" ".join(admin.keys("*"))  # type: ignore[arg-type]
    assert len(seen) > 20
    assert len(kept) >= 4
    everything = "\n".join(seen).encode() + names + b"".join(kept)  # type: ignore[arg-type]
    hidden = [secret, opaque, "jti-that-nobody-may-see", "reason-not-to-see", AUD, issuer.url, *token.split(".")]
    assert [text for text in hidden if text.encode() in everything] == []
    assert json.dumps(seen).count("verifier:") > 10
