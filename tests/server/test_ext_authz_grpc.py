"""Envoy's gRPC ``Check``: what the table of gateways does not ask."""

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tests.grpc_check import (
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    address,
    ask,
    bearer,
    check,
    check_request,
    refused,
    serving,
)
from tests.support import AUD, Client, FakeIssuer
from verifier.core.reasons import Reason
from verifier.surfaces.ext_authz_messages import OVERWRITE_IF_EXISTS_OR_ADD


@pytest.fixture
async def client(issuer: FakeIssuer) -> AsyncIterator[Client]:
    async with serving(issuer) as made:
        yield made


async def test_an_allow_replaces_the_identity_headers_and_removes_those_that_say_nothing(
    client: Client, issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA", scope="read", exp=2_000_000_000)
    answer = await ask(client, token, "/pets", ("X-Auth-Subject", "root"))
    assert answer.status.code == 0
    assert {one.header.key: one.header.value for one in answer.ok_response.headers} == {
        "X-Auth-Subject": "alice",
        "X-Auth-Issuer": issuer.url,
        "X-Auth-Scope": "read",
        "X-Auth-Expires": "2000000000",
    }
    actions = {one.append_action for one in answer.ok_response.headers}
    assert actions == {OVERWRITE_IF_EXISTS_OR_ADD}
    assert list(answer.ok_response.headers_to_remove) == ["X-Auth-Client-Id", "X-Auth-Omitted"]


async def test_nobody_on_a_route_for_everybody_has_no_identity(client: Client) -> None:
    answer = await ask(client, None, "/public/a", ("X-Auth-Subject", "root"))
    assert list(answer.ok_response.headers) == []
    assert "X-Auth-Subject" in answer.ok_response.headers_to_remove
    assert MessageToDict(answer.dynamic_metadata) == {}


async def test_the_claims_are_there_for_other_filters(client: Client, issuer: FakeIssuer) -> None:
    nested = {"a": [None, True, 1.5]}
    token = issuer.token("EdDSA", exp=2_000_000_000, groups=["staff"], nested=nested, account=2**53 + 1)
    said = MessageToDict((await ask(client, token)).dynamic_metadata)
    assert (said["issuer_name"], said["subject"], said["expires_at"]) == ("main", "alice", 2_000_000_000)
    assert said["scopes"] == ["read", "write"]
    assert said["claims"]["groups"] == ["staff"]
    assert said["claims"]["nested"] == nested
    assert said["claims"]["account"] == "9007199254740993"


async def test_claims_within_claims_do_not_make_an_answer_that_envoy_cannot_read(
    client: Client, issuer: FakeIssuer
) -> None:
    """protobuf reads 100 messages inside each other."""
    deep: Any = "end"
    for _ in range(30):
        deep = {"a": deep}
    answer = await ask(client, issuer.token("EdDSA", deep=deep))
    assert answer.status.code == 0
    assert str(MessageToDict(answer.dynamic_metadata)["claims"]["deep"]).count("'a'") == 14


@pytest.mark.parametrize(
    ("target", "token", "expected"),
    [
        ("/pets", None, (UNAUTHENTICATED, 401, Reason.MISSING_TOKEN)),
        ("/pets", "a b", (INVALID_ARGUMENT, 400, Reason.MALFORMED_CREDENTIALS)),
        ("/pets", "x", (UNAUTHENTICATED, 401, Reason.MALFORMED_TOKEN)),
        ("/admin", "good", (PERMISSION_DENIED, 403, Reason.INSUFFICIENT_SCOPE)),
        ("/a/../admin", "good", (PERMISSION_DENIED, 403, Reason.ROUTE_DENIED)),
        ("/pets", "partner's", (UNAVAILABLE, 503, Reason.KEYS_UNAVAILABLE)),
    ],
)
async def test_a_refusal_is_an_answer_with_code_status_and_reason(
    target: str, token: str | None, expected: tuple[int, int, str], issuer: FakeIssuer
) -> None:
    """Also when nobody can decide: an error of the call may pass, this one not."""
    partner = {"name": "partner", "issuer": "https://p.example", "audiences": [AUD], "jwks_uri": "http://127.0.0.1:1"}
    tokens = {"good": issuer.token("EdDSA"), "partner's": issuer.token("EdDSA", iss="https://p.example")}
    async with serving(issuer, partner) as client:
        answer = await ask(client, tokens.get(token or "", token), target)
    code, status, reason = expected
    assert refused(answer, code, status, reason)
    headers = {one.header.key for one in answer.denied_response.headers}
    assert headers >= {
        "Content-Type",
        "Cache-Control",
        "X-Request-Id",
        "Retry-After" if status == 503 else "WWW-Authenticate",
    }
    assert MessageToDict(answer.dynamic_metadata) == {"reason": reason}
    assert not answer.HasField("ok_response")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff", b"\x0a\x05abc"],
)
async def test_what_is_no_question_is_refused(raw: bytes, client: Client) -> None:
    assert refused(await check(address(client), raw), INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)


@pytest.mark.parametrize(("method", "host", "target"), [("", "a", "/"), ("GET", "", "/"), ("GET", "a", "")])
async def test_a_question_that_does_not_tell_the_request_is_refused(
    method: str, host: str, target: str, client: Client
) -> None:
    answer = await check(address(client), check_request(method, host, target))
    assert refused(answer, INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)


async def test_no_bytes_end_in_an_error_or_an_allow(issuer: FakeIssuer) -> None:
    chance = random.Random(7)
    asked = check_request("GET", "api.example", "/admin", [bearer(issuer.token("EdDSA"))])
    good = asked.SerializeToString(deterministic=True)
    async with serving(issuer, routes=[{"path": "/admin", "scopes": ["admin"]}], default_route="deny") as client:
        for _ in range(300):
            raw = bytearray(good)
            for _ in range(chance.randint(1, 8)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            answer = await check(address(client), bytes(raw[: chance.randint(0, len(raw))]))
            assert answer.denied_response.status.code in (400, 401, 403)
        assert await client.metric("verifier_defects_total") == 0


async def test_values_of_a_header_may_come_joined(client: Client, issuer: FakeIssuer) -> None:
    """As Envoy does it by itself, without ``encode_raw_headers``."""
    asked = check_request("GET", "api.example", "/pets")
    asked.attributes.request.http.ClearField("header_map")
    told = asked.attributes.request.http.headers
    told["authorization"] = f"Bearer {issuer.token('EdDSA')}"
    assert (await check(address(client), asked)).status.code == 0
    told["authorization"] += ",Bearer x"
    assert refused(await check(address(client), asked), INVALID_ARGUMENT, 400, Reason.MALFORMED_CREDENTIALS)


async def test_bytes_of_a_header_that_are_no_text_are_no_obstacle(client: Client, issuer: FakeIssuer) -> None:
    assert (await ask(client, issuer.token("EdDSA"), "/pets", ("X-Other", "\udcff\udcfe"))).status.code == 0
    answer = await check(address(client), check_request("GET", "a", "/pets", [("Authorization", "Bearer \udcff")]))
    assert refused(answer, INVALID_ARGUMENT, 400, Reason.MALFORMED_CREDENTIALS)


async def test_decisions_are_counted_and_logged_under_a_name_of_their_own(client: Client) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = (("X-Request-Id", "4711"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01"))
    await ask(client, None, "/pets", *headers)
    labels = {"surface": "ext_authz_grpc", "outcome": "deny", "reason": "missing_token"}
    assert await client.metric("verifier_decisions_total", **labels) == 1
    assert await client.metric("verifier_decision_seconds_count", surface="ext_authz_grpc") == 1
    [line] = [line for line in client.log() if line["event"] == "deny"]
    assert (line["surface"], line["request_id"], line["trace_id"]) == ("ext_authz_grpc", "4711", trace)


@pytest.mark.parametrize(
    "target", ["/public/\udcff", "/admin\udcff", "/public/.\udcff./admin"], ids=["end", "admin", "dots"]
)
async def test_a_path_that_is_no_text_is_judged_byte_by_byte(target: str, client: Client, issuer: FakeIssuer) -> None:
    answer = await ask(client, issuer.token("EdDSA"), target)
    assert refused(answer, PERMISSION_DENIED, 403, Reason.ROUTE_DENIED)


@pytest.mark.parametrize(("host", "target"), [("api.example", "/public/!"), ("a!.example", "/public"), ("a", "/!?a")])
async def test_what_may_have_been_no_text_is_refused(host: str, target: str, client: Client) -> None:
    """Without ``encode_raw_headers``, Envoy puts an exclamation mark in the place of such bytes."""
    asked = check_request("GET", host, target)
    asked.attributes.request.http.ClearField("header_map")
    assert refused(await check(address(client), asked), INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)
    asked.attributes.request.http.host, asked.attributes.request.http.path = "a", "/public?a!"
    assert (await check(address(client), asked)).status.code == 0


async def test_a_path_that_is_told_twice_is_refused(client: Client) -> None:
    asked = check_request("GET", "api.example", "/public", [(":path", "/public/a")])
    assert refused(await check(address(client), asked), INVALID_ARGUMENT, 400, Reason.MALFORMED_REQUEST)


async def test_a_principal_of_many_values_is_told_as_text(client: Client, issuer: FakeIssuer) -> None:
    """Each value in metadata takes time."""
    said = MessageToDict((await ask(client, issuer.token("EdDSA", many=[[]] * 600))).dynamic_metadata)
    assert json.loads(said["claims"])["many"] == [[]] * 600
    assert (said["subject"], json.loads(said["scopes"])) == ("alice", ["read", "write"])
