"""The surfaces over HTTP, beyond their reasons."""

import time
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.support import AUD, Client, FakeIssuer, claims, private_key, serve, settings, sign

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


async def test_an_allow_shows_the_principal(client: Client, issuer: FakeIssuer) -> None:
    reply = await client.verify(issuer.token("EdDSA", client_id="web", jti="t1", exp=9_999_999_999))
    principal = reply.json["principal"]
    assert (reply.status, reply.json["allowed"]) == (200, True)
    assert principal.pop("claims")["sub"] == "alice"
    assert principal == {
        "issuer": issuer.url,
        "issuer_name": "main",
        "subject": "alice",
        "client_id": "web",
        "scopes": ["read", "write"],
        "audiences": [AUD],
        "expires_at": 9_999_999_999,
        "token_id": "t1",
    }


async def test_no_answer_may_be_stored(client: Client, issuer: FakeIssuer) -> None:
    for reply in (await client.verify(issuer.token("EdDSA")), await client.verify()):
        assert reply.headers["Cache-Control"] == "no-store"


async def test_head_answers_like_get_without_a_body(client: Client, issuer: FakeIssuer) -> None:
    headers = {"Authorization": f"Bearer {issuer.token('EdDSA')}"}
    async with client.http.head(f"{client.url}/verify", headers=headers) as answer:
        assert (answer.status, await answer.text()) == (200, "")
    async with client.http.head(f"{client.url}/verify") as answer:
        assert answer.status == 401


async def test_claims_of_any_script_are_answered(client: Client, issuer: FakeIssuer) -> None:
    reply = await client.verify(issuer.token("EdDSA", sub="Zoë 😀", name="\u0000\u2028"))
    assert reply.json["principal"]["subject"] == "Zoë 😀"


@pytest.mark.parametrize(
    ("demands", "status"),
    [
        ({}, 200),
        ({"scopes": ["read"]}, 200),
        ({"scopes": []}, 200),
        ({"scopes": ["read", "admin"]}, 403),
        ({"audience": AUD}, 200),
        ({"audience": "other"}, 401),
        ({"method": "GET", "host": "api.example", "path": "/pets"}, 200),
    ],
)
async def test_demands_of_a_request_count(
    demands: dict[str, Any], status: int, client: Client, issuer: FakeIssuer
) -> None:
    assert (await client.post("/verify", json={"token": issuer.token("EdDSA"), **demands})).status == status


async def test_a_posted_question_may_bear_its_token_in_the_header(client: Client, issuer: FakeIssuer) -> None:
    headers = {"Authorization": f"Bearer {issuer.token('EdDSA')}"}
    assert (await client.post("/verify", json={"scopes": ["read"]}, headers=headers)).status == 200


async def test_a_token_in_the_query_is_no_credential(client: Client, issuer: FakeIssuer) -> None:
    reply = await client.get(f"/verify?access_token={issuer.token('EdDSA')}")
    assert reply.reason == "missing_token"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"token":1}',
        b'{"token":null}',
        b'{"token":"a","token":"b"}',
        b'{"token":"a","scope":["x"]}',
        b'{"token":"a","scopes":"x"}',
        b'{"token":"a","scopes":["x y"]}',
        b'{"token":"a","scopes":["\\""]}',
        b'{"token":"a","scopes":[""]}',
        b'{"token":"a","scopes":[1]}',
        b'{"token":"a","audience":["x"]}',
        b'{"token":"a","path":1}',
        b'{"token":"\xff"}',
        b'{"token":"\\ud800"}',
        b'\xef\xbb\xbf{"token":"a"}',
        b'{"token":NaN}',
        b'{"a":' * 100 + b"1" + b"}" * 100,
    ],
)
async def test_a_body_that_is_not_what_is_taken_is_malformed(body: bytes, client: Client) -> None:
    for path in ("/verify", "/verify/batch"):
        reply = await client.post(path, data=body, headers=JSON)
        assert (reply.status, reply.reason) == (400, "malformed_request")


async def test_a_batch_answers_each_question_by_itself(client: Client, issuer: FakeIssuer) -> None:
    asked: list[Any] = [
        {"token": issuer.token("EdDSA")},
        {"token": issuer.token("EdDSA"), "scopes": ["admin"]},
        {},
        "x",
        {"token": issuer.token("EdDSA", private_key("EdDSA", which=1))},
    ]
    reply = await client.post("/verify/batch", json={"requests": asked})
    results = reply.json["results"]
    assert (reply.status, [result["status"] for result in results]) == (200, [200, 403, 401, 400, 401])
    assert results[0]["principal"]["subject"] == "alice"
    assert [result["allowed"] for result in results] == [True, False, False, False, False]


async def test_a_batch_waits_for_keys_where_it_must(issuer: FakeIssuer) -> None:
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        body = {"requests": [{"token": issuer.token("EdDSA", jti=str(n))} for n in range(5)] + [None]}
        results = (await client.post("/verify/batch", json=body)).json["results"]
        assert [result["status"] for result in results] == [200] * 5 + [400]


@pytest.mark.parametrize(
    "body", [{}, {"requests": []}, {"requests": {}}, {"requests": [{}] * 101}, {"requests": [{}], "x": 1}]
)
async def test_a_batch_of_another_form_is_malformed(body: Any, client: Client) -> None:
    assert (await client.post("/verify/batch", json=body)).reason == "malformed_request"


async def test_introspection_shows_an_active_token(client: Client, issuer: FakeIssuer) -> None:
    reply = await client.post("/introspect", data={"token": issuer.token("EdDSA", azp="web", active=False)})
    assert reply.status == 200
    shown = reply.json
    assert (shown["active"], shown["sub"], shown["client_id"], shown["scope"]) == (True, "alice", "web", "read write")
    assert (shown["iss"], shown["token_type"], shown["aud"]) == (issuer.url, "Bearer", AUD)


async def test_introspection_says_nothing_of_a_token_that_is_not_active(client: Client, issuer: FakeIssuer) -> None:
    for token in (issuer.token("EdDSA", exp=1), "opaque", issuer.token("EdDSA", private_key("EdDSA", which=1))):
        reply = await client.post("/introspect", data={"token": token, "token_type_hint": "access_token"})
        assert (reply.status, reply.json) == (200, {"active": False})


async def test_introspection_without_keys_is_no_answer(client: Client) -> None:
    down = {"name": "down", "issuer": "http://127.0.0.1:1", "audiences": [AUD]}
    async with serve(settings(down)) as other:
        token = sign(claims(time.time(), iss="http://127.0.0.1:1"), algorithm="EdDSA")
        assert (await other.post("/introspect", data={"token": token})).status == 503


@pytest.mark.parametrize(
    "body", [b"", b"token", b"token=", b"x=1", b"token=a&token=b", b"token=%ff", b"\xff=1", b"a=1&" * 20 + b"token=x"]
)
async def test_a_form_that_is_not_what_is_taken_is_malformed(body: bytes, client: Client) -> None:
    reply = await client.post("/introspect", data=body, headers=FORM)
    assert (reply.status, reply.reason) == (400, "malformed_request")


async def test_a_given_request_id_is_kept_and_another_is_made(client: Client) -> None:
    given = await client.get("/verify", **{"X-Request-Id": "abc-123"})
    made = await client.get("/verify")
    assert given.headers["X-Request-Id"] == "abc-123"
    assert len(made.headers["X-Request-Id"]) == 32


@pytest.mark.parametrize("value", ["a.b.c", "x" * 65, "a b", "é", ""])
async def test_a_request_id_that_could_carry_something_else_is_replaced(value: str, client: Client) -> None:
    reply = await client.get("/verify", **{"X-Request-Id": value})
    assert reply.headers["X-Request-Id"] != value


async def test_the_openapi_document_is_valid_and_served(client: Client) -> None:
    document = (await client.get("/openapi.json")).json
    validate(document)
    of_tokens = {"/verify", "/verify/batch", "/introspect"}
    of_gateways = {"/forward-auth", "/auth-request", "/ext-authz/{path}", "/aws/authorizer"}
    assert set(document["paths"]) == of_tokens | of_gateways


async def test_what_the_document_describes_is_served(client: Client) -> None:
    document = (await client.get("/openapi.json")).json
    for path, operations in document["paths"].items():
        for method in operations:
            async with client.http.request(method, client.url + path.format(path="a")) as answer:
                assert answer.status not in (404, 405)
