"""Keys that one replica fetches for all.

An ``Origin`` in front of the real one. It takes the set that another replica fetched last, or claims the fetch, or
waits for whoever claimed it. The claim outlives the fetch by the cooldown, so the whole fleet asks an issuer no
more often than one replica would. Without Redis, every replica fetches on its own.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from time import time
from typing import Any, Protocol

from verifier.core import keys, strict_json
from verifier.ports import SourceUnavailable, Unreachable
from verifier.remote.key_source import Freshness
from verifier.remote.origins import Fetched, Origin

LOOK_AGAIN = 0.05
"""Seconds between two looks for what another replica is fetching."""

RETRY_WITHOUT_KEYS = 1.0
"""Seconds after which the fleet may try again while nobody has keys."""


class SharedEntries(Protocol):
    """Entries for all replicas."""

    async def get(self, name: str) -> bytes | None:
        """Raises ``Unreachable``."""

    def put(self, name: str, content: bytes, seconds: float) -> None:
        """Store an entry, without waiting for it."""

    async def claim(self, name: str, content: bytes, seconds: float) -> bool:
        """Whether it is ours now. Raises ``Unreachable``."""


class _State(StrEnum):
    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"


class FleetOrigin:
    """``name`` stands for the issuer and its configuration; it must not tell which."""

    def __init__(self, origin: Origin, shared: SharedEntries, name: str, freshness: Freshness) -> None:
        self._origin = origin
        self._shared = shared
        self._set = f"keys:{name}"
        self._claim = f"fetch:{name}"
        self._freshness = freshness

    async def last_known(self) -> Fetched | None:
        """The set that any replica fetched last, however old it may be."""
        with suppress(Unreachable):
            return await self._newest()
        return None

    async def fetch(self, previous: Fetched | None) -> Fetched:
        """The newest set of the fleet, fetched here where it is our turn. Raises ``SourceUnavailable``."""
        newest = None
        with suppress(Unreachable):
            newest = await self._of_another(previous)
        return newest or await self._fetch(previous)

    async def _newest(self) -> Fetched | None:
        entry = await self._shared.get(self._set)
        if entry is None:
            return None
        try:
            return _unpack(entry)
        except (ValueError, KeyError, TypeError):
            return None

    async def _of_another(self, previous: Fetched | None) -> Fetched | None:
        """What another replica fetched or is fetching; None where it is our turn."""
        while True:
            newest = await self._newest()
            if newest is not None and self._is_news(newest, previous):
                return newest
            state = await self._take_turn()
            if state is None:
                return None
            if state["state"] == _State.FAILED:
                raise SourceUnavailable(str(state["detail"]), float(state["retry_after"]))
            if state["state"] == _State.DONE:  # within the cooldown: what there is must be what was fetched then
                return newest if newest is not None and self._is_current(newest, previous) else None
            await asyncio.sleep(LOOK_AGAIN)

    def _is_news(self, newest: Fetched, previous: Fetched | None) -> bool:
        if previous is None:
            return time() - newest.fetched_at < self._freshness.refresh
        return newest.fetched_at > previous.fetched_at

    def _is_current(self, newest: Fetched, previous: Fetched | None) -> bool:
        """Whoever can write to Redis can put an older set back, with keys that were withdrawn since."""
        if previous is not None and newest.fetched_at < previous.fetched_at:
            return False
        return time() - newest.fetched_at < self._freshness.refresh

    async def _take_turn(self) -> dict[str, Any] | None:
        """None where the fetch is ours; else what became of whoever claimed it."""
        longest = self._freshness.deadline + 1.0  # whoever took it and died must not hold up the others for long
        if await self._shared.claim(self._claim, _json({"state": _State.FETCHING}), longest):
            return None
        entry = await self._shared.get(self._claim)
        try:
            # A claim that has just ended, or does not open, must not keep anybody from fetching.
            return None if entry is None else strict_json.parse_object(entry)
        except ValueError:
            return None

    async def _fetch(self, previous: Fetched | None) -> Fetched:
        try:
            fetched = replace(await self._origin.fetch(previous), fetched_at=time())
        except BaseException as error:
            self._settle_failure(error, known=previous is not None)
            raise
        if fetched.document is not None:
            self._shared.put(self._set, _pack(fetched), self._freshness.max_stale)
        self._shared.put(self._claim, _json({"state": _State.DONE}), self._freshness.cooldown)
        return fetched

    def _settle_failure(self, error: BaseException, *, known: bool) -> None:
        outage = error if isinstance(error, SourceUnavailable) else SourceUnavailable("no answer in time")
        pause = self._freshness.cooldown if known else min(RETRY_WITHOUT_KEYS, self._freshness.cooldown)
        content = _json({"state": _State.FAILED, "detail": outage.detail, "retry_after": outage.retry_after})
        self._shared.put(self._claim, content, pause)


def _pack(fetched: Fetched) -> bytes:
    return _json(
        {
            "document": (fetched.document or b"").decode(),
            "etag": fetched.etag,
            "max_age": fetched.max_age,
            "fetched_at": fetched.fetched_at,
        }
    )


def _unpack(entry: bytes) -> Fetched:
    packed = strict_json.parse_object(entry)
    document = packed["document"].encode()
    return Fetched(
        keys=keys.load_jwks(strict_json.parse(document)),
        etag=packed["etag"],
        max_age=packed["max_age"],
        document=document,
        fetched_at=float(packed["fetched_at"]),
        shared=True,
    )


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
