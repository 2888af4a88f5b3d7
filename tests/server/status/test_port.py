"""``/status`` over HTTP, as a browser and as a program ask for it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.html import Page
from tests.redis_servers import RedisServer
from tests.support import (
    ADMIN_TOKEN,
    AUD,
    Client,
    FakeIssuer,
    Reply,
    eventually,
    free_port,
    opaque_issuer,
    private_key,
    serve,
    settings,
    sign,
)
from verifier.server.status.port import prefers_json

FORM = "/status/explain"
JSON = "/status/explain.json"


@pytest.fixture
async def client(issuer: FakeIssuer, admin_token_file: Path) -> AsyncIterator[Client]:
    async with serve(_configured(issuer, admin_token_file)) as made:
        await eventually(lambda: _is_ready(made))
        yield made


def _configured(issuer: FakeIssuer, admin_token_file: Path, *others: dict[str, Any]) -> Any:
    return settings(
        {"name": "main", "issuer": issuer.url, "audiences": [AUD]},
        *others,
        ops={"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)},
        routes=[{"path": "/closed/**", "deny": True}, {"path": "/pets/**", "scopes": ["read:pets"]}]
        if not others
        else [],
    )


async def _is_ready(client: Client) -> bool:
    return (await client.ops("/readyz")).status == 200


async def asked(client: Client, token: str, admin: str = ADMIN_TOKEN, **fields: str) -> Reply:
    return await client.ops(FORM, "POST", data={"admin": admin, "token": token, **fields})


async def told(client: Client, token: str, admin: str = ADMIN_TOKEN, **members: Any) -> Reply:
    headers = {"Authorization": f"Bearer {admin}"}
    return await client.ops(JSON, "POST", json={"token": token, **members}, headers=headers)


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ([], False),
        (["*/*"], False),
        (["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"], False),
        (["application/json"], True),
        (["APPLICATION/JSON"], True),
        (["application/*"], True),
        (["text/html;q=0.5", "application/json;q=0.6"], True),
        (["application/json;q=0.5, */*;q=0.6"], False),
        (["application/json;q=high"], False),
        (["application/json; charset=utf-8 ; q=1"], True),
    ],
)
def test_whoever_prefers_json_gets_it(accept: list[str], json: bool) -> None:
    assert prefers_json(accept) is json


async def test_a_browser_gets_a_page_and_a_program_json(client: Client) -> None:
    shown = await client.ops("/status", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (shown.status, shown.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "main" in Page(shown.text).text
    read = await client.ops("/status", headers={"Accept": "application/json"})
    assert (read.headers["Content-Type"], read.json["issuers"][0]["standing"]) == ("application/json", "fresh")
    assert {shown.headers["Vary"], read.headers["Vary"]} == {"Accept"}


async def test_there_is_an_address_of_the_json_too(client: Client) -> None:
    reply = await client.ops("/status.json", headers={"Accept": "text/html"})
    assert reply.json["service"]["ready"] is True
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/status", "/status.json", FORM])
async def test_a_head_says_nothing(path: str, client: Client) -> None:
    reply = await client.ops(path, "HEAD")
    assert (reply.status, reply.text) == (200, "")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/status", "GET, HEAD"),
        ("DELETE", "/status.json", "GET, HEAD"),
        ("PUT", FORM, "GET, HEAD, POST"),
        ("GET", JSON, "POST"),
    ],
)
async def test_other_methods_are_refused(method: str, path: str, allowed: str, client: Client) -> None:
    reply = await client.ops(path, method)
    assert (reply.status, reply.headers["Allow"]) == (405, allowed)


async def test_the_data_port_has_no_status(client: Client) -> None:
    assert [(await client.get(path)).status for path in ("/status", "/status.json", FORM)] == [404, 404, 404]


async def test_a_denial_is_shown_with_its_hint_and_without_the_token(client: Client, issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA", aud=f"{AUD}/", sub="canary")
    await client.verify(token, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    reply = await client.ops("/status.json")
    (refused,) = reply.json["refusals"]
    assert (refused["issuer"], refused["reason"], refused["count"]) == ("main", "wrong_audience", 1)
    assert refused["last"]["hint"] == f"{AUD!r} may be meant: it has a slash at its end that is not expected"
    assert refused["last"]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    for part in ("canary", token, *token.split(".")):
        assert part not in reply.text


async def test_an_issuer_that_nearly_is_one_has_a_hint(client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA", iss=f"{issuer.url}/"))
    (denial,) = (await client.ops("/status.json")).json["recent"]
    assert (denial["issuer"], denial["reason"]) == ("", "untrusted_issuer")
    assert denial["hint"] == f"{issuer.url!r} may be meant: it has a slash at its end that is not expected"


async def test_what_an_issuer_says_of_a_token_has_a_hint_too(issuer: FakeIssuer, secret_file: Path) -> None:
    asked = opaque_issuer("opaque", f"{issuer.url}/introspect", secret_file)
    issuer.opaque("canary", iss="https://opaque.example", aud="another")
    async with serve(settings(asked)) as client:
        assert (await client.verify("canary")).reason == "wrong_audience"
        assert (await client.ops("/status.json")).json["recent"][0]["hint"] == f"expected {AUD!r}"


async def test_a_cache_is_shown_with_its_room(client: Client, issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA")
    for _ in range(4):
        await client.verify(token)
    (cache,) = (await client.ops("/status.json")).json["caches"]
    assert (cache["tier"], cache["entries"], cache["hit_ratio"], cache["evictions"]) == ("memory", 1, 0.75, 0)
    assert cache["capacity"] > 1


async def test_allows_are_not_kept(client: Client, issuer: FakeIssuer) -> None:
    await client.verify(issuer.token("EdDSA"))
    found = (await client.ops("/status.json")).json
    assert (found["decisions"]["allowed"], found["recent"]) == (1, [])


async def test_an_issuer_that_went_down_is_stale_and_says_why(issuer: FakeIssuer) -> None:
    fast = {"refresh": "1s", "unknown_kid_cooldown": "1s"}
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]}, keys=fast)) as client:
        await eventually(lambda: _is_ready(client))
        await issuer.stop()

        async def standing() -> bool:
            found = (await client.ops("/status.json")).json["issuers"][0]
            return bool(found["standing"] == "stale" and found["keys"]["last_error"])

        await eventually(standing, within=10)
        assert "stale" in Page((await client.ops("/status")).text).texts


async def test_redis_is_shown_as_it_is(issuer: FakeIssuer, redis: RedisServer, key_file: Path) -> None:
    trusting = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with serve(settings(trusting, redis={"url": redis.url, "key_file": str(key_file)})) as client:
        found = (await client.ops("/status.json")).json
        assert (found["redis"]["available"], found["revocations"]["shared"]) == (True, True)
        assert "connected" in Page((await client.ops("/status")).text).texts
    nowhere = {"url": f"redis://127.0.0.1:{free_port()}", "key_file": str(key_file)}
    async with serve(settings(trusting, redis=nowhere)) as client:

        async def is_given_up() -> bool:
            found = (await client.ops("/status.json")).json["redis"]
            return bool(not found["available"] and found["unavailable_since_at"])

        await eventually(is_given_up)
        shown = Page((await client.ops("/status")).text).text
        assert "not asked It does not answer since" in shown
        assert "ConnectionError" in shown


async def test_a_good_token_is_allowed_and_every_check_shown(client: Client, issuer: FakeIssuer) -> None:
    reply = await asked(client, issuer.token("EdDSA"))
    text = Page(reply.text).text
    assert reply.status == 200
    for said in ("allowed", "signature", "audience", "revocation"):
        assert said in text


async def test_a_token_that_is_over_says_so(client: Client, issuer: FakeIssuer) -> None:
    text = Page((await asked(client, issuer.token("EdDSA", exp=time.time() - 600))).text).text
    assert "refused" in text
    assert "expired" in text


@pytest.mark.parametrize("written", ["{}", "Bearer {}", "  bearer   {}\r\n", "\r\n{}\r\n"])
async def test_a_token_may_be_pasted_as_it_stands_in_a_header(written: str, client: Client, issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA")
    assert (await told(client, written.format(token))).json["allowed"] is True
    assert "allowed" in Page((await asked(client, written.format(token))).text).texts


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"path": "/pets/1"}, "insufficient_scope"),
        ({"path": "/closed/1", "method": "POST", "host": "api.example"}, "route_denied"),
        ({"path": "/elsewhere"}, None),
        ({"path": "/elsewhere", "scopes": ["write:pets"]}, "insufficient_scope"),
        ({"scopes": ["write:pets"]}, "insufficient_scope"),
        ({"audience": "https://other.example"}, "wrong_audience"),
        ({"path": "/pets/1", "audience": "https://other.example"}, "wrong_audience"),
    ],
)
async def test_it_is_the_reason_that_verify_gives(
    fields: dict[str, Any], reason: str | None, client: Client, issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA")
    assert (await told(client, token, **fields)).json["reason"] == reason
    assert (await client.post("/verify", json={"token": token, **fields})).reason == reason


async def test_what_rules_on_trial_would_deny_is_told_and_changes_nothing(
    issuer: FakeIssuer, admin_token_file: Path
) -> None:
    tried = {"report_only": {"audiences": ["https://new.example"]}}
    made = settings(
        {"name": "main", "issuer": issuer.url, "audiences": [AUD], **tried},
        ops={"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)},
        routes=[{"path": "/pets/**", "scopes": ["read:pets"], "report_only": True}],
    )
    async with serve(made) as client:
        await eventually(lambda: _is_ready(client))
        token = issuer.token("EdDSA")
        found = (await told(client, token, path="/pets/1")).json
        assert (found["allowed"], found["would_deny"]) == (True, "wrong_audience")
        assert [step["reason"] for step in found["report_only"]] == ["wrong_audience", "insufficient_scope"]
        assert (
            "report only would be denied: insufficient_scope"
            in Page((await asked(client, token, path="/pets/1")).text).text
        )
        fits = issuer.token("EdDSA", aud=[AUD, "https://new.example"])
        assert (await told(client, fits, path="/elsewhere")).json["would_deny"] is None
        assert (await told(client, issuer.token("EdDSA", exp=1))).json["report_only"] == []
        await client.post("/verify", json={"token": token, "path": "/pets/1"})
        trials = (await client.ops("/status.json")).json["would_deny"]
        assert {(one["issuer"], one["rule"], one["reason"], one["count"]) for one in trials} == {
            ("main", "issuer", "wrong_audience", 1),
            ("main", "route", "insufficient_scope", 1),
        }
        assert "What would not be allowed" in Page((await client.ops("/status")).text).texts


async def test_a_revoked_token_is_told_so(client: Client, issuer: FakeIssuer) -> None:
    await client.admin("POST", json={"issuer": "main", "sub": "alice"})
    assert (await told(client, issuer.token("EdDSA"))).json["reason"] == "revoked"


async def test_another_issuers_signature_is_told_so(client: Client, issuer: FakeIssuer) -> None:
    other = issuer.token("EdDSA", private_key("EdDSA", which=7))
    assert (await told(client, other)).json["reason"] == "bad_signature"


async def test_explaining_leaves_no_trace(client: Client, issuer: FakeIssuer) -> None:
    token, before = issuer.token("EdDSA", sub="canary"), (await client.ops("/status.json")).json
    logged = client.log_stream.getvalue()
    await asked(client, token)
    await told(client, token)
    after = (await client.ops("/status.json")).json
    for name in ("decisions", "caches", "refusals", "recent"):
        assert after[name] == before[name]
    assert client.log_stream.getvalue() == logged


async def test_neither_token_is_in_the_answer(client: Client, issuer: FakeIssuer) -> None:
    for token in (issuer.token("EdDSA"), issuer.token("EdDSA", exp=1), "canary-token", "x." * 40):
        for reply in (await asked(client, token), await told(client, token), await asked(client, token, "wrong")):
            assert token not in reply.text
            assert ADMIN_TOKEN not in reply.text
            assert [part for part in token.split(".") if len(part) > 20 and part in reply.text] == []


@pytest.mark.parametrize(
    "admin",
    ["", "wrong", ADMIN_TOKEN[:-1], f"{ADMIN_TOKEN}x", "\u00fc"],
    ids=["none", "another", "too short", "too long", "no ASCII"],
)
async def test_nobody_without_the_admin_token_is_told_anything(admin: str, client: Client, issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA")
    shown = await asked(client, token, admin)
    assert (shown.status, shown.headers["WWW-Authenticate"]) == (401, 'Bearer realm="admin"')
    assert "That is not the admin token." in Page(shown.text).texts
    assert "alice" not in shown.text
    if admin.isascii():
        assert (await told(client, token, admin)).status == 401


@pytest.mark.parametrize("body", ["", "token", "token=a&token=b", "admin=x", "%ff=%ff"])
async def test_a_form_that_cannot_be_read_shows_no_admin_token(body: str, client: Client) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.ops(FORM, "POST", data=body, headers=headers)).status == 401


@pytest.mark.parametrize("fields", [{"token": ""}, {"token": " "}, {"token": "x", "method": "GET"}])
async def test_what_cannot_be_explained_is_refused(fields: dict[str, str], client: Client) -> None:
    assert (await asked(client, **fields)).status == 400
    assert (await told(client, **fields)).status == 400


@pytest.mark.parametrize("members", [{}, {"token": 1}, {"token": "x", "scopes": "a"}, {"token": "x", "until": 1}])
async def test_json_that_asks_nothing_known_is_refused(members: dict[str, Any], client: Client) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await client.ops(JSON, "POST", json=members, headers=headers)).status == 400


async def test_a_body_of_another_type_is_refused(client: Client) -> None:
    assert (await client.ops(FORM, "POST", json={"token": "x", "admin": ADMIN_TOKEN})).status == 415
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await client.ops(JSON, "POST", data={"token": "x"}, headers=headers)).status == 415


async def test_an_admin_token_that_cannot_be_read_serves_nobody(client: Client, admin_token_file: Path) -> None:
    admin_token_file.unlink()  # noqa: ASYNC240 - at once
    assert (await asked(client, "x")).status == 503
    assert (await told(client, "x")).status == 503


async def test_without_an_admin_token_there_is_no_form_and_nobody_is_told_anything(issuer: FakeIssuer) -> None:
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        made = Page((await client.ops("/status")).text)
        assert made.of("form") == []
        assert "ops.admin_token_file" in made.text
        for reply in (await client.ops(FORM), await asked(client, "x", ""), await told(client, "x", "")):
            assert reply.status == 404
            assert "ops.admin_token_file" in reply.text


async def test_a_token_that_only_its_issuer_can_judge_is_not_judged(
    issuer: FakeIssuer, admin_token_file: Path, secret_file: Path
) -> None:
    opaque = opaque_issuer("opaque", f"{issuer.url}/introspect", secret_file)
    async with serve(_configured(issuer, admin_token_file, opaque)) as client:
        await eventually(lambda: _is_ready(client))
        issued = sign({"iss": "https://opaque.example", "exp": time.time() + 60}, algorithm="EdDSA")
        for token in ("an-opaque-token", issued):
            found = (await told(client, token)).json
            assert (found["allowed"], found["reason"]) == (None, None)
            assert found["steps"][0]["found"] == "would be asked: opaque"
        assert issuer.introspections == 0
        shown = {one["name"]: one["standing"] for one in (await client.ops("/status.json")).json["issuers"]}
        assert shown == {"main": "fresh", "opaque": "asked"}


async def test_a_jwt_that_its_issuer_is_asked_about_too_is_not_called_allowed(
    issuer: FakeIssuer, admin_token_file: Path, secret_file: Path
) -> None:
    asked_too = {
        "introspect": "always",
        "introspection": {
            "endpoint": f"{issuer.url}/introspect",
            "client_id": "verifier",
            "client_secret_file": str(secret_file),
        },
    }
    made = settings(
        {"name": "main", "issuer": issuer.url, "audiences": [AUD], **asked_too},
        ops={"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)},
    )
    async with serve(made) as client:
        await eventually(lambda: _is_ready(client))
        assert (await told(client, issuer.token("EdDSA"))).json["allowed"] is None
        assert (await told(client, issuer.token("EdDSA", exp=1))).json["reason"] == "expired"


async def test_while_keys_are_missing_it_says_so(admin_token_file: Path) -> None:
    made = settings(
        {"name": "main", "issuer": "http://127.0.0.1:1", "audiences": [AUD]},
        ops={"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)},
    )
    async with serve(made) as client:
        token = sign({"iss": "http://127.0.0.1:1", "exp": time.time() + 60, "aud": AUD}, algorithm="EdDSA")
        assert (await told(client, token)).json["reason"] == "keys_unavailable"
        assert (await client.ops("/status.json")).json["issuers"][0]["standing"] == "without keys"
