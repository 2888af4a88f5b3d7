"""A turn of the event loop has room for so many signatures."""

import asyncio

import pytest
from aiohttp import web

from tests.support import AUD, FakeIssuer, eventually, serve, settings
from verifier.server.turn import Turn


async def test_it_has_room_until_it_is_full_and_the_next_one_has_its_own() -> None:
    turn = Turn(2)
    assert [turn.has_room() for _ in range(4)] == [True, True, False, False]
    await asyncio.sleep(0)
    assert turn.has_room()


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether there is room."""
    made = {"has_room": True}
    monkeypatch.setattr(Turn, "has_room", lambda _: made["has_room"])
    return made


async def test_new_tokens_beyond_it_are_turned_away_and_known_ones_are_not(
    issuer: FakeIssuer, turn: dict[str, bool]
) -> None:
    known = issuer.token("EdDSA")
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as client:
        assert (await client.verify(known)).status == 200
        turn["has_room"] = False
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
        turn["has_room"] = False
        goes_on.set()
        assert (await asking).status == 200
