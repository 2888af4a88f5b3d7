"""Another configuration, while the service runs."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509

from tests import tls
from tests.grpc_check import ask
from tests.redis_servers import RedisServer
from tests.support import ADMIN_TOKEN, AUD, Client, FakeIssuer, eventually, fake_issuer, serve, settings
from verifier.app import Configuration, issuers, renewing
from verifier.config import ConfigError, Problem, Settings, load

OTHER = "https://other.example"


@dataclass
class Written:
    """The configuration as it is now."""

    settings: Settings

    def load(self) -> Settings:
        return self.settings


@dataclass
class Renewable:
    client: Client
    written: Written

    async def become(self, *issuers: dict[str, Any], **changes: Any) -> None:
        self.written.settings = settings(*issuers, **changes)
        await self.client.service.renew()

    def events(self) -> list[str]:
        return [line["event"] for line in self.client.log() if line["event"].startswith("config_")]


@asynccontextmanager
async def renewable(*issuers: dict[str, Any], **changes: Any) -> AsyncIterator[Renewable]:
    written = Written(settings(*issuers, **changes))
    async with serve(written.settings, Configuration(written.load)) as client:
        yield Renewable(client, written)


def main(issuer: FakeIssuer, **changes: Any) -> dict[str, Any]:
    return {"name": "main", "issuer": issuer.url, "audiences": [AUD], **changes}


@pytest.fixture
async def second() -> AsyncIterator[FakeIssuer]:
    async with fake_issuer("EdDSA") as made:
        yield made


async def lookups(client: Client, result: str) -> float:
    return await client.metric("verifier_cache_lookups_total", tier="memory", result=result)


# What it brings about


async def test_the_status_page_shows_it_and_explains_by_it(issuer: FakeIssuer, admin_token_file: Path) -> None:
    ops = {"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)}
    asked: dict[str, Any] = {
        "json": {"token": issuer.token("EdDSA")},
        "headers": {"Authorization": f"Bearer {ADMIN_TOKEN}"},
    }
    async with renewable(main(issuer), ops=ops) as service:
        before = (await service.client.ops("/status.json")).json["service"]["config_hash"]
        await service.become(main(issuer, name="renamed", audiences=[OTHER]), ops=ops)
        found = (await service.client.ops("/status.json")).json
        assert [one["name"] for one in found["issuers"]] == ["renamed"]
        assert found["service"]["config_hash"] not in (None, before)
        told = await service.client.ops("/status/explain.json", "POST", **asked)
        assert told.json["reason"] == "wrong_audience"
        await service.become(main(issuer), ops=ops, log={"denials": False})
        assert (await service.client.ops("/status.json")).json["service"]["config_reload_refused"]


async def test_what_is_asked_from_then_on_is_decided_by_it(issuer: FakeIssuer) -> None:
    """On connections that were open before too, and of tokens whose allow was about to be repeated."""
    token = issuer.token("EdDSA")
    async with renewable(main(issuer)) as service:
        assert {(await service.client.verify(token)).status for _ in range(3)} == {200}
        await service.become(main(issuer, audiences=[OTHER]))
        assert (await service.client.verify(token)).reason == "wrong_audience"
        await service.become(main(issuer))
        assert (await service.client.verify(token)).status == 200
        assert service.events() == ["config_applied", "config_applied"]


async def test_routes_and_identity_headers_are_those_of_the_new_one(issuer: FakeIssuer) -> None:
    asked = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": "a", "X-Forwarded-Uri": "/pets"}
    asked["Authorization"] = f"Bearer {issuer.token('EdDSA')}"
    async with renewable(main(issuer)) as service:
        assert (await service.client.get("/forward-auth", **asked)).status == 200
        route = {"path": "/pets", "scopes": ["admin"]}
        await service.become(main(issuer), routes=[route])
        assert (await service.client.get("/forward-auth", **asked)).status == 403
        await service.become(main(issuer), identity_headers={"X-Who": "sub"})
        assert (await service.client.get("/forward-auth", **asked)).headers["X-Who"] == "alice"


async def test_a_trial_that_begins_changes_or_ends_costs_no_identity(issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA")
    trials = (({"audiences": [OTHER]}, "wrong_audience"), ({"algorithms": ["ES256"]}, "algorithm_not_allowed"))
    async with renewable(main(issuer)) as service:
        client = service.client
        assert {(await client.verify(token)).status for _ in range(3)} == {200}
        for stricter, _ in trials:
            await service.become(main(issuer, report_only=stricter))
            assert (await client.verify(token)).status == 200
        await service.become(main(issuer))
        assert (await client.verify(token)).status == 200
        counted = [await client.metric("verifier_would_deny_total", reason=reason) for _, reason in trials]
        assert counted == [1, 1]
        assert await lookups(client, "miss") == 1
        assert issuer.key_fetches == 1


@pytest.mark.parametrize("redis", [{}, {"url": "redis://127.0.0.1", "trusted": True}])
def test_keys_and_answers_of_an_issuer_do_not_depend_on_a_trial(redis: dict[str, Any]) -> None:
    one = {"name": "main", "issuer": OTHER, "audiences": [AUD]}
    plain = settings(one, redis=redis)
    tried = settings({**one, "report_only": {"algorithms": ["ES256"]}}, redis=redis)
    assert issuers.about_keys(tried, "main") == issuers.about_keys(plain, "main")
    assert issuers.about_answers(tried, "main") == issuers.about_answers(plain, "main")


async def test_what_is_on_trial_from_then_on_is_said(issuer: FakeIssuer) -> None:
    async with renewable(main(issuer)) as service:
        await service.become(main(issuer), routes=[{"path": "/pets", "deny": True, "report_only": True}])
        assert [line["detail"] for line in service.client.log() if line["event"] == "report_only"] == ["routes[0]"]


async def test_an_address_that_is_trusted_no_more_may_not_go_on_where_it_is_connected(issuer: FakeIssuer) -> None:
    asked = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": "a", "X-Forwarded-Uri": "/pets"}
    asked["Authorization"] = f"Bearer {issuer.token('EdDSA')}"
    async with renewable(main(issuer)) as service:
        assert [(await service.client.get("/forward-auth", **asked)).status for _ in range(2)] == [200, 200]
        await service.become(main(issuer), trusted_proxies=["10.0.0.0/8"])
        assert (await service.client.get("/forward-auth", **asked)).reason == "untrusted_proxy"


async def test_the_grpc_port_decides_by_it_too(issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA")
    grpc = {"listen": "127.0.0.1:0"}
    async with renewable(main(issuer), grpc=grpc) as service:
        assert (await ask(service.client, token)).status.code == 0
        await service.become(main(issuer, audiences=[OTHER]), grpc=grpc)
        assert (await ask(service.client, token)).status.code != 0


async def test_an_issuer_that_is_gone_is_trusted_no_more(issuer: FakeIssuer, second: FakeIssuer) -> None:
    """Nor asked for its keys, nor spoken of."""
    both = main(issuer), main(second, name="second")
    async with renewable(*both) as service:
        assert (await service.client.verify(second.token("EdDSA"))).status == 200
        await service.become(main(issuer))
        assert (await service.client.verify(second.token("EdDSA"))).reason == "untrusted_issuer"
        assert list((await service.client.ops("/readyz")).json["issuers"]) == ["main"]
        assert 'verifier_key_set_keys{issuer="second"}' not in (await service.client.ops("/metrics")).text
        assert await service.client.metric("verifier_cache_entries", kind="identity", tier="memory") == 0
        await eventually(lambda: not any("second" in task.get_name() for task in asyncio.all_tasks()))


async def test_an_issuer_that_needs_no_keys_any_more_is_not_asked_for_them(
    issuer: FakeIssuer, secret_file: Path
) -> None:
    """Nor shown as one without any."""
    asked = {"endpoint": f"{issuer.url}/introspect", "client_id": "v", "client_secret_file": str(secret_file)}
    async with renewable(main(issuer, introspection=asked)) as service:
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        await service.become(main(issuer, introspection=asked, introspect="only"))
        assert (await service.client.ops("/readyz")).json["issuers"] == {}
        await eventually(lambda: not any("keys of main" in task.get_name() for task in asyncio.all_tasks()))


async def test_revocations_hold_and_may_be_of_new_issuers(
    issuer: FakeIssuer, second: FakeIssuer, admin_token_file: Path
) -> None:
    ops = {"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)}
    async with renewable(main(issuer), ops=ops) as service:
        await service.client.admin("POST", json={"issuer": "main", "sub": "alice"})
        await service.become(main(issuer), main(second, name="second"), ops=ops)
        assert (await service.client.verify(issuer.token("EdDSA"))).reason == "revoked"
        assert (await service.client.admin("POST", json={"issuer": "second", "sub": "alice"})).status == 201
        assert (await service.client.verify(second.token("EdDSA"))).reason == "revoked"


async def test_callers_are_those_of_the_new_one(issuer: FakeIssuer, tmp_path: Path) -> None:
    secret = tmp_path / "caller"
    secret.write_text("0123456789abcdef")
    async with renewable(main(issuer)) as service:
        assert (await service.client.verify()).status == 401
        await service.become(main(issuer), callers=[{"name": "a", "secret_file": str(secret)}])
        assert (await service.client.verify()).status == 403
        assert (await service.client.verify(**{"X-Verifier-Secret": "0123456789abcdef"})).status == 401


async def test_a_certificate_at_another_place_is_used(issuer: FakeIssuer, tmp_path: Path) -> None:
    authority = tls.authority()
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(tls.certificate(authority, f"{name}.example"))

    def of(name: str) -> dict[str, str]:
        return {"certificate_file": str(tmp_path / name), "key_file": str(tmp_path / name)}

    async with renewable(main(issuer), tls=of("one")) as service:
        await service.become(main(issuer), tls=of("two"))
        assert await tls_name(service.client) == "two.example"


async def tls_name(client: Client) -> str:
    """The name in the certificate that the service shows."""
    host, port = client.service.address.split(":")
    shown = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    (name,) = x509.load_pem_x509_certificate(shown.encode()).subject
    return str(name.value)


# What stays


async def test_only_the_tokens_of_issuers_that_changed_are_verified_anew(
    issuer: FakeIssuer, second: FakeIssuer
) -> None:
    of_main, of_second = issuer.token("EdDSA"), second.token("EdDSA")
    async with renewable(main(issuer), main(second, name="second")) as service:
        for token in (of_main, of_second):
            await service.client.verify(token)
        before = await lookups(service.client, "miss")
        await service.become(main(issuer), main(second, name="second", leeway="1s"), cache={"max_entries": 50})
        assert await service.client.metric("verifier_cache_entries", kind="identity", tier="memory") == 1
        for token in (of_main, of_second):
            assert (await service.client.verify(token)).status == 200
        assert await lookups(service.client, "miss") - before == 1


async def test_the_cache_has_the_room_that_it_says(issuer: FakeIssuer) -> None:
    async with renewable(main(issuer)) as service:
        for number in range(20):
            await service.client.verify(issuer.token("EdDSA", nonce=number))
        await service.become(main(issuer), cache={"max_entries": 10})
        assert await service.client.metric("verifier_cache_entries", kind="identity", tier="memory") == 10


async def test_keys_are_not_fetched_again_where_nothing_about_them_changed(issuer: FakeIssuer) -> None:
    async with renewable(main(issuer)) as service:
        await eventually(lambda: issuer.key_fetches == 1)
        await service.become(main(issuer, audiences=[AUD, OTHER]), routes=[{"path": "/a", "deny": True}])
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        assert issuer.key_fetches == 1
        await service.become(main(issuer, jwks_uri=f"{issuer.url}/jwks"))
        assert issuer.key_fetches == 2


@pytest.mark.parametrize("how", ["another audience", "another refresh"])
async def test_an_outage_of_the_issuer_costs_no_keys(
    how: str, issuer: FakeIssuer, redis: RedisServer, key_file: Path
) -> None:
    """With Redis, where they bear a name that all replicas know."""
    shared = {"redis": {"url": redis.url, "key_file": str(key_file)}}
    async with renewable(main(issuer), **shared) as service:
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        await issuer.stop()
        if how == "another audience":
            await service.become(main(issuer, audiences=[AUD, OTHER]), **shared)
        else:
            await service.become(main(issuer), keys={"refresh": "5m"}, **shared)
        assert service.events() == ["config_applied"]
        assert (await service.client.verify(issuer.token("EdDSA", jti="1"))).status == 200


async def test_a_shorter_time_for_old_keys_counts_at_once(issuer: FakeIssuer) -> None:
    async with renewable(main(issuer), keys={"deadline": "100ms"}) as service:
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        await issuer.stop()
        await asyncio.sleep(1.1)
        await service.become(main(issuer), keys={"deadline": "100ms", "max_stale": "1s"})
        assert (await service.client.verify(issuer.token("EdDSA"))).reason == "keys_unavailable"


async def test_a_breaker_that_is_open_stays_open(issuer: FakeIssuer, second: FakeIssuer, secret_file: Path) -> None:
    """Introspection goes on as it is where nothing about it changed."""
    asked = {"endpoint": f"{second.url}/introspect", "client_id": "v", "client_secret_file": str(secret_file)}
    both = main(issuer), main(second, name="second", introspect="only", introspection=asked)
    second.fault = lambda _: aiohttp.web.Response(status=500)
    async with renewable(*both) as service:

        async def is_open() -> bool:
            await service.client.verify("opaque-token-of-nobody")
            return await service.client.metric("verifier_introspection_breaker_open", issuer="second") == 1

        await eventually(is_open)
        await service.become(main(issuer, leeway="1s"), both[1])
        assert await service.client.metric("verifier_introspection_breaker_open", issuer="second") == 1


async def test_a_decision_under_way_is_still_the_old_ones(issuer: FakeIssuer, second: FakeIssuer) -> None:
    """And gets what it waits for, although its issuer is gone meanwhile."""
    goes_on = asyncio.Event()

    async def waits(_: aiohttp.web.Request) -> aiohttp.web.Response:
        await goes_on.wait()
        return aiohttp.web.json_response({"keys": [key.as_dict(private=False) for key in second.keys]})

    second.fault = waits
    of_second = main(second, name="second", jwks_uri=f"{second.url}/jwks")
    async with renewable(main(issuer), of_second) as service:
        waiting = asyncio.create_task(service.client.verify(second.token("EdDSA")))
        await eventually(lambda: len(second.requests) == 1)
        await asyncio.sleep(0.05)
        await service.become(main(issuer))
        assert (await service.client.verify(second.token("EdDSA"))).reason == "untrusted_issuer"
        goes_on.set()
        assert (await waiting).status == 200


async def test_a_request_whose_body_is_still_on_its_way_is_the_new_ones(issuer: FakeIssuer) -> None:
    """Or its client could keep the old one for as long as a body may take."""
    body = json.dumps({"token": issuer.token("EdDSA")}).encode()
    head = f"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with renewable(main(issuer)) as service:
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        host, port = service.client.service.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body[:10])
        await eventually(lambda: service.client.metric("verifier_requests_in_flight"))
        await service.become(main(issuer, audiences=[OTHER]))
        writer.write(body[10:])
        assert b" 401 " in await reader.readline()
        assert b"wrong_audience" in await reader.readuntil(b"}")
        writer.close()
        await writer.wait_closed()


async def test_a_caller_who_is_known_no_more_may_not_finish_its_request(issuer: FakeIssuer, tmp_path: Path) -> None:
    secret = tmp_path / "caller"
    secret.write_text("0123456789abcdef")
    head = "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    async with renewable(main(issuer)) as service:
        host, port = service.client.service.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        await eventually(lambda: service.client.metric("verifier_requests_in_flight"))
        await service.become(main(issuer), callers=[{"name": "a", "secret_file": str(secret)}])
        writer.write(b"{}")
        assert b" 403 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_no_request_fails_meanwhile_and_a_new_issuer_has_its_keys_from_the_first(
    issuer: FakeIssuer, second: FakeIssuer
) -> None:
    failed: list[Any] = []
    asked = 0
    async with renewable(main(issuer)) as service:

        async def load() -> None:
            nonlocal asked
            while True:
                reply = await service.client.verify(issuer.token("EdDSA", nonce=asked))
                asked += 1
                if reply.status != 200:
                    failed.append(reply)

        loading = [asyncio.create_task(load()) for _ in range(4)]
        for number in range(10):
            name = f"second-{number}"
            await service.become(main(issuer, leeway=f"{number + 1}s"), main(second, name=name))
            reply = await service.client.verify(second.token("EdDSA"))
            assert (reply.status, reply.json["principal"]["issuer_name"]) == (200, name)
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
    assert failed == []
    assert asked > 20


async def test_a_service_that_is_about_to_end_stays_so(issuer: FakeIssuer) -> None:
    async with renewable(main(issuer), drain_delay="0s") as service:
        await service.client.service.drain()
        await service.become(main(issuer, leeway="1s"), drain_delay="0s")
        assert (await service.client.verify()).headers["Connection"] == "close"
        assert (await service.client.ops("/readyz")).json["draining"]


# What cannot be used


async def test_a_configuration_that_cannot_be_loaded_changes_nothing(issuer: FakeIssuer) -> None:
    def broken() -> Settings:
        raise ConfigError((Problem("issuers[0].audiences", "is mandatory"), Problem("keys", "is no key")))

    written = settings(main(issuer))
    async with serve(written, Configuration(broken)) as client:
        before = await client.metric("verifier_config_hash")
        await client.service.renew()
        assert (await client.verify(issuer.token("EdDSA"))).status == 200
        assert await client.metric("verifier_config_reloads_total", result="refused") == 1
        assert await client.metric("verifier_config_last_reload_successful") == 0
        assert await client.metric("verifier_config_hash") == before
        told = [line["detail"] for line in client.log() if line["event"] == "config_refused"]
        assert told == ["issuers[0].audiences: is mandatory", "keys: is no key"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"listen": "127.0.0.1:1"}, "listen"),
        ({"workers": 2}, "workers"),
        ({"redis": {"url": "redis://127.0.0.1:1", "trusted": True}}, "redis"),
        ({"log": {"denials": False}}, "log"),
    ],
)
async def test_what_is_fixed_at_the_start_is_refused_and_nothing_else_of_it_applied(
    changes: dict[str, Any], named: str, issuer: FakeIssuer
) -> None:
    async with renewable(main(issuer)) as service:
        await service.become(main(issuer, audiences=[OTHER]), **changes)
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        (line,) = [line for line in service.client.log() if line["event"] == "config_refused"]
        assert line["detail"].startswith(f"{named}: differs")


async def test_a_file_that_cannot_be_used_is_told_by_its_key(issuer: FakeIssuer, tmp_path: Path) -> None:
    async with renewable(main(issuer)) as service:
        await service.become(main(issuer), callers=[{"name": "a", "secret_file": str(tmp_path / "missing")}])
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        (line,) = [line for line in service.client.log() if line["event"] == "config_refused"]
        assert line["detail"].startswith("callers[0].secret_file: cannot read")


async def test_keys_in_a_file_that_is_not_there_do_not_take_the_place_of_keys(
    issuer: FakeIssuer, tmp_path: Path
) -> None:
    """At a start, they would be waited for."""
    async with renewable(main(issuer)) as service:
        await service.become(main(issuer, jwks_file=str(tmp_path / "missing")))
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        assert service.events() == ["config_refused"]


async def test_tls_cannot_be_switched_on_meanwhile(issuer: FakeIssuer, tmp_path: Path) -> None:
    pair = tmp_path / "pair.pem"
    pair.write_bytes(tls.certificate(tls.authority(), "localhost"))
    async with renewable(main(issuer)) as service:
        await service.become(main(issuer), tls={"certificate_file": str(pair), "key_file": str(pair)})
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        assert service.events() == ["config_refused"]


async def test_a_defect_on_the_way_leaves_the_old_one_at_work(
    issuer: FakeIssuer, second: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of the new one behind."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with renewable(main(issuer)) as service:
        with monkeypatch.context() as patched:
            patched.setattr("verifier.app.generation.Engine", broken)
            await service.become(main(issuer, audiences=[OTHER]), main(second, name="second"))
        assert (await service.client.verify(issuer.token("EdDSA"))).status == 200
        assert service.events() == ["config_refused"]
        assert not any("second" in task.get_name() for task in asyncio.all_tasks())
        await service.become(main(issuer, audiences=[OTHER]))
        assert (await service.client.verify(issuer.token("EdDSA"))).reason == "wrong_audience"


async def test_one_that_says_the_same_is_no_change(issuer: FakeIssuer) -> None:
    async with renewable(main(issuer)) as service:
        await service.become(main(issuer))
        assert service.events() == ["config_unchanged"]
        assert await service.client.metric("verifier_config_reloads_total", result="unchanged") == 1


# When it is read


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at files follow each other at once."""
    original = renewing.Renewing.following
    monkeypatch.setattr(renewing.Renewing, "following", lambda self: original(self, 0.02))


@pytest.mark.usefixtures("prompt")
async def test_a_file_that_changes_is_read_again(issuer: FakeIssuer, tmp_path: Path) -> None:
    """Also where it was broken in between, or gone."""
    file = tmp_path / "verifier.json"
    common = {"listen": "127.0.0.1:0", "ops": {"listen": "127.0.0.1:0"}}
    file.write_text(json.dumps({**common, "issuers": [main(issuer)]}))
    async with serve(load(file), Configuration(lambda: load(file), file)) as client:

        async def result(name: str) -> bool:
            return await client.metric("verifier_config_reloads_total", result=name) >= 1

        file.unlink()
        await eventually(lambda: result("refused"))
        file.write_text(json.dumps({**common, "issuers": [main(issuer, audiences=[OTHER])]}))
        await eventually(lambda: result("applied"))
        assert (await client.verify(issuer.token("EdDSA"))).reason == "wrong_audience"
        assert await client.metric("verifier_config_last_reload_successful") == 1


@pytest.mark.usefixtures("prompt")
async def test_what_was_refused_is_tried_again_as_a_file_that_it_names_may_come_later(
    issuer: FakeIssuer, tmp_path: Path
) -> None:
    file, secret = tmp_path / "verifier.json", tmp_path / "secret"
    common = {"listen": "127.0.0.1:0", "ops": {"listen": "127.0.0.1:0"}, "issuers": [main(issuer)]}
    file.write_text(json.dumps(common))
    async with serve(load(file), Configuration(lambda: load(file), file)) as client:
        file.write_text(json.dumps({**common, "callers": [{"name": "a", "secret_file": str(secret)}]}))
        await eventually(lambda: '"config_refused"' in client.log_stream.getvalue())
        secret.write_text("0123456789abcdef")
        await eventually(lambda: '"config_applied"' in client.log_stream.getvalue())
        assert (await client.verify()).status == 403
