"""The surfaces of gateways, over HTTP."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.gateway_table import HOST, IDENTITY, ODD_NAMES, PREFLIGHT, TABLE, TOKENS, Row, configuration, subject
from tests.grpc_check import check, check_request
from tests.support import AUD, Client, FakeIssuer, Reply, eventually, serve, settings
from verifier.core.reasons import Reason


def _settings(issuer: FakeIssuer, **changes: Any) -> Any:
    made = configuration({"name": "main", "issuer": issuer.url, "audiences": [AUD]})
    return settings(*made.pop("issuers"), **{**made, "grpc": {"listen": "127.0.0.1:0"}, **changes})


ON_SURFACES = [row for row in TABLE if not row.wire]


@pytest.fixture
async def gateway(issuer: FakeIssuer) -> AsyncIterator[Client]:
    async with serve(_settings(issuer)) as made:
        await eventually(lambda: _has_keys(made, issuer))
        yield made


async def _has_keys(client: Client, issuer: FakeIssuer) -> bool:
    return (await client.verify(issuer.token("EdDSA"))).status == 200


async def raw(client: Client, method: str, target: str, headers: list[tuple[str, str]]) -> Reply:
    """A request whose target goes out as it is."""
    host, _, port = client.service.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "Connection: close"]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *fields = head.decode().split("\r\n")
    found = {name: value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return Reply(int(status.split()[1]), found, body.decode())


Ask = Callable[[Client, Row, list[tuple[str, str]]], Any]


def forward_auth(client: Client, row: Row, headers: list[tuple[str, str]]) -> Any:
    told = [("X-Forwarded-Method", row.method), ("X-Forwarded-Host", row.host), ("X-Forwarded-Uri", row.target)]
    return raw(client, "GET", "/forward-auth", [("Host", "verifier"), *told, *headers])


def auth_request(client: Client, row: Row, headers: list[tuple[str, str]]) -> Any:
    told = [("X-Original-Method", row.method), ("X-Original-URL", f"https://{row.host}{row.target}")]
    return raw(client, "GET", "/auth-request", [("Host", "verifier"), *told, *headers])


def ext_authz(client: Client, row: Row, headers: list[tuple[str, str]]) -> Any:
    return raw(client, row.method, f"/ext-authz{row.target}", [("Host", row.host), *headers])


async def ext_authz_grpc(client: Client, row: Row, headers: list[tuple[str, str]]) -> Reply:
    """The answer as Envoy gives it to the client, or its identity headers to the application."""
    answer = await check(client.service.grpc_address or "", check_request(row.method, row.host, row.target, headers))
    if answer.HasField("ok_response"):
        allow = answer.ok_response
        said = {option.header.key: option.header.value for option in allow.headers}
        return Reply(200, {**said, **dict.fromkeys(allow.headers_to_remove, "")}, "")
    refusal = answer.denied_response
    return Reply(refusal.status.code, {one.header.key: one.header.value for one in refusal.headers}, refusal.body)


SURFACES: dict[str, Ask] = {
    "forward_auth": forward_auth,
    "auth_request": auth_request,
    "ext_authz": ext_authz,
    "ext_authz_grpc": ext_authz_grpc,
}


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("row", ON_SURFACES, ids=[row.name for row in ON_SURFACES])
async def test_every_surface_judges_alike(surface: str, row: Row, gateway: Client, issuer: FakeIssuer) -> None:
    token = None if row.token is None else TOKENS[row.token](issuer)
    bearer = [] if token is None else [("Authorization", f"Bearer {token}")]
    reply = await SURFACES[surface](gateway, row, [*bearer, *row.headers])
    assert reply.status == row.status(surface)
    if row.reason is None:
        assert reply.headers["X-Auth-Subject"] == ("" if token is None else subject(token))
        return
    assert "X-Auth-Subject" not in reply.headers
    if row.method != "HEAD":
        assert reply.reason == row.reason


def test_the_table_is_long_enough() -> None:
    assert len(ON_SURFACES) >= 60


ALLOWED = Row("GET", "/elsewhere", "reader")


async def test_identity_headers_are_all_there_for_nobody_too(gateway: Client) -> None:
    reply = await forward_auth(gateway, Row("GET", "/public", None), [])
    names = ["X-Auth-Subject", "X-Auth-Issuer", "X-Auth-Client-Id", "X-Auth-Scope", "X-Auth-Expires", "X-Auth-Omitted"]
    assert [reply.headers[name] for name in names] == [""] * 6
    assert set(names) == set(IDENTITY)


async def test_identity_headers_say_who_it_is(issuer: FakeIssuer) -> None:
    mapped = {"X-User-Email": "email", "X-User-Roles": "/realm_access/roles", "X-User-Verified": "email_verified"}
    token = issuer.token(
        "EdDSA",
        client_id="web",
        exp=int(time.time()) + 100,
        email="ä%@example.com",
        realm_access={"roles": ["a", "b"]},
        email_verified=True,
    )
    async with serve(_settings(issuer, identity_headers=mapped)) as client:
        reply = await forward_auth(client, ALLOWED, [("Authorization", f"Bearer {token}")])
    assert reply.headers["X-Auth-Subject"] == "alice"
    assert reply.headers["X-Auth-Issuer"] == issuer.url
    assert reply.headers["X-Auth-Client-Id"] == "web"
    assert reply.headers["X-Auth-Scope"] == "read write"
    assert reply.headers["X-Auth-Expires"].isdecimal()
    assert reply.headers["X-User-Email"] == "%C3%A4%25@example.com"
    assert reply.headers["X-User-Roles"] == '["a","b"]'
    assert reply.headers["X-User-Verified"] == "true"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("a\r\nX-Auth-Scope: admin", "a%0D%0AX-Auth-Scope: admin"),
        ("a\x00b", "a%00b"),
        ("\u2028", "%E2%80%A8"),
        (" alice ", "alice"),
        ("100%", "100%25"),
    ],
)
async def test_a_claim_cannot_become_another_header(
    subject: str, expected: str, gateway: Client, issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA", sub=subject, scope="read")
    reply = await forward_auth(gateway, ALLOWED, [("Authorization", f"Bearer {token}")])
    assert (reply.headers["X-Auth-Subject"], reply.headers["X-Auth-Scope"]) == (expected, "read")


async def test_claims_that_no_proxy_has_room_for_are_omitted_by_name(gateway: Client, issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA", scope=" ".join(f"scope-{number}" for number in range(400)))
    reply = await forward_auth(gateway, ALLOWED, [("Authorization", f"Bearer {token}")])
    assert (reply.status, reply.headers["X-Auth-Scope"], reply.headers["X-Auth-Omitted"]) == (200, "", "X-Auth-Scope")


@pytest.mark.parametrize(
    ("ask", "headers"),
    [
        (forward_auth, [("X-Forwarded-Uri", "/public")]),
        (forward_auth, [("X-Forwarded-Method", "GET")]),
        (forward_auth, [("X-Forwarded-Host", HOST)]),
        (forward_auth, [("X-Original-URL", f"https://{HOST}/public")]),
        (forward_auth, [("X-Original-Method", "GET")]),
        (auth_request, [("X-Original-URL", f"https://{HOST}/public")]),
        (auth_request, [("X-Original-Method", "GET")]),
    ],
)
async def test_an_original_that_is_told_twice_is_ambiguous(
    ask: Ask, headers: list[tuple[str, str]], gateway: Client, issuer: FakeIssuer
) -> None:
    authorization = ("Authorization", f"Bearer {issuer.token('EdDSA')}")
    reply = await ask(gateway, ALLOWED, [authorization, *headers])
    assert reply.status == (401 if ask is auth_request else 400)
    assert reply.reason == Reason.MALFORMED_REQUEST


@pytest.mark.parametrize("path", ["/forward-auth", "/auth-request"])
async def test_an_original_that_is_not_told_is_not_judged(path: str, gateway: Client, issuer: FakeIssuer) -> None:
    reply = await gateway.get(path, Authorization=f"Bearer {issuer.token('EdDSA')}")
    assert (reply.status, reply.reason) == (401 if path == "/auth-request" else 400, Reason.MALFORMED_REQUEST)


@pytest.mark.parametrize("surface", SURFACES)
async def test_who_is_no_trusted_proxy_may_not_ask_for_others(surface: str, issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, trusted_proxies=["10.0.0.0/8"])) as client:
        reply = await SURFACES[surface](client, Row("GET", "/public", None), [])
        assert (reply.status, reply.reason) == (403, Reason.UNTRUSTED_PROXY)
        assert (await client.verify(issuer.token("EdDSA"))).status == 200


async def test_a_body_can_name_a_request_too(gateway: Client, issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA", scope="read")

    async def ask(**request: Any) -> str | None:
        return (await gateway.post("/verify", json={"token": token, **request})).reason

    assert await ask(method="GET", host=HOST, path="/pets") is None
    assert await ask(method="POST", host=HOST, path="/pets") == Reason.INSUFFICIENT_SCOPE
    assert await ask(host=HOST, path="/admin") == Reason.INSUFFICIENT_SCOPE
    assert await ask(path="/public/a") == Reason.ROUTE_DENIED  # there are routes for hosts
    assert await ask(method="post", host=HOST, path="/pets") == Reason.ROUTE_DENIED
    assert await ask(host=HOST, path=f"https://{HOST}/pets") == Reason.ROUTE_DENIED
    assert await ask() is None
    assert await ask(method="GET") == Reason.MALFORMED_REQUEST


async def test_nobody_may_be_asked_about_where_nobody_is_enough(gateway: Client) -> None:
    reply = await gateway.post("/verify", json={"host": HOST, "path": "/public/a"})
    assert reply.json == {"allowed": True, "principal": None}
    assert (await gateway.post("/verify", json={"host": HOST, "path": "/pets"})).reason == Reason.MISSING_TOKEN


@pytest.mark.parametrize("demand", [{"scopes": ["admin"]}, {"audience": "https://api.example"}])
async def test_nobody_meets_what_the_question_itself_demands(demand: dict[str, Any], gateway: Client) -> None:
    reply = await gateway.post("/verify", json={"host": HOST, "path": "/public/a", **demand})
    assert (reply.status, reply.reason) == (401, Reason.MISSING_TOKEN)


async def test_a_default_can_deny(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, default_route="deny")) as client:
        headers = [("Authorization", f"Bearer {issuer.token('EdDSA')}")]
        assert (await forward_auth(client, ALLOWED, headers)).reason == Reason.ROUTE_DENIED
        assert (await forward_auth(client, Row("GET", "/public", None), [])).status == 200


async def test_preflights_are_judged_like_others_unless_it_is_said(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, preflights="check")) as client:
        row = next(row for row in TABLE if row.method == "OPTIONS" and row.reason is None)
        assert (await forward_auth(client, row, list(row.headers))).reason == Reason.MISSING_TOKEN


PIECES = [
    "/",
    "//",
    "/.",
    "/..",
    "/%2e%2e",
    "/public",
    "/admin",
    "/pets",
    "/7",
    "%2F",
    "%5c",
    "\\",
    ";a=b",
    "?x=/admin",
]
PIECES += ["#", "%00", "%zz", "%C3%A9", "%ff", "%61dmin", "/internal", "a", ".", "%25", "~", "*", "/PUBLIC", "|"]


async def test_targets_put_together_at_random_are_judged_alike_and_never_end_in_an_error(
    gateway: Client, issuer: FakeIssuer
) -> None:
    """By a token that may nearly nothing, through every surface."""
    chosen = random.Random(20_261_121)
    headers = [("Authorization", f"Bearer {issuer.token('EdDSA', scope='read')}")]
    for _ in range(300):
        row = Row("GET", "/" + "".join(chosen.choices(PIECES, k=chosen.randint(1, 6))), "reader")
        replies = [await ask(gateway, row, headers) for ask in SURFACES.values()]
        assert len({reply.reason if reply.text else None for reply in replies}) == 1, row.target
        assert {reply.status for reply in replies} <= {200, 403}, row.target


@pytest.mark.parametrize("host", [f"{HOST}?", f"{HOST}#", f"{HOST}\\", f"{HOST}?a=", "a@b", "a,b", f"{HOST}.."])
async def test_a_host_that_is_none_hides_no_path(host: str, gateway: Client, issuer: FakeIssuer) -> None:
    """nginx takes nearly everything for a host, and puts it in front of the path."""
    headers = [("Authorization", f"Bearer {issuer.token('EdDSA', scope='admin')}")]
    for ask in SURFACES.values():
        reply = await ask(gateway, Row("GET", "/public", None, host=host), headers)
        assert (reply.status, reply.reason if reply.text else None) in {
            (403, Reason.ROUTE_DENIED),
            (400, None),
            (400, "malformed_request"),
            (401, "malformed_request"),
        }


def held_for(reply: Reply) -> int:
    """Seconds for which a cache may hold the answer (RFC 9111 §5.2.2)."""
    said = dict(part.strip().partition("=")[::2] for part in reply.headers["Cache-Control"].split(","))
    return 0 if "no-store" in said else int(said["max-age"])


@pytest.mark.parametrize("surface", ["forward_auth", "auth_request", "ext_authz"])
async def test_no_decision_may_be_held_unless_that_is_configured(
    surface: str, gateway: Client, issuer: FakeIssuer
) -> None:
    reply = await SURFACES[surface](gateway, ALLOWED, [("Authorization", f"Bearer {issuer.token('EdDSA')}")])
    assert (reply.status, held_for(reply)) == (200, 0)


@pytest.mark.parametrize(
    ("target", "claims", "least", "most"),
    [
        ("/elsewhere", {"lasts": 300}, 60, 60),
        ("/elsewhere", {"lasts": 20}, 15, 19),
        ("/elsewhere", {"lasts": -10}, 0, 0),  # the leeway is for clocks, and for nobody else
        ("/payments", {"lasts": 300, "auth_time": 270}, 25, 29),
        ("/public/a", None, 60, 60),
    ],
)
async def test_an_allow_is_held_as_long_as_configured_and_never_beyond_its_end(
    target: str, claims: dict[str, int] | None, least: int, most: int, issuer: FakeIssuer
) -> None:
    headers = []
    if claims is not None:
        now = int(time.time())
        token = issuer.token("EdDSA", exp=now + claims["lasts"], auth_time=now - claims.get("auth_time", 0))
        headers = [("Authorization", f"Bearer {token}")]
    async with serve(_settings(issuer, decision_max_age="60s")) as client:
        await eventually(lambda: _has_keys(client, issuer))
        reply = await auth_request(client, Row("GET", target, None), headers)
    assert reply.status == 200
    assert least <= held_for(reply) <= most


async def test_an_allow_that_may_be_held_is_one_for_what_the_client_sent(issuer: FakeIssuer) -> None:
    """nginx takes no longer list than this."""
    async with serve(_settings(issuer, decision_max_age="60s")) as client:
        vary = (await auth_request(client, Row("GET", "/public/a", None), [])).headers["Vary"]
    assert {name.strip().lower() for name in vary.split(",")} >= {
        *("authorization", "x-original-method", "x-original-url", "x-rewrite-url"),
        *("x-http-method-override", "x-http-method", "x-method-override"),
    }
    assert len(vary) <= 128


@pytest.mark.parametrize(
    ("surface", "method", "headers"),
    [
        ("auth_request", "POST", ()),
        ("auth_request", "OPTIONS", PREFLIGHT),
        ("forward_auth", "GET", ()),
        ("ext_authz", "GET", ()),
    ],
)
async def test_only_what_reads_is_held_and_only_by_nginx(
    surface: str, method: str, headers: tuple[tuple[str, str], ...], issuer: FakeIssuer
) -> None:
    async with serve(_settings(issuer, decision_max_age="60s")) as client:
        reply = await SURFACES[surface](client, Row(method, "/public/a", None), list(headers))
    assert (reply.status, held_for(reply)) == (200, 0)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("reader", 403)])
async def test_a_denial_is_never_held(token: str | None, status: int, issuer: FakeIssuer) -> None:
    row = Row("GET", "/admin", token)
    headers = [] if token is None else [("Authorization", f"Bearer {TOKENS[token](issuer)}")]
    async with serve(_settings(issuer, decision_max_age="60s")) as client:
        await eventually(lambda: _has_keys(client, issuer))
        reply = await auth_request(client, row, headers)
    assert (reply.status, held_for(reply)) == (status, 0)


async def test_whoever_asks_about_a_token_alone_may_not_hold_the_answer(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, decision_max_age="60s")) as client:
        await eventually(lambda: _has_keys(client, issuer))
        assert held_for(await client.verify(issuer.token("EdDSA"))) == 0


@pytest.mark.parametrize(("host", "target"), [(HOST, "/public/!"), (HOST, "/a!/b?c"), ("a!.tenant.example", "/public")])
async def test_an_exclamation_mark_from_envoy_may_be_a_byte_that_is_no_text(
    host: str, target: str, gateway: Client, issuer: FakeIssuer
) -> None:
    reply = await ext_authz(gateway, Row("GET", target, None, host=host), [])
    assert (reply.status, reply.reason) == (400, Reason.MALFORMED_REQUEST)
    assert (await forward_auth(gateway, Row("GET", "/public/!", None), [])).status == 200


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("name", ODD_NAMES)
async def test_names_that_some_applications_take_for_others_are_refused(
    name: str, surface: str, gateway: Client
) -> None:
    reply = await SURFACES[surface](gateway, Row("GET", "/public/a", None), [(name, "root")])
    assert (reply.status, reply.reason) == (401 if surface == "auth_request" else 400, Reason.MALFORMED_REQUEST)
