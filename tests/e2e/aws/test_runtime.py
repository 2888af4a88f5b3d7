"""The Lambda authorizer under AWS's own runtime interface client, against a verifier on loopback."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.aws.runtime import Result, Runtime, lambda_runtime, require_runtime
from tests.verifier_stub import StubVerifier, answers, stub_verifier

pytestmark = pytest.mark.e2e

TOKEN = "eyJ.a.token"
SECRET = "a-secret-of-lambda"
EVENT = {"type": "TOKEN", "authorizationToken": f"Bearer {TOKEN}", "methodArn": "arn:aws:execute-api:…/GET/pets"}
ALLOW = {"principalId": "alice", "policyDocument": {"Version": "2012-10-17"}, "context": {"größe": "1"}}
PROBLEM = "application/problem+json"


@pytest.fixture
def verifier() -> Iterator[StubVerifier]:
    with stub_verifier(answers(200, ALLOW)) as made:
        yield made


@pytest.fixture
async def invoke(verifier: StubVerifier) -> AsyncIterator[Runtime]:
    require_runtime()
    async with lambda_runtime(env={"VERIFIER_URL": verifier.url, "VERIFIER_SECRET": SECRET}) as made:
        yield made


def undecided(result: Result) -> str:
    """What is said where there is no answer."""
    assert result.error is not None
    assert (result.payload, result.error_type) == (None, "Undecided")
    assert TOKEN not in str(result.document)
    assert SECRET not in str(result.document)
    return result.error


async def test_an_allow_is_what_lambda_returns_cold_and_warm(invoke: Runtime, verifier: StubVerifier) -> None:
    for _ in range(50):
        assert await invoke(EVENT) == Result(ALLOW)
    assert verifier.asked[0].event == EVENT
    assert verifier.asked[0].headers["X-Verifier-Secret"] == SECRET
    assert len({asked.headers["X-Request-Id"] for asked in verifier.asked}) == 50
    assert verifier.connections == 1


async def test_a_denial_is_what_lambda_returns(invoke: Runtime, verifier: StubVerifier) -> None:
    verifier.behave = answers(403, {"isAuthorized": False})
    assert await invoke(EVENT) == Result({"isAuthorized": False})


async def test_the_error_of_a_bad_token_is_unauthorized_and_no_more_cold_and_warm(
    invoke: Runtime, verifier: StubVerifier
) -> None:
    verifier.behave = answers(401, {"reason": "expired"}, PROBLEM)
    for _ in range(3):
        assert (await invoke(EVENT)).error == "Unauthorized"
    verifier.behave = answers(200, ALLOW)
    assert await invoke(EVENT) == Result(ALLOW)


async def test_a_verifier_that_cannot_decide_is_another_error(invoke: Runtime, verifier: StubVerifier) -> None:
    verifier.behave = answers(503, {}, PROBLEM)
    assert undecided(await invoke(EVENT)) == "the verifier answered 503, and nothing for AWS"
    verifier.behave = answers(403, {}, PROBLEM)
    assert undecided(await invoke(EVENT)) == "the verifier answered 403, and nothing for AWS"


async def test_a_verifier_that_is_started_anew_between_two_calls_is_no_error(
    invoke: Runtime, verifier: StubVerifier
) -> None:
    for _ in range(3):
        assert await invoke(EVENT) == Result(ALLOW)
        verifier.stop()
        verifier.start()
    assert len(verifier.asked) == 3


async def test_a_verifier_that_is_gone_is_an_error_until_it_is_back(invoke: Runtime, verifier: StubVerifier) -> None:
    verifier.stop()
    assert "ConnectionRefusedError" in undecided(await invoke(EVENT))
    verifier.start()
    assert await invoke(EVENT) == Result(ALLOW)


async def test_a_cold_start_opens_a_connection_of_its_own(invoke: Runtime, verifier: StubVerifier) -> None:
    assert await invoke(EVENT) == Result(ALLOW)
    await invoke.start()
    assert await invoke(EVENT) == Result(ALLOW)
    assert verifier.connections == 2


async def test_the_authorizer_stops_before_lambda_would_stop_it(verifier: StubVerifier) -> None:
    require_runtime()
    verifier.behave = lambda line, _asked: line.recv(1)
    async with lambda_runtime(env={"VERIFIER_URL": verifier.url}, seconds=1) as invoke:
        undecided(await invoke(EVENT))


async def test_nothing_of_the_event_is_logged(invoke: Runtime, verifier: StubVerifier) -> None:
    assert await invoke(EVENT) == Result(ALLOW)
    verifier.behave = answers(500, {})
    undecided(await invoke(EVENT))
    await invoke.stop()
    assert "Undecided" in invoke.said
    assert TOKEN not in invoke.said
    assert SECRET not in invoke.said


async def test_an_authorizer_without_an_address_says_so(verifier: StubVerifier) -> None:
    require_runtime()
    async with lambda_runtime(env={}) as invoke:
        result = await invoke(EVENT)
        assert result.error is not None
        assert result.error.startswith("VERIFIER_URL must be")
