"""A turn of the event loop has so much time for signatures."""

import asyncio

import pytest
from aiohttp import web

from tests.support import AUD, FakeIssuer, eventually, serve, settings
from verifier.server.turn import Turn


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_it_has_time_until_it_is_used_up_and_the_next_one_has_its_own() -> None:
    clock = Clock()
    turn = Turn(1.0, clock)
    clock.now = 100.0  # whatever came before
    assert turn.has_time()
    clock.now = 100.9
    assert turn.has_time()
    clock.now = 101.0
    assert not turn.has_time()
    await asyncio.sleep(0)
    assert turn.has_time()


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether there is time."""
    made = {"has_time": True}
    monkeypatch.setattr(Turn, "has_time", lambda _: made["has_time"])
    return made


async def test_new_tokens_beyond_it_are_turned_away_and_known_ones_are_not(
    issuer: FakeIssuer, turn: dict[str, bool]
) -> None:
    known = issuer.token("EdDSA")
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        assert (await client.verify(known)).status == 200
        turn["has_time"] = False
        new = await client.verify(issuer.token("EdDSA", jti="new"))
        assert (new.status, new.reason, new.headers["Retry-After"]) == (503, "overloaded", "1")
        assert (await client.verify(known)).status == 200


async def test_whoever_has_waited_for_keys_has_waited_enough(issuer: FakeIssuer, turn: dict[str, bool]) -> None:
    """A thousand first tokens of a new key come in one turn."""
    goes_on = asyncio.Event()

    async def waits(_: object) -> web.Response:
        await goes_on.wait()
        return web.json_response({"keys": [key.as_dict(private=False) for key in issuer.keys]})

    issuer.fault = waits
    main = {"name": "main", "issuer": issuer.url, "audiences": [AUD], "jwks_uri": f"{issuer.url}/jwks"}
    async with serve(settings(main)) as client:
        asking = asyncio.create_task(client.verify(issuer.token("EdDSA")))
        await eventually(lambda: client.metric("verifier_decisions_waiting", issuer="main"))
        turn["has_time"] = False
        goes_on.set()
        assert (await asking).status == 200
