"""Every reason over HTTP: status, challenge, body, metric and log line say the same."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import (
    AUD,
    Client,
    FakeIssuer,
    Reply,
    claims,
    encode,
    fake_issuer,
    opaque_issuer,
    private_key,
    serve,
    settings,
    sign,
)
from verifier.core.challenge import STATUS
from verifier.core.reasons import FAMILY, Family, Reason

ERROR = {
    Family.INVALID_REQUEST: "invalid_request",
    Family.INVALID_TOKEN: "invalid_token",
    Family.INSUFFICIENT: "insufficient_scope",
}


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with fake_issuer("RS256", "EdDSA") as made:
        yield made


@pytest.fixture
async def client(issuer: FakeIssuer, secret_file: Path, admin_token_file: Path) -> AsyncIterator[Client]:
    main = {
        "name": "main",
        "issuer": issuer.url,
        "audiences": [AUD],
        "client_ids": ["web"],
        "max_age": "1h",
        "required_claims": {"group": ["staff"]},
    }
    down = {"name": "down", "issuer": "http://127.0.0.1:1", "audiences": [AUD]}
    asked = opaque_issuer("asked", f"{issuer.url}/introspect", secret_file, token_prefix="asked_")
    silent = opaque_issuer("silent", "http://127.0.0.1:1/introspect", secret_file, token_prefix="silent_")
    ops = {"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)}
    routes = [{"path": "/internal", "deny": True}, {"path": "/payments", "max_auth_age": "5m"}]
    async with serve(settings(main, down, asked, silent, ops=ops, routes=routes)) as made:
        yield made


Ask = Callable[[Client, FakeIssuer], Awaitable[Reply]]


def good(**changes: Any) -> dict[str, Any]:
    return {"azp": "web", "group": "staff", **changes}


def by_header(value: str) -> Ask:
    async def ask(client: Client, _issuer: FakeIssuer) -> Reply:
        return await client.get("/verify", Authorization=value)

    return ask


def with_token(algorithm: str = "EdDSA", header: dict[str, Any] | None = None, **changes: Any) -> Ask:
    async def ask(client: Client, issuer: FakeIssuer) -> Reply:
        made = claims(time.time(), **{"iss": issuer.url, **good(**changes)})
        key = private_key(algorithm, "k1") if algorithm != "HS256" else private_key("HS256")
        return await client.verify(sign(made, key, algorithm, **(header or {})))

    return ask


async def no_token(client: Client, _issuer: FakeIssuer) -> Reply:
    return await client.verify()


async def two_headers(client: Client, issuer: FakeIssuer) -> Reply:
    token = issuer.token("EdDSA", **good())
    headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    async with client.http.get(f"{client.url}/verify", headers=headers) as answer:
        return await Reply.of(answer)


async def unknown_member(client: Client, issuer: FakeIssuer) -> Reply:
    return await client.post("/verify", json={"token": issuer.token("EdDSA", **good()), "scope": "x"})


async def forged(client: Client, issuer: FakeIssuer) -> Reply:
    return await client.verify(issuer.token("EdDSA", private_key("EdDSA", which=1), **good()))


async def lacking_scope(client: Client, issuer: FakeIssuer) -> Reply:
    return await client.post("/verify", json={"token": issuer.token("EdDSA", **good()), "scopes": ["admin"]})


async def issuer_down(client: Client, _issuer: FakeIssuer) -> Reply:
    return await client.verify(sign(claims(time.time(), iss="http://127.0.0.1:1"), algorithm="EdDSA"))


async def revoked(client: Client, issuer: FakeIssuer) -> Reply:
    token = issuer.token("EdDSA", **good())
    assert (await client.admin("POST", json={"issuer": "main", "token": token})).status == 201
    return await client.verify(token)


def at_route(path: str) -> Ask:
    async def ask(client: Client, issuer: FakeIssuer) -> Reply:
        return await client.post("/verify", json={"token": issuer.token("EdDSA", **good()), "path": path})

    return ask


CASES: dict[Reason, Ask] = {
    Reason.MISSING_TOKEN: no_token,
    Reason.MALFORMED_CREDENTIALS: by_header("Bearer a b"),
    Reason.MULTIPLE_CREDENTIALS: two_headers,
    Reason.MALFORMED_REQUEST: unknown_member,
    Reason.MALFORMED_TOKEN: by_header("Bearer not-a-token"),
    Reason.TOKEN_TOO_LARGE: by_header("Bearer " + "a" * 16_385),
    Reason.UNSUPPORTED_CRIT: with_token(header={"crit": ["exp"]}),
    Reason.WRONG_TOKEN_TYPE: with_token(header={"typ": "id+jwt"}),
    Reason.UNTRUSTED_ISSUER: with_token(iss="https://other.example"),
    Reason.ALGORITHM_NOT_ALLOWED: with_token("HS256"),
    Reason.UNKNOWN_KEY: with_token(header={"kid": "other"}),
    Reason.BAD_SIGNATURE: forged,
    Reason.MALFORMED_CLAIM: with_token(exp="tomorrow"),
    Reason.MISSING_CLAIM: with_token(exp=None),
    Reason.EXPIRED: with_token(exp=int(time.time()) - 100),
    Reason.NOT_YET_VALID: with_token(nbf=int(time.time()) + 1000),
    Reason.TOO_OLD: with_token(iat=int(time.time()) - 7200),
    Reason.WRONG_AUDIENCE: with_token(aud="other"),
    Reason.WRONG_CLIENT: with_token(azp="other"),
    Reason.INACTIVE: by_header("Bearer asked_token"),
    Reason.REVOKED: revoked,
    Reason.INSUFFICIENT_SCOPE: lacking_scope,
    Reason.CLAIM_NOT_SATISFIED: with_token(group="guest"),
    Reason.ROUTE_DENIED: at_route("/internal"),
    Reason.STALE_AUTHENTICATION: at_route("/payments"),
    Reason.KEYS_UNAVAILABLE: issuer_down,
    Reason.INTROSPECTION_UNAVAILABLE: by_header("Bearer silent_token"),
}


def check_answer(reply: Reply, reason: Reason) -> None:
    family = FAMILY[reason]
    assert (reply.status, reply.reason) == (STATUS[family], reason)
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json["allowed"] is False
    assert reply.json["status"] == reply.status
    challenge = reply.headers.get("WWW-Authenticate", "")
    if family is Family.UNAVAILABLE:
        assert challenge == ""
        assert int(reply.headers["Retry-After"]) >= 1
    else:
        assert challenge.startswith('Bearer realm="verifier"')
        error = "insufficient_user_authentication" if reason is Reason.STALE_AUTHENTICATION else ERROR.get(family)
        assert (f'error="{error}"' in challenge) if error else ("error" not in challenge)


@pytest.mark.parametrize("reason", CASES, ids=str)
async def test_a_reason_is_the_same_word_everywhere(reason: Reason, client: Client, issuer: FakeIssuer) -> None:
    reply = await CASES[reason](client, issuer)
    check_answer(reply, reason)
    line = next(line for line in client.log() if line.get("reason"))
    outcome = "undecided" if FAMILY[reason] is Family.UNAVAILABLE else "deny"
    assert (line["event"], line["reason"]) == (outcome, reason)
    assert line["request_id"] == reply.headers["X-Request-Id"]
    assert await client.metric("verifier_decisions_total", reason=str(reason), outcome=outcome) == 1


def test_every_reason_is_produced_here() -> None:
    # Those take a slow issuer, no Redis, another address (test_gateways.py), gRPC (test_ext_authz_grpc.py), or API
    # Gateway (test_aws.py).
    elsewhere = {Reason.UNTRUSTED_PROXY, Reason.DEADLINE_EXCEEDED, Reason.ANSWER_TOO_LARGE}
    below = {Reason.OVERLOADED, Reason.REVOCATIONS_UNAVAILABLE}
    assert set(Reason) - set(CASES) == below | elsewhere


async def test_a_list_of_revocations_that_must_be_followed_and_cannot_is_said_so(issuer: FakeIssuer) -> None:
    made = settings(
        {"name": "main", "issuer": issuer.url, "audiences": [AUD]},
        redis={"url": "redis://127.0.0.1:1", "trusted": True},
        revocations={"when_unfollowed": "deny"},
    )
    async with serve(made) as client:
        check_answer(await client.verify(issuer.token("EdDSA")), Reason.REVOCATIONS_UNAVAILABLE)


async def test_overload_is_said_so(issuer: FakeIssuer) -> None:
    import asyncio  # noqa: PLC0415 - only here

    released = asyncio.Event()

    async def stall(_request: Any) -> Any:
        await released.wait()

    issuer.fault = stall
    made = settings(
        {"name": "main", "issuer": issuer.url, "audiences": [AUD]}, limits={"waiting": 1}, keys={"deadline": "5s"}
    )
    async with serve(made) as client:
        first = asyncio.create_task(client.verify(issuer.token("EdDSA")))
        await asyncio.sleep(0.1)
        check_answer(await client.verify(issuer.token("EdDSA", sub="bob")), Reason.OVERLOADED)
        issuer.fault = None
        released.set()
        first.cancel()


async def test_an_allow_is_counted_and_not_logged(client: Client, issuer: FakeIssuer) -> None:
    reply = await client.verify(issuer.token("EdDSA", **good()))
    assert reply.status == 200
    assert await client.metric("verifier_decisions_total", outcome="allow", issuer="main", surface="verify") == 1
    assert not [line for line in client.log() if line["event"] in ("deny", "allow")]


async def test_no_token_gets_into_an_answer_or_the_log(client: Client, issuer: FakeIssuer) -> None:
    tokens = [issuer.token("EdDSA", **good(sub="s3cret-subject", exp=1)), encode({"alg": "RS256"}) + ".e30.QQ"]
    answers = [(await client.verify(token)).text for token in tokens]
    written = client.log_stream.getvalue() + "".join(answers) + (await client.ops("/metrics")).text
    for token in tokens:
        assert not any(part in written for part in token.split(".") if len(part) > 4)
    assert "s3cret-subject" not in written
