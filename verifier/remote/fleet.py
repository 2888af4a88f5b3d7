"""Keys that one replica fetches for all.

An ``Origin`` in front of the real one. It takes the set that another replica fetched last, or claims the fetch, or
waits for whoever claimed it. The claim outlives the fetch by the cooldown, so the whole fleet asks an issuer no
more often than one replica would. Without Redis, every replica fetches on its own.
"""

import asyncio
import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from time import monotonic, time
from typing import Any, Protocol

from verifier.core import keys, strict_json
from verifier.ports import SourceUnavailable, Unreachable
from verifier.remote.http import describe
from verifier.remote.key_source import Freshness
from verifier.remote.origins import Fetched, Origin

LOOK_AGAIN = 0.05
"""Seconds between two looks for what another replica is fetching."""

PATIENCE = 0.5
"""The part of the deadline that is left to whoever claimed the fetch; then we fetch too."""

RETRY_WITHOUT_KEYS = 1.0
"""Seconds after which the fleet may try again while nobody has keys."""


def patient(freshness: Freshness) -> Freshness:
    """With time to wait for another replica before fetching, which has a deadline of its own then."""
    return replace(freshness, deadline=freshness.deadline * (1.0 + PATIENCE) + 1.0)


class SharedEntries(Protocol):
    """Entries for all replicas."""

    async def get(self, name: str) -> bytes | None:
        """Raises ``Unreachable``."""

    def put(self, name: str, content: bytes, seconds: float) -> None:
        """Store an entry, without waiting for it."""

    def drop(self, name: str) -> None:
        """Delete an entry, without waiting for it."""

    async def claim(self, name: str, content: bytes, seconds: float) -> bool:
        """Whether it is ours now. Raises ``Unreachable``."""


class _State(StrEnum):
    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _Turn:
    """What became of the fetch that somebody claimed."""

    state: _State
    detail: str = ""
    retry_after: float = 1.0
    by: str = ""

    def pack(self) -> bytes:
        return _json(asdict(self))

    @classmethod
    def unpack(cls, entry: bytes) -> "_Turn | None":
        """None for anything that was not packed."""
        try:
            packed = strict_json.parse_object(entry)
            return cls(_State(packed["state"]), str(packed["detail"]), float(packed["retry_after"]), str(packed["by"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return None


class FleetOrigin:
    """``name`` stands for the issuer and its configuration. It is a digest: it tells those who can guess them."""

    def __init__(self, origin: Origin, shared: SharedEntries, name: str, freshness: Freshness) -> None:
        self._origin = origin
        self._shared = shared
        self._set = f"keys:{name}"
        self._claim = f"fetch:{name}"
        self._freshness = freshness
        self._id = secrets.token_hex(8)

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
        return None if entry is None else _unpack(entry)

    async def _of_another(self, previous: Fetched | None) -> Fetched | None:
        """What another replica fetched or is fetching; None where it is our turn, or theirs takes too long."""
        give_up = monotonic() + self._freshness.deadline * PATIENCE
        while True:
            newest = await self._newest()
            if newest is not None and self._is_news(newest, previous):
                return newest
            turn = await self._take_turn()
            if turn is None or monotonic() >= give_up:
                return None
            if turn.state is _State.FAILED:
                raise SourceUnavailable(turn.detail, turn.retry_after)
            if turn.state is _State.DONE:  # within the cooldown, and maybe since we looked
                newest = await self._newest()
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

    async def _take_turn(self) -> "_Turn | None":
        """None where the fetch is ours; else what became of whoever claimed it."""
        ours = _Turn(_State.FETCHING, by=self._id)
        longest = self._freshness.deadline + 1.0  # whoever took it and died must not hold up the others for long
        if await self._shared.claim(self._claim, ours.pack(), longest):
            return None
        entry = await self._shared.get(self._claim)
        # A claim that has just ended, or does not open, or is our own put back, must not keep us from fetching.
        turn = None if entry is None else _Turn.unpack(entry)
        return None if turn == ours else turn

    async def _fetch(self, previous: Fetched | None) -> Fetched:
        known = previous is not None
        try:
            async with asyncio.timeout(self._freshness.deadline):
                fetched = replace(await self._origin.fetch(previous), fetched_at=time())
        except Exception as error:
            outage = error if isinstance(error, SourceUnavailable) else SourceUnavailable(describe(error))
            self._settle(_Turn(_State.FAILED, outage.detail, outage.retry_after), known=known)
            raise
        except BaseException:  # we are being stopped: let another replica fetch
            self._shared.drop(self._claim)
            raise
        if fetched.document is not None:
            self._shared.put(self._set, _pack(fetched), self._freshness.max_stale)
        self._settle(_Turn(_State.DONE), known=True)
        return fetched

    def _settle(self, turn: "_Turn", *, known: bool) -> None:
        pause = self._freshness.cooldown if known else min(RETRY_WITHOUT_KEYS, self._freshness.cooldown)
        self._shared.put(self._claim, turn.pack(), pause)


def _pack(fetched: Fetched) -> bytes:
    return _json(
        {
            "document": (fetched.document or b"").decode(),
            "etag": fetched.etag,
            "max_age": fetched.max_age,
            "fetched_at": fetched.fetched_at,
        }
    )


def _unpack(entry: bytes) -> Fetched | None:
    """None for anything that was not packed."""
    try:
        packed = strict_json.parse_object(entry)
        document = str(packed["document"]).encode()
        return Fetched(
            keys=keys.load_jwks(strict_json.parse(document)),
            etag=None if packed["etag"] is None else str(packed["etag"]),
            max_age=None if packed["max_age"] is None else float(packed["max_age"]),
            document=document,
            fetched_at=float(packed["fetched_at"]),
            shared=True,
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
