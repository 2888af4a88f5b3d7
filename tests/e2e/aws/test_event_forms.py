"""Every form of event through the Lambda authorizer, under AWS's own runtime, to the verifier: what AWS is told.

What API Gateway makes of it is AWS's documentation: the error ``Unauthorized`` is 401, another error 500, a policy that
denies 403. That part cannot run here.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.aws_events import AUTH0_SCOPE, AUTH0_SUBJECT, FORMS, FUSIONAUTH, Build, appsync, arn, http_2, rest_token
from tests.e2e.aws.runtime import Result, Runtime, lambda_runtime, require_runtime
from tests.support import AUD, FakeIssuer, fake_issuer, free_port, serve, settings, sign

pytestmark = pytest.mark.e2e

DOWN = "http://127.0.0.1:1"
SIMPLE = [http_2, appsync]
CASES = ["good", "expired", "missing", "under-scoped", "undecidable"]
SECRET = "0123456789abcdef0123456789abcdef"
ROUTES = [{"path": path, "scopes": ["read"]} for path in ("/request", "/$connect", "/graphql")]


def _settings(issuer: FakeIssuer, secret_file: Path, **changes: Any) -> Any:
    return settings(
        {"name": "main", "issuer": issuer.url, "audiences": [AUD]},
        {"name": "down", "issuer": DOWN, "audiences": [AUD]},
        **{
            "routes": ROUTES,
            "default_route": "deny",
            "callers": [{"name": "lambda", "secret_file": str(secret_file)}],
            **changes,
        },
    )


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return file


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with fake_issuer("RS256", "EdDSA") as made:
        yield made


@asynccontextmanager
async def asking(url: str, **environment: str) -> AsyncIterator[Runtime]:
    require_runtime()
    async with lambda_runtime(env={"VERIFIER_URL": url, "VERIFIER_SECRET": SECRET, **environment}) as made:
        yield made


def authorization(issuer: FakeIssuer, case: str) -> str | None:
    changes: dict[str, dict[str, Any]] = {
        "good": {},
        "expired": {"exp": time.time() - 600},
        "under-scoped": {"scope": "other"},
        "undecidable": {"iss": DOWN},
    }
    return None if case == "missing" else "Bearer " + issuer.token("EdDSA", **{"scope": "read", **changes[case]})


def effects(payload: Any) -> dict[str, Any]:
    return {one["Effect"]: one["Resource"] for one in payload["policyDocument"]["Statement"]}


def check(build: Build, case: str, result: Result) -> None:
    """What AWS documents for the form and the case."""
    if case == "undecidable":
        assert (result.payload, result.error_type) == (None, "Undecided")
    elif case in ("expired", "missing") and build is not appsync:
        assert (result.payload, result.error) == (None, "Unauthorized")
    elif build in SIMPLE:
        assert result.payload["isAuthorized"] is (case == "good")
        told = result.payload["resolverContext" if build is appsync else "context"]
        assert told["scope" if case == "good" else "verifier_reason"]
        assert all(isinstance(value, str | int | float | bool) for value in told.values())
    else:
        asked = build(None, "GET", "/request")["methodArn"]
        resources = effects(result.payload)["Allow" if case == "good" else "Deny"]
        assert asked in ([resources] if isinstance(resources, str) else resources)
        assert ("Allow" in effects(result.payload)) is (case == "good")
        assert result.payload["principalId"] == "alice"
        assert len(json.dumps(result.payload)) <= 8_192


async def test_every_form_and_every_case_is_answered_as_aws_documents_it(issuer: FakeIssuer, secret: Path) -> None:
    async with serve(_settings(issuer, secret)) as client, asking(client.url) as invoke:
        for build in FORMS:
            for case in CASES:
                check(build, case, await invoke(build(authorization(issuer, case), "GET", "/request")))
        assert await client.metric("verifier_callers_total", caller="lambda") == len(FORMS) * len(CASES)
        assert await client.metric("verifier_connections") == 1


async def test_a_function_without_the_secret_decides_nothing(issuer: FakeIssuer, secret: Path) -> None:
    async with serve(_settings(issuer, secret)) as client:
        async with asking(client.url, VERIFIER_SECRET="another secret of the same kind") as invoke:
            result = await invoke(rest_token(authorization(issuer, "good"), "GET", "/request"))
            assert (result.payload, result.error_type) == (None, "Undecided")
        assert await client.metric("verifier_callers_total", caller="unknown") == 1


async def test_a_verifier_that_starts_anew_between_two_requests_is_no_error(issuer: FakeIssuer, secret: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    made = _settings(issuer, secret, listen=address)
    event = rest_token(authorization(issuer, "good"), "GET", "/request")
    async with asking(f"http://{address}") as invoke:
        for _ in range(3):
            async with serve(made):
                result = await invoke(event)
                assert (result.error, result.payload["principalId"]) == (None, "alice")


async def test_the_claims_of_fusionauth_arrive_to_the_letter(issuer: FakeIssuer, secret: Path) -> None:
    now = int(time.time())
    sent = {**FUSIONAUTH, "iss": issuer.url, "exp": now + 3600, "iat": now, "auth_time": now}
    token = sign(sent, issuer.keys[0], "RS256")
    main = {"name": "main", "preset": "fusionauth", "issuer": issuer.url, "audiences": [FUSIONAUTH["aud"]]}
    async with serve(settings(main)) as client, asking(client.url) as invoke:
        result = await invoke(http_2(f"Bearer {token}", "GET", "/"))
        texts = {name: value if isinstance(value, str) else str(value) for name, value in sent.items()}
        assert result.payload == {
            "isAuthorized": True,
            "context": {**texts, "email_verified": "true", "roles": "[]"},
        }


async def test_the_output_of_the_auth0_sample_is_the_same(issuer: FakeIssuer, secret: Path) -> None:
    event = rest_token("Bearer " + issuer.token("RS256", sub=AUTH0_SUBJECT, scope=AUTH0_SCOPE), "GET", "/pets/7")
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
    limited = {"policy": "method", "context_claims": ["scope"]}
    async with serve(settings(main, aws=limited)) as client, asking(client.url) as invoke:
        result = await invoke(event)
        assert result.payload == {
            "principalId": AUTH0_SUBJECT,
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": arn("GET", "/pets/7")},
                ],
            },
            "context": {"scope": AUTH0_SCOPE},
        }
