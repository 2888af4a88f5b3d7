"""Rules that are only reported, at a running service: every surface answers as it would without them, and counts."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.aws_events import FORMS, Build, http_2, rest_request
from tests.grpc_check import address, bearer, check, check_request
from tests.support import AUD, Client, FakeIssuer, Reply, eventually, serve, settings

ENFORCED = [
    {"path": "/public/**", "anonymous": True},
    {"path": "/request", "scopes": ["read"]},
    {"path": "/pets/**", "methods": ["GET"]},
    {"path": "/$connect", "scopes": ["read"]},
    {"path": "/graphql", "scopes": ["read"]},
]
TRIED = {"name": "stricter", "path": "/**", "scopes": ["admin"], "report_only": True}
STRICTER = {"audiences": ["https://new.example"]}


@dataclass
class Both:
    """The same service twice: with rules on trial, and without."""

    tried: Client
    plain: Client
    issuer: FakeIssuer

    async def post(self, path: str, **request: Any) -> Reply:
        return alike(await self.tried.post(path, **request), await self.plain.post(path, **request))

    async def get(self, path: str, **headers: str) -> Reply:
        return alike(await self.tried.get(path, **headers), await self.plain.get(path, **headers))

    async def count(self, surface: str, rule: str) -> float:
        assert await self.plain.metric("verifier_would_deny_total", surface=surface, rule=rule) == 0
        return await self.tried.metric("verifier_would_deny_total", surface=surface, rule=rule)

    def lines(self) -> list[dict[str, Any]]:
        return [line for line in self.tried.log() if line["event"] == "would_deny"]


def alike(one: Reply, other: Reply) -> Reply:
    """One of two answers that are the same to whoever asked."""
    assert (one.status, one.text, _told(one)) == (other.status, other.text, _told(other))
    return one


def _told(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.lower() not in ("date", "x-request-id")}


def _settings(issuer: FakeIssuer, *, tried: bool, **changes: Any) -> Any:
    made: dict[str, Any] = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    routes = changes.pop("routes", ENFORCED)
    if tried:
        made["report_only"] = STRICTER
        routes = [TRIED, *routes]
    return settings(made, routes=routes, **{"grpc": {"listen": "127.0.0.1:0"}, **changes})


async def both_of(stack: AsyncExitStack, issuer: FakeIssuer, **changes: Any) -> Both:
    tried = await stack.enter_async_context(serve(_settings(issuer, tried=True, **changes)))
    plain = await stack.enter_async_context(serve(_settings(issuer, tried=False, **changes)))
    for client in (tried, plain):
        await eventually(lambda client=client: _has_keys(client))  # type: ignore[misc]
    return Both(tried, plain, issuer)


async def _has_keys(client: Client) -> bool:
    return (await client.ops("/readyz")).status == 200


@pytest.fixture
async def both(issuer: FakeIssuer) -> AsyncIterator[Both]:
    async with AsyncExitStack() as stack:
        yield await both_of(stack, issuer, preflights="allow", decision_max_age="5s")


def authorization(both: Both, **changes: Any) -> str:
    return f"Bearer {both.issuer.token('EdDSA', **changes)}"


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_a_token_by_itself_counts_for_each_request(issuer: FakeIssuer, fast_lane: bool) -> None:
    async with AsyncExitStack() as stack:
        both = await both_of(stack, issuer, fast_lane=fast_lane)
        shown = authorization(both)
        for _ in range(4):
            assert (await both.get("/verify", Authorization=shown)).status == 200
        assert [await both.count("verify", rule) for rule in ("issuer", "route")] == [4, 0]


@pytest.mark.parametrize(
    ("surface", "path", "told"),
    [
        ("forward_auth", "/forward-auth", {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/pets/1"}),
        ("auth_request", "/auth-request", {"X-Original-Method": "GET", "X-Original-URL": "https://api.example/pets/1"}),
        ("ext_authz", "/ext-authz/pets/1", {}),
    ],
)
async def test_a_gateway_gets_the_same_answer_and_both_rules_count(
    both: Both, surface: str, path: str, told: dict[str, str]
) -> None:
    told = {"X-Forwarded-Host": "api.example", **told} if surface == "forward_auth" else told
    shown = authorization(both)
    for _ in range(2):
        assert (await both.get(path, Authorization=shown, **told)).status == 200
    assert [await both.count(surface, rule) for rule in ("issuer", "route")] == [2, 2]


async def test_nobody_on_an_anonymous_route_counts_for_the_route(both: Both) -> None:
    assert (await both.get("/ext-authz/public/x")).status == 200
    assert [await both.count("ext_authz", rule) for rule in ("issuer", "route")] == [0, 1]
    found = await both.tried.metric("verifier_would_deny_total", rule="route", reason="missing_token", issuer="")
    assert found == 1


async def test_a_preflight_that_would_still_be_let_through_counts_for_nothing(both: Both) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
    for client in (both.tried, both.plain):
        async with client.http.options(f"{client.url}/ext-authz/pets/1", headers=asked) as reply:
            assert reply.status == 200
    assert [await both.count("ext_authz", rule) for rule in ("issuer", "route")] == [0, 0]


async def test_what_is_denied_counts_as_denied_alone(both: Both) -> None:
    shown = authorization(both, scope="other")
    assert (await both.get("/ext-authz/request", Authorization=shown)).status == 403
    assert [await both.count("ext_authz", rule) for rule in ("issuer", "route")] == [0, 0]
    assert both.lines() == []


async def test_each_question_of_a_batch_counts(both: Both) -> None:
    token = both.issuer.token("EdDSA")
    requests = [{"token": token}, {"token": token, "path": "/pets/1", "method": "GET"}, {"token": "none"}]
    reply = await both.post("/verify/batch", json={"requests": requests})
    assert [one["status"] for one in reply.json["results"]] == [200, 200, 401]
    assert [await both.count("batch", rule) for rule in ("issuer", "route")] == [2, 1]


async def test_introspection_of_a_token_counts(both: Both) -> None:
    reply = await both.post("/introspect", data={"token": both.issuer.token("EdDSA")})
    assert reply.json["active"] is True
    assert await both.count("introspect", "issuer") == 1


async def test_envoys_check_counts(both: Both) -> None:
    request = check_request("GET", "api.example", "/pets/1", [bearer(both.issuer.token("EdDSA"))])
    first, second = [await check(address(client), request) for client in (both.tried, both.plain)]
    assert first.status.code == 0
    assert _headers(first) == _headers(second)
    assert [await both.count("ext_authz_grpc", rule) for rule in ("issuer", "route")] == [1, 1]


def _headers(answer: Any) -> list[tuple[str, str]]:
    told = ((one.header.key, one.header.value) for one in answer.ok_response.headers)
    return [(name, value) for name, value in told if name.lower() != "x-request-id"]


@pytest.mark.parametrize("policy", ["routes", "api", "method"])
@pytest.mark.parametrize("build", FORMS)
@pytest.mark.parametrize("routes", [ENFORCED, []], ids=["routes", "none but on trial"])
async def test_aws_gets_the_same_policy(
    issuer: FakeIssuer, policy: str, build: Build, routes: list[dict[str, Any]]
) -> None:
    async with AsyncExitStack() as stack:
        both = await both_of(stack, issuer, aws={"policy": policy}, routes=routes)
        reply = await both.post("/aws/authorizer", json=build(authorization(both), "GET", "/request"))
        assert reply.status == 200
        assert await both.count("aws", "issuer") == 1
        takes_all = policy == "api" and "policyDocument" in json.loads(reply.text)
        assert await both.count("aws", "route") == (0 if takes_all else 1)


async def test_a_policy_for_other_routes_is_drawn_up_without_those_on_trial(both: Both) -> None:
    denying = {"path": "/pets/secret", "deny": True, "report_only": True}
    async with AsyncExitStack() as stack:
        other = await both_of(stack, both.issuer, routes=[denying, *ENFORCED], default_route="deny")
        shown = authorization(both)
        for build in (rest_request, http_2):
            await other.post("/aws/authorizer", json=build(shown, "GET", "/request"))


async def test_the_line_says_which_rule_and_which_route(both: Both) -> None:
    await both.tried.get("/ext-authz/pets/1", Authorization=authorization(both), **{"X-Request-Id": "mine"})
    by_issuer, by_route = both.lines()
    common = {"event": "would_deny", "level": "info", "surface": "ext_authz", "issuer": "main", "request_id": "mine"}
    assert common.items() <= by_issuer.items()
    assert (by_issuer["rule"], by_issuer["reason"], by_issuer["route"]) == ("issuer", "wrong_audience", None)
    assert common.items() <= by_route.items()
    assert (by_route["rule"], by_route["reason"]) == ("route", "insufficient_scope")
    assert (by_route["route"], by_route["pattern"]) == ("stricter", "/**")


async def test_without_lines_of_denials_there_are_none_of_these(issuer: FakeIssuer) -> None:
    async with AsyncExitStack() as stack:
        both = await both_of(stack, issuer, log={"denials": False})
        assert (await both.get("/verify", Authorization=authorization(both))).status == 200
        assert both.lines() == []
        assert await both.count("verify", "issuer") == 1


async def test_the_log_says_at_the_start_what_is_not_enforced(both: Both) -> None:
    lines = [line for line in both.tried.log() if line["event"] == "report_only"]
    assert [line["detail"] for line in lines] == ["issuers[0].report_only.audiences, routes[0]"]
    assert not [line for line in both.plain.log() if line["event"] == "report_only"]
