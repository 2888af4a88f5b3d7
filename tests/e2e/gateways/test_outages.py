"""What a gateway does when the verifier is killed, stopped or slow: nobody passes, soon, until it is well again."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.gateways.gateways import Gateway
from tests.e2e.gateways.peers import request
from tests.e2e.gateways.scene import Scene, nobody_passed, scene

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def relayed(kind: type[Gateway], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(kind, tmp_path_factory.mktemp(kind.name)) as made:
        yield made


@pytest.fixture(scope="module")
def keeping(relayed: Scene) -> Scene:
    if not relayed.gateway.keeps_connections:
        pytest.skip("it keeps no connection of HTTP")
    return relayed


@pytest.fixture(scope="module")
def direct(kind: type[Gateway], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(kind, tmp_path_factory.mktemp(kind.name), relayed=False) as made:
        yield made


def passes(made: Scene) -> bool:
    return made.let_pass_rightly(made.send(request(token="writer")))


def test_nobody_passes_when_the_verifier_is_slow_and_it_is_asked_once(relayed: Scene) -> None:
    seen = relayed.send(request(token="slow"))
    assert nobody_passed(seen, relayed.gateway.when_slow)
    assert 0.5 < seen.seconds < 2.5
    assert len(seen.asked) == 1
    assert passes(relayed)


def test_nobody_passes_when_the_verifier_is_stopped_until_it_goes_on(direct: Scene) -> None:
    assert passes(direct)
    with direct.verifier.paused():
        seen = direct.send(request(token="writer"))
    assert nobody_passed(seen, direct.gateway.when_slow)
    assert seen.seconds < 2.5
    assert passes(direct)


def test_nobody_passes_when_the_verifier_is_killed_until_it_is_back(direct: Scene) -> None:
    assert passes(direct)
    with direct.verifier.dead():
        seen = direct.send(request(token="writer"))
    assert nobody_passed(seen, direct.gateway.when_dead)
    assert seen.seconds < 2.5
    assert passes(direct)


def test_a_public_place_is_closed_too_while_nobody_decides(direct: Scene) -> None:
    with direct.verifier.dead():
        assert nobody_passed(direct.send(request("/public")), direct.gateway.when_dead)
    assert direct.let_pass_rightly(direct.send(request("/public")))


def test_a_connection_that_the_verifier_closed_meanwhile_is_no_denial(keeping: Scene) -> None:
    assert passes(keeping)
    ended, deadline = keeping.relay.ended, time.monotonic() + 10
    while keeping.relay.ended == ended:
        assert time.monotonic() < deadline, "the verifier closes no connection"
        time.sleep(0.02)
    assert passes(keeping)


def test_a_connection_that_is_closed_as_the_question_comes_is_no_denial(keeping: Scene) -> None:
    closed = keeping.relay.closed
    for _ in range(6):
        keeping.relay.closes_next = True
        assert passes(keeping)
    keeping.relay.closes_next = False
    assert keeping.relay.closed > closed
