"""The authorizer of API Gateway and AppSync, over HTTP. What is a policy is judged as IAM does (tests/core/test_iam.py
has the whole of that)."""

import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests import aws_events
from tests.aws_events import (
    AUTH0_SCOPE,
    AUTH0_SUBJECT,
    FORMS,
    FUSIONAUTH,
    POLICIES,
    Build,
    appsync,
    arn,
    http_1,
    http_2,
    rest_request,
    rest_token,
    websocket,
)
from tests.support import AUD, Client, FakeIssuer, Reply, fake_issuer, serve, settings, sign
from verifier.surfaces.aws_context import native

DOWN = "http://127.0.0.1:1"
ROUTES = [
    {"path": "/request", "scopes": ["read"]},
    {"path": "/pets/{id}", "methods": ["GET"], "scopes": ["read"]},
    {"path": "/pets/{id}", "methods": ["DELETE"], "scopes": ["write"]},
    {"path": "/$connect", "scopes": ["read"]},
    {"path": "/graphql", "scopes": ["read"]},
]


def _settings(issuer: FakeIssuer, aws: dict[str, Any] | None = None, **changes: Any) -> Any:
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    down = {"name": "down", "issuer": DOWN, "audiences": [AUD]}
    made = {"routes": ROUTES, "default_route": "deny", "aws": aws or {}, **changes}
    return settings(main, down, **made)


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with fake_issuer("RS256", "EdDSA") as made:
        yield made


@pytest.fixture
async def client(issuer: FakeIssuer) -> AsyncIterator[Client]:
    async with serve(_settings(issuer)) as made:
        yield made


async def ask(client: Client, event: dict[str, Any]) -> Reply:
    return await client.post("/aws/authorizer", json=event)


async def answer(client: Client, event: dict[str, Any]) -> Any:
    return json.loads((await ask(client, event)).text)


def bearer(issuer: FakeIssuer, **changes: Any) -> str:
    return "Bearer " + issuer.token("EdDSA", **{"scope": "read", **changes})


def statements(policy: dict[str, Any], effect: str) -> list[str]:
    """All resources of one effect, behind the stage."""
    found = [one["Resource"] for one in policy["policyDocument"]["Statement"] if one["Effect"] == effect]
    texts = [text for one in found for text in ([one] if isinstance(one, str) else one)]
    assert all(text.startswith("arn:aws:execute-api:us-east-1:123456789012:abcdef123/") for text in texts)
    return [text.split("/", 2)[2] for text in texts]


@pytest.mark.parametrize("build", FORMS)
async def test_a_good_token_is_allowed_in_every_form(client: Client, issuer: FakeIssuer, build: Build) -> None:
    reply = await ask(client, build(bearer(issuer), "GET", "/request"))
    said = json.loads(reply.text)
    assert reply.status == 200, reply.text
    assert reply.headers["Content-Type"] == "application/json"
    if build in POLICIES:
        assert said["principalId"] == "alice"
        assert said["policyDocument"]["Version"] == "2012-10-17"
        assert all(one["Action"] == "execute-api:Invoke" for one in said["policyDocument"]["Statement"])
        assert ("$connect" if build is websocket else "GET/request") in statements(said, "Allow")
        assert said["context"]["scope"] == "read"
    else:
        assert said["isAuthorized"] is True
        assert said["resolverContext" if build is appsync else "context"]["scope"] == "read"


@pytest.mark.parametrize("build", FORMS)
@pytest.mark.parametrize("case", ["expired", "missing", "stranger", "two"])
async def test_no_token_and_a_bad_one_are_401_and_appsync_hears_no(
    client: Client, issuer: FakeIssuer, build: Build, case: str
) -> None:
    past = time.time() - 600
    value = {
        "expired": bearer(issuer, exp=past),
        "missing": None,
        "stranger": bearer(issuer, iss="https://stranger.example"),
        "two": f"{bearer(issuer)},{bearer(issuer)}",
    }[case]
    reply = await ask(client, build(value, "GET", "/request"))
    if build is appsync:
        assert reply.status == 403
        assert json.loads(reply.text)["isAuthorized"] is False
        assert json.loads(reply.text)["ttlOverride"] == 0
    else:
        assert reply.status == 401
        assert reply.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("build", FORMS)
async def test_too_little_is_an_explicit_denial_with_its_reason(
    client: Client, issuer: FakeIssuer, build: Build
) -> None:
    reply = await ask(client, build(bearer(issuer, scope="other"), "GET", "/request"))
    said = json.loads(reply.text)
    assert reply.status == 403
    assert reply.headers["Content-Type"] == "application/json"
    if build in POLICIES:
        assert statements(said, "Allow") == []
        assert statements(said, "Deny") == ["$connect" if build is websocket else "GET/request"]
        assert said["context"]["verifier_reason"] == "insufficient_scope"
    else:
        assert said["isAuthorized"] is False
        told = said["resolverContext" if build is appsync else "context"]
        assert told == {"verifier_reason": "insufficient_scope"}


@pytest.mark.parametrize("build", FORMS)
async def test_no_decision_is_503_and_no_answer(client: Client, issuer: FakeIssuer, build: Build) -> None:
    reply = await ask(client, build(bearer(issuer, iss=DOWN), "GET", "/request"))
    assert reply.status == 503
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert "Retry-After" in reply.headers


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": "TOKEN", "authorizationToken": "Bearer x"},
        {"type": "TOKEN", "authorizationToken": "Bearer x", "methodArn": "arn:aws:lambda:us-east-1:1:function"},
        {"type": "TOKEN", "authorizationToken": "Bearer x", "methodArn": ["arn"]},
        {"type": "OTHER", "methodArn": arn("GET", "/")},
        {"type": "REQUEST", "methodArn": "arn:aws:execute-api:us-east-1:1:a*/prod/GET/"},
        {**http_2("Bearer x", "GET", "/"), "version": "3.0"},
    ],
)
async def test_what_is_no_event_is_400(client: Client, event: dict[str, Any]) -> None:
    reply = await ask(client, event)
    assert reply.status == 400
    assert json.loads(reply.text)["reason"] == "malformed_request"


# What a policy speaks of


async def test_a_policy_holds_everything_that_the_principal_may_do_on_the_stage(
    client: Client, issuer: FakeIssuer
) -> None:
    both = await answer(client, rest_token(bearer(issuer, scope="read write"), "GET", "/pets/7"))
    assert set(statements(both, "Allow")) >= {"GET/pets/?*", "DELETE/pets/?*", "GET/request"}
    assert {"GET/pets/?*/?*", "*%*"} <= set(statements(both, "Deny"))
    assert "verifier_policy" not in both["context"]


async def test_the_policy_of_a_denied_request_still_allows_the_other_routes(client: Client, issuer: FakeIssuer) -> None:
    denied = await answer(client, rest_token(bearer(issuer), "DELETE", "/pets/7"))
    assert "GET/pets/?*" in statements(denied, "Allow")
    assert "DELETE/pets/7" in statements(denied, "Deny")
    assert denied["principalId"] == "alice"
    assert denied["context"]["verifier_reason"] == "insufficient_scope"
    assert denied["context"]["sub"] == "alice"  # for the requests that it allows while it is cached


async def test_a_table_that_iam_cannot_express_falls_back_to_the_method_and_says_so(issuer: FakeIssuer) -> None:
    routes = [{"path": "/admin/**", "scopes": ["admin"]}]
    async with serve(_settings(issuer, routes=routes, default_route="authenticated")) as client:
        said = await answer(client, rest_token(bearer(issuer), "GET", "/pets/7"))
        assert said["policyDocument"]["Statement"] == [
            {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": arn("GET", "/pets/7")}
        ]
        assert said["context"]["verifier_policy"] == "fallback"
        assert await client.metric("verifier_aws_policies_total", policy="fallback") == 1


@pytest.mark.parametrize("build", [http_1, http_2])
async def test_the_base_path_of_a_custom_domain_is_not_part_of_the_path(
    client: Client, issuer: FakeIssuer, build: Build
) -> None:
    event = build(bearer(issuer), "GET", "/request")
    name = "rawPath" if build is http_2 else "path"
    for told in ("/shop/request", "/shop/v1/request", "/test/request", "/request"):
        assert (await ask(client, {**event, name: told})).status == 200, told
    for told in ("/shoprequest/x", "/shop", "/", "/admin"):
        assert (await ask(client, {**event, name: told})).status == 403, told


async def test_a_path_with_percent_encoding_gets_a_policy_of_its_own(client: Client, issuer: FakeIssuer) -> None:
    said = await answer(client, rest_request(bearer(issuer), "GET", "/pets/a%40b.example"))
    assert statements(said, "Allow") == ["GET/pets/a%40b.example"]
    assert said["context"]["verifier_policy"] == "fallback"


async def test_without_routes_a_good_token_may_do_everything_on_the_stage(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, routes=[], default_route="authenticated")) as client:
        for build in (rest_token, rest_request, http_1):
            said = await answer(client, build(bearer(issuer), "GET", "/a%2Fb"))
            assert statements(said, "Allow") == ["*"]
            assert "verifier_policy" not in said["context"]
        said = await answer(client, websocket(bearer(issuer)))
        assert statements(said, "Allow") == ["$connect"]


async def test_mode_api_allows_the_whole_stage_whatever_the_routes_say(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, aws={"policy": "api"})) as client:
        assert statements(await answer(client, rest_token(bearer(issuer), "PUT", "/x")), "Allow") == ["*"]


async def test_mode_method_allows_the_method_alone(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, aws={"policy": "method"})) as client:
        said = await answer(client, rest_token(bearer(issuer), "GET", "/pets/7"))
        assert statements(said, "Allow") == ["GET/pets/7"]
        assert "verifier_policy" not in said["context"]


@pytest.mark.parametrize("path", ["/pets/*", "/pets/?", "/pets/a*", "/pets/${aws:username}", "/pets/中"])
async def test_what_iam_would_take_for_a_wildcard_is_never_allowed_as_a_resource(issuer: FakeIssuer, path: str) -> None:
    async with serve(_settings(issuer, aws={"policy": "method"})) as client:
        for build in (rest_token, http_1):
            reply = await ask(client, build(bearer(issuer), "GET", path))
            said = json.loads(reply.text)
            assert reply.status == 403
            assert statements(said, "Allow") == []
            assert "*" not in "".join(statements(said, "Deny"))
            assert said["context"]["verifier_reason"] == "route_denied"


async def test_an_arn_beyond_512_characters_is_not_put_into_a_policy(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, aws={"policy": "method"})) as client:
        longest = "/pets/" + "a" * (512 - len(arn("GET", "/pets/")))
        assert (await ask(client, rest_token(bearer(issuer), "GET", longest))).status == 200
        reply = await ask(client, rest_token(bearer(issuer), "GET", longest + "a"))
        assert reply.status == 403
        assert json.loads(reply.text)["context"]["verifier_reason"] == "route_denied"
        (statement,) = json.loads(reply.text)["policyDocument"]["Statement"]
        assert (statement["Effect"], statement["Resource"]) == ("Deny", arn("GET", longest)[:511] + "*")
    many = [{"path": f"/{'x' * 480}/{{id}}", "scopes": ["read"]}, *ROUTES]
    async with serve(_settings(issuer, routes=many)) as client:
        said = await answer(client, rest_token(bearer(issuer), "GET", "/pets/7"))
        assert statements(said, "Allow") == ["GET/pets/7"]


async def test_a_condition_goes_into_the_statement_of_its_route_alone(issuer: FakeIssuer) -> None:
    office = {"IpAddress": {"aws:SourceIp": ["203.0.113.0/24"]}}
    routes = [{"path": "/office/**", "methods": ["GET"], "aws_condition": office}, {"path": "/all", "methods": ["GET"]}]
    async with serve(_settings(issuer, routes=routes)) as client:
        said = await answer(client, rest_token(bearer(issuer), "GET", "/all"))
        found = {
            tuple(one["Resource"]): one.get("Condition")
            for one in said["policyDocument"]["Statement"]
            if one["Effect"] == "Allow"
        }
        by_text = {text.split("/", 2)[2]: condition for texts, condition in found.items() for text in texts}
        assert by_text["GET/all"] is None
        assert by_text["GET/office/*"] == office
    async with serve(_settings(issuer, routes=routes, aws={"policy": "method"})) as client:
        said = await answer(client, rest_token(bearer(issuer), "GET", "/office/7"))
        assert said["policyDocument"]["Statement"][0]["Condition"] == office


@pytest.mark.parametrize("build", [http_2, appsync])
async def test_a_route_with_a_condition_is_nobodys_where_no_policy_carries_it(issuer: FakeIssuer, build: Build) -> None:
    routes = [{"path": "/**", "aws_condition": {"Bool": {"aws:SecureTransport": "true"}}}]
    async with serve(_settings(issuer, routes=routes)) as client:
        reply = await ask(client, build(bearer(issuer), "GET", "/request"))
        assert reply.status == 403
        asked = {"token": issuer.token("EdDSA"), "method": "GET", "path": "/request"}
        assert (await client.post("/verify", json=asked)).status == 403


async def test_routes_are_judged_for_the_host_that_the_api_is_given(issuer: FakeIssuer) -> None:
    routes = [
        {"path": "/**", "hosts": ["api.acme.example"], "methods": ["GET"]},
        {"path": "/**", "hosts": [aws_events.DOMAIN], "methods": ["POST"]},
    ]
    async with serve(_settings(issuer, routes=routes)) as client:
        assert (await ask(client, rest_token(bearer(issuer), "POST", "/"))).status == 200
        assert (await ask(client, rest_token(bearer(issuer), "GET", "/"))).status == 403
    for key in ("abcdef123", "abcdef123/test"):
        async with serve(_settings(issuer, {"hosts": {key: "api.acme.example"}}, routes=routes)) as client:
            said = await answer(client, rest_token(bearer(issuer), "GET", "/"))
            assert set(statements(said, "Allow")) == {"GET", "GET/*", "HEAD", "HEAD/*"}


async def test_appsync_has_the_host_that_it_is_given_and_no_other(issuer: FakeIssuer) -> None:
    routes = [{"path": "/graphql", "hosts": ["graph.acme.example"], "scopes": ["read"]}]
    async with serve(_settings(issuer, routes=routes)) as client:
        assert (await ask(client, appsync(bearer(issuer)))).status == 403
    hosts = {"aaaaaa123123123example123": "graph.acme.example"}
    async with serve(_settings(issuer, {"hosts": hosts}, routes=routes)) as client:
        assert (await ask(client, appsync(bearer(issuer)))).status == 200


@pytest.mark.parametrize("build", [http_2, appsync])
async def test_routes_are_asked_for_answers_that_are_no_policies_in_mode_api_too(
    issuer: FakeIssuer, build: Build
) -> None:
    async with serve(_settings(issuer, {"policy": "api"})) as client:
        assert (await ask(client, build(bearer(issuer, scope="other"), "GET", "/request"))).status == 403


async def test_the_identity_sources_of_an_http_api_bring_the_token_along(issuer: FakeIssuer) -> None:
    event = http_2(None, "GET", "/request")
    token = issuer.token("EdDSA", scope="read")
    by_scheme = {**event, "identitySource": ["GET", "/test/request", f"Bearer {token}"]}
    bare = {**event, "identitySource": [token, "GET", "/test/request"]}
    async with serve(_settings(issuer)) as client:
        assert (await ask(client, by_scheme)).status == 200
        assert (await ask(client, bare)).status == 401
    async with serve(_settings(issuer, {"bare_tokens": True})) as client:
        assert (await ask(client, bare)).status == 200


async def test_what_is_told_twice_and_not_the_same_is_denied(client: Client, issuer: FakeIssuer) -> None:
    told = rest_request(bearer(issuer), "GET", "/pets/7")
    for other in ({**told, "path": "/pets%2F7"}, {**told, "path": "/admin"}, {**told, "httpMethod": "DELETE"}):
        reply = await ask(client, other)
        assert reply.status == 403
        assert statements(json.loads(reply.text), "Allow") == []
    mapped = {**told, "path": "/v1/pets/7"}  # a base path of a custom domain is told in front
    assert (await ask(client, mapped)).status == 200


# Answers that are kept


async def test_a_yes_is_given_only_if_it_is_kept_for_this_method_and_path_alone(
    client: Client, issuer: FakeIssuer
) -> None:
    event = http_2(bearer(issuer), "GET", "/request")
    for kept in ([bearer(issuer)], [event["identitySource"][0], "GET"], [event["identitySource"][0], "/test/request"]):
        said = await answer(client, {**event, "identitySource": kept})
        assert said == {"isAuthorized": False, "context": {"verifier_reason": "route_denied"}}
    keyed = {**event, "routeKey": "GET /request"}
    keyed["requestContext"] = {**event["requestContext"], "routeKey": "GET /request"}
    keyed["identitySource"] = [event["identitySource"][0], "GET /request", "/test/request"]
    assert (await answer(client, keyed))["isAuthorized"] is True


async def test_what_the_client_sends_does_not_count_as_the_method_and_the_path(
    client: Client, issuer: FakeIssuer
) -> None:
    event = http_2(bearer(issuer), "GET", "/request")
    for name in ("x-tenant", "cookie"):
        posing = {**event, "headers": {**event["headers"], name: "/test/request"}}
        assert (await answer(client, posing))["isAuthorized"] is False
        posing["identitySource"] = [*event["identitySource"], "/test/request"]  # the header, and the path besides
        assert (await answer(client, posing))["isAuthorized"] is True
    posing = {**event, "queryStringParameters": {"m": "GET"}}
    assert (await answer(client, posing))["isAuthorized"] is False


@pytest.mark.parametrize("build", [http_1, http_2])
async def test_an_allow_is_given_only_if_it_is_kept_for_this_token_alone(issuer: FakeIssuer, build: Build) -> None:
    event = build(bearer(issuer), "GET", "/request")
    others = ["GET", "/test/request"]
    for kept in (others, ["Basic x", *others]):
        event["identitySource"] = ",".join(kept) if build is http_1 else kept
        async with serve(_settings(issuer)) as client:
            assert (await ask(client, event)).status == 403
        async with serve(_settings(issuer, routes=[], default_route="authenticated")) as client:
            assert (await ask(client, event)).status == 403
        async with serve(_settings(issuer, {"http_ttl": "zero"})) as client:
            assert (await ask(client, event)).status == 200


async def test_a_cookie_that_is_an_identity_source_does_not_pose_as_the_method(
    client: Client, issuer: FakeIssuer
) -> None:
    event = http_2(bearer(issuer), "GET", "/request")
    event["cookies"] = ["GET"]
    assert (await answer(client, event))["isAuthorized"] is False


async def test_a_yes_is_given_where_nothing_is_kept_or_routes_decide_nothing(issuer: FakeIssuer) -> None:
    event = http_2(bearer(issuer), "GET", "/request")
    event["identitySource"] = event["identitySource"][:1]
    async with serve(_settings(issuer, {"http_ttl": "zero"})) as client:
        assert (await answer(client, event))["isAuthorized"] is True
    async with serve(_settings(issuer, routes=[], default_route="authenticated")) as client:
        assert (await answer(client, event))["isAuthorized"] is True


async def test_http_apis_get_policies_where_they_take_them(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer, {"http_answers": "policy"})) as client:
        said = await answer(client, http_2(bearer(issuer), "GET", "/request"))
        assert statements(said, "Allow") == ["GET/request"]
        assert said["context"]["verifier_policy"] == "fallback"


async def test_the_path_of_an_http_api_is_read_as_it_was_decoded(client: Client, issuer: FakeIssuer) -> None:
    event = http_2(bearer(issuer), "GET", "/pets/a@é b")
    assert (await answer(client, event))["isAuthorized"] is True
    for path in ("/pets/50%", "/pets/a\\b", "/pets/x\n", "/pets/../request", "/pets/a;b"):
        assert (await answer(client, http_2(bearer(issuer), "GET", path)))["isAuthorized"] is False, path


async def test_appsync_is_told_how_long_it_may_hold_an_allow(issuer: FakeIssuer) -> None:
    async with serve(_settings(issuer)) as client:
        assert (await answer(client, appsync(bearer(issuer))))["ttlOverride"] == 0
    async with serve(_settings(issuer, decision_max_age="60s")) as client:
        assert (await answer(client, appsync(bearer(issuer))))["ttlOverride"] == 60
        soon = bearer(issuer, exp=time.time() + 5)
        assert (await answer(client, appsync(soon)))["ttlOverride"] <= 4


async def test_preflights_are_as_configured(issuer: FakeIssuer) -> None:
    event = rest_request(None, "OPTIONS", "/request")
    del event["multiValueHeaders"]
    event["headers"] |= {"origin": "https://acme.example", "Access-Control-Request-Method": "GET"}
    async with serve(_settings(issuer)) as client:
        assert (await ask(client, event)).status == 401
    async with serve(_settings(issuer, preflights="allow")) as client:
        said = await answer(client, event)
        assert statements(said, "Allow") == ["OPTIONS/request"]
        assert said["principalId"] == "anonymous"
        assert said["context"] == {}
    for aws in ({}, {"policy": "api"}):
        async with serve(
            _settings(issuer, aws, preflights="allow", routes=[], default_route="authenticated")
        ) as client:
            assert statements(await answer(client, event), "Allow") == ["OPTIONS/request"]


async def test_a_preflight_is_none_where_the_answer_could_be_kept_for_what_is_none(issuer: FakeIssuer) -> None:
    headers = {"origin": "https://acme.example", "access-control-request-method": "GET"}
    routes = [{"path": "/request", "methods": ["GET"]}]
    async with serve(_settings(issuer, preflights="allow", routes=routes)) as client:
        for build in (rest_request, http_2):
            event = build(bearer(issuer), "OPTIONS", "/request")
            event["headers"] |= headers
            event.get("multiValueHeaders", {}).update({name: [value] for name, value in headers.items()})
            assert (await ask(client, event)).status == 403
        event = http_2(None, "OPTIONS", "/request")
        event["headers"] |= headers
        assert (await ask(client, event)).status == 401
        assert (await ask(client, {**event, "identitySource": None})).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"[",
        b"{",
        b'{"a": ' * 40 + b"1" + b"}" * 40,
        b'{"a": "\\ud800"}',
        b'{"a": 1e999}',
        b'{"a": "' + b"x" * 300_000 + b'"}',
    ],
)
async def test_what_a_client_of_aws_can_cause_is_no_error_to_it(client: Client, sent: bytes) -> None:
    reply = await client.post("/aws/authorizer", data=sent, headers={"Content-Type": "application/json"})
    assert reply.status == 401


async def test_brackets_in_a_header_do_not_count(client: Client, issuer: FakeIssuer) -> None:
    event = rest_request(bearer(issuer), "GET", "/request")
    event["headers"]["x"] = "[{" * 5_001
    assert (await ask(client, event)).status == 200


async def test_who_need_not_be_anybody_gets_what_is_for_everybody(issuer: FakeIssuer) -> None:
    routes = [{"path": "/public/**", "anonymous": True, "methods": ["GET"]}, *ROUTES]
    async with serve(_settings(issuer, routes=routes)) as client:
        said = await answer(client, rest_request(None, "GET", "/public/x"))
        assert set(statements(said, "Allow")) == {"GET/public", "GET/public/*", "HEAD/public", "HEAD/public/*"}
        assert said["principalId"] == "anonymous"


# Where the token is


async def test_the_token_may_be_in_a_header_of_another_name_and_bare_where_that_is_configured(
    issuer: FakeIssuer,
) -> None:
    token = issuer.token("EdDSA", scope="read")
    event = rest_request(None, "GET", "/request")
    event["headers"]["JWT_Token"] = token
    event["multiValueHeaders"]["JWT_Token"] = [token]
    async with serve(_settings(issuer, {"token_header": "jwt_token", "bare_tokens": True})) as client:
        assert (await ask(client, event)).status == 200
        assert (await ask(client, rest_token(token, "GET", "/request"))).status == 200
        assert (await ask(client, rest_token(f"bEARER  {token}", "GET", "/request"))).status == 200
    places = {"token_header": "jwt_token", "bare_tokens": True, "token_cookie": "session"}
    async with serve(_settings(issuer, places)) as client:
        assert (await ask(client, event)).status == 200
        both = {**event, "multiValueHeaders": {**event["multiValueHeaders"], "Cookie": [f"session={token}"]}}
        assert (await ask(client, both)).status == 401
    async with serve(_settings(issuer, {"token_header": "jwt_token"})) as client:
        assert (await ask(client, event)).status == 401
        assert (await ask(client, rest_token(token, "GET", "/request"))).status == 401


async def test_the_token_may_be_in_the_query_or_a_cookie_where_that_is_configured(issuer: FakeIssuer) -> None:
    token = issuer.token("EdDSA", scope="read")
    query = rest_request(None, "GET", "/request")
    query["queryStringParameters"] = {"t": token}
    query["multiValueQueryStringParameters"] = {"t": [token]}
    cookie = http_2(None, "GET", "/request")
    cookie["cookies"] = ["a=b", f"session={token}"]
    older = rest_request(None, "GET", "/request")
    older["multiValueHeaders"]["Cookie"] = [f"a=b; session={token}"]
    places = {"token_query": "t", "token_cookie": "session", "http_ttl": "zero"}
    async with serve(_settings(issuer, places)) as client:
        for event in (query, cookie, older):
            assert (await ask(client, event)).status == 200
        twice = {**query, "multiValueQueryStringParameters": {"t": [token, token]}}
        assert (await ask(client, twice)).status == 401
        query["multiValueHeaders"]["Authorization"] = [f"Bearer {token}"]
        assert (await ask(client, query)).status == 401
    async with serve(_settings(issuer)) as client:
        for event in (cookie, older):
            assert (await ask(client, event)).status == 401


async def test_two_values_of_the_header_are_401_wherever_they_are_told(client: Client, issuer: FakeIssuer) -> None:
    one, other = bearer(issuer), bearer(issuer, jti="2")
    event = rest_request(one, "GET", "/request")
    event["multiValueHeaders"]["Authorization"] = [one, one]
    assert (await ask(client, event)).status == 401
    event = rest_request(one, "GET", "/request")
    event["multiValueHeaders"]["authorization"] = [other]
    assert (await ask(client, event)).status == 401
    event = http_2(one, "GET", "/request")
    event["headers"]["authorization"] = other
    assert (await ask(client, event)).status == 401


# What is handed on


async def test_the_claims_of_fusionauth_arrive_as_the_native_authorizer_writes_them(issuer: FakeIssuer) -> None:
    now = int(time.time())
    sent = {**FUSIONAUTH, "iss": issuer.url, "exp": now + 3600, "iat": now, "auth_time": now}
    main = {"name": "main", "issuer": issuer.url, "audiences": [FUSIONAUTH["aud"]]}
    async with serve(settings(main)) as client:
        token = sign(sent, issuer.keys[0], "RS256")
        for build in (rest_token, http_1, http_2):
            said = await answer(client, build(f"Bearer {token}", "GET", "/"))
            assert said["context"] == {
                **{name: str(value) for name, value in sent.items()},
                "email_verified": "true",
                "roles": "[]",
            }


async def test_the_auth0_sample_gets_its_principal_its_arn_and_its_scope(issuer: FakeIssuer) -> None:
    event = {
        "type": "TOKEN",
        "authorizationToken": "Bearer " + issuer.token("RS256", sub=AUTH0_SUBJECT, scope=AUTH0_SCOPE),
        "methodArn": "arn:aws:execute-api:us-east-1:1234567890:apiId/stage/method/resourcePath",
    }
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    async with serve(settings(main, aws={"policy": "method"})) as client:
        said = await answer(client, event)
        assert said["principalId"] == AUTH0_SUBJECT
        assert said["policyDocument"] == {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": event["methodArn"]}],
        }
        assert said["context"]["scope"] == AUTH0_SCOPE


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (True, "true"),
        (7, "7"),
        (7.0, "7"),
        (7.5, "7.5"),
        ([], "[]"),
        (["a", "b c"], "[a b c]"),
        ({"b": [1], "a": None}, "map[a:<nil> b:[1]]"),
    ],
)
def test_a_claim_is_written_as_the_native_authorizer_does(value: Any, text: str) -> None:
    assert native(value) == text


async def test_a_context_is_flat_or_safe_where_that_is_configured(issuer: FakeIssuer) -> None:
    told = {"realm": {"roles": ["a", "b"], "level": 3}, "email_verified": True, "big": 2**60, "none": None}
    async with serve(_settings(issuer, {"context": "flat"})) as client:
        called_so = {"realm.level": "a claim that is called so"}
        for odd in ({**told, **called_so}, {**called_so, **told}):
            said = (await answer(client, rest_token(bearer(issuer, **odd), "GET", "/request")))["context"]
            assert said["realm.level"] == "a claim that is called so"
        said = (await answer(client, rest_token(bearer(issuer, **told), "GET", "/request")))["context"]
        assert said["realm.roles"] == '["a","b"]'
        assert said["realm.level"] == 3
        assert said["email_verified"] is True
        assert said["big"] == str(2**60)
        assert "none" not in said
    async with serve(_settings(issuer, {"context": "safe", "context_claims": ["sub", "realm"]})) as client:
        said = (await answer(client, http_2(bearer(issuer, **told), "GET", "/request")))["context"]
        assert set(said) == {"claims", "scope"}
        padded = said["claims"] + "=" * (-len(said["claims"]) % 4)
        assert json.loads(base64.urlsafe_b64decode(padded)) == {"sub": "alice", "realm": told["realm"]}
    async with serve(_settings(issuer)) as client:
        said = (await answer(client, rest_token(bearer(issuer, **told), "GET", "/request")))["context"]
        assert said["realm"] == "map[level:3 roles:[a b]]"
        assert all(isinstance(value, str) for value in said.values())


async def test_a_claim_cannot_pose_as_a_field_of_ours(client: Client, issuer: FakeIssuer) -> None:
    claim = bearer(issuer, verifier_policy="api", verifier_reason="none", principalId="admin", **{"": "x"})
    said = await answer(client, rest_token(claim, "GET", "/request"))
    assert not {"verifier_policy", "verifier_reason", "principalId", ""}.intersection(said["context"])
    assert said["principalId"] == "alice"


@pytest.mark.parametrize("build", [rest_token, http_2])
async def test_an_answer_beyond_8_kb_is_refused_by_name(issuer: FakeIssuer, build: Build) -> None:
    token = bearer(issuer, groups=["g" * 90] * 90)
    async with serve(_settings(issuer)) as client:
        reply = await ask(client, build(token, "GET", "/request"))
        said = json.loads(reply.text)
        assert reply.status == 403
        assert said["context"]["verifier_reason"] == "answer_too_large"
        assert len(reply.text) < 8_192
        assert await client.metric("verifier_decisions_total", surface="aws", reason="answer_too_large") == 1
    async with serve(_settings(issuer, {"context_claims": ["sub"]})) as client:
        assert (await ask(client, build(token, "GET", "/request"))).status == 200


async def test_a_policy_that_leaves_no_room_for_the_claims_gives_way(issuer: FakeIssuer) -> None:
    routes = [{"path": f"/service-number-{n}/{{id}}", "methods": ["POST"]} for n in range(35)]
    async with serve(_settings(issuer, routes=routes)) as client:
        said = await answer(client, rest_token(bearer(issuer), "POST", "/service-number-3/7"))
        assert len(statements(said, "Allow")) == 35
        said = await answer(client, rest_token(bearer(issuer, x="x" * 3_000), "POST", "/service-number-3/7"))
        assert statements(said, "Allow") == ["POST/service-number-3/7"]
        assert said["context"]["verifier_policy"] == "fallback"


async def test_a_usage_plans_key_comes_from_a_claim_or_a_map(issuer: FakeIssuer) -> None:
    event = rest_token(bearer(issuer, plan="gold"), "GET", "/request")
    async with serve(_settings(issuer, {"usage_key_claim": "plan"})) as client:
        assert (await answer(client, event))["usageIdentifierKey"] == "gold"
        number = rest_token(bearer(issuer, plan=7), "GET", "/request")
        assert (await answer(client, number))["usageIdentifierKey"] == "7"
        assert "usageIdentifierKey" not in await answer(client, rest_token(bearer(issuer), "GET", "/request"))
    async with serve(_settings(issuer, {"usage_key_claim": "plan", "usage_keys": {"gold": "k-1"}})) as client:
        assert (await answer(client, event))["usageIdentifierKey"] == "k-1"
        other = rest_token(bearer(issuer, plan=7), "GET", "/request")
        assert "usageIdentifierKey" not in await answer(client, other)


async def test_nothing_of_the_event_is_logged_but_the_id_that_aws_gave_it(client: Client, issuer: FakeIssuer) -> None:
    token = bearer(issuer, scope="other")
    await ask(client, rest_request(token, "GET", "/request"))
    text = client.log_stream.getvalue()
    assert client.log()[-1]["request_id"] == "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    assert "insufficient_scope" in text
    assert token.split(".")[1] not in text
    assert "192.0.2.7" not in text
