"""Keys that one replica fetches for all.

An ``Origin`` in front of the real one. It takes the set that another replica fetched last, or claims the fetch, or
waits for whoever claimed it. The claim outlives the fetch by the cooldown, so the whole fleet asks an issuer no
more often than one replica would. Without Redis, every replica fetches on its own.
"""

import asyncio
import json
from dataclasses import replace
from enum import StrEnum
from time import time
from typing import Any, Protocol

from verifier.core import keys, strict_json
from verifier.ports import Claim, SourceUnavailable
from verifier.remote.key_source import Freshness
from verifier.remote.origins import Fetched, Origin

LOOK_AGAIN = 0.05
"""Seconds between two looks for what another replica is fetching."""

RETRY_WITHOUT_KEYS = 1.0
"""Seconds after which the fleet may try again while nobody has keys."""


class SharedEntries(Protocol):
    """Entries for all replicas. Never raises: a failure is a miss."""

    async def get(self, name: str) -> bytes | None: ...

    async def put_now(self, name: str, content: bytes, seconds: float) -> None: ...

    async def claim(self, name: str, content: bytes, seconds: float) -> Claim: ...


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
        entry = await self._shared.get(self._set)
        if entry is None:
            return None
        try:
            return _unpack(entry)
        except (ValueError, KeyError, TypeError):
            return None

    async def fetch(self, previous: Fetched | None) -> Fetched:
        """The newest set of the fleet, fetched here where it is our turn. Raises ``SourceUnavailable``."""
        while True:
            newest = await self.last_known()
            if newest is not None and self._is_news(newest, previous):
                return newest
            state = await self._take_turn()
            if state is None:
                return await self._fetch(previous)
            if state["state"] == _State.FAILED:
                raise SourceUnavailable(str(state["detail"]), float(state["retry_after"]))
            if state["state"] == _State.DONE:  # within the cooldown: what there is must be what was fetched then
                if newest is None or not self._is_current(newest, previous):
                    return await self._fetch(previous)
                return newest
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
        taken = await self._shared.claim(self._claim, _json({"state": _State.FETCHING}), longest)
        if taken is not Claim.OTHERS:
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
            await self._settle_failure(error, known=previous is not None)
            raise
        if fetched.document is not None:
            await self._shared.put_now(self._set, _pack(fetched), self._freshness.max_stale)
        await self._shared.put_now(self._claim, _json({"state": _State.DONE}), self._freshness.cooldown)
        return fetched

    async def _settle_failure(self, error: BaseException, *, known: bool) -> None:
        outage = error if isinstance(error, SourceUnavailable) else SourceUnavailable("no answer in time")
        pause = self._freshness.cooldown if known else min(RETRY_WITHOUT_KEYS, self._freshness.cooldown)
        content = _json({"state": _State.FAILED, "detail": outage.detail, "retry_after": outage.retry_after})
        await asyncio.shield(self._shared.put_now(self._claim, content, pause))


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
