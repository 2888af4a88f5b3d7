"""Identities between replicas: one verifies or asks, the others read (the engine's ``SharedIdentities``)."""

import asyncio
from contextlib import suppress
from time import monotonic

from verifier.ports import Unreachable
from verifier.store.redis import RedisStore

LOOK_AGAIN = 0.02
"""Seconds between two looks for what another replica is finding out."""


class Shared:
    """``claim_for`` is how long another replica may take to find something out, in seconds."""

    def __init__(self, store: RedisStore, claim_for: float) -> None:
        self._store = store
        self._claim_for = claim_for

    async def recall(self, digest: bytes) -> bytes | None:
        with suppress(Unreachable):
            return await self._store.get(_entry(digest))
        return None

    async def recall_or_claim(self, digest: bytes) -> bytes | None:
        give_up = monotonic() + self._claim_for
        with suppress(Unreachable):
            while monotonic() < give_up:
                entry = await self._store.get(_entry(digest))
                if entry is not None:
                    return entry
                if await self._store.claim(_claim(digest), b"", self._claim_for):
                    return None
                await asyncio.sleep(LOOK_AGAIN)
        return None

    def keep(self, digest: bytes, entry: bytes, seconds: float) -> None:
        self._store.put(_entry(digest), entry, seconds)

    def abandon(self, digest: bytes) -> None:
        self._store.drop(_claim(digest))


class NotShared:
    """Each replica for itself."""

    async def recall(self, digest: bytes) -> bytes | None:  # noqa: ARG002 - the form of SharedIdentities
        return None

    async def recall_or_claim(self, digest: bytes) -> bytes | None:  # noqa: ARG002
        return None

    def keep(self, digest: bytes, entry: bytes, seconds: float) -> None:
        """Nowhere to keep it."""

    def abandon(self, digest: bytes) -> None:
        """Nothing was claimed."""


def _entry(digest: bytes) -> str:
    return f"identity:{digest.hex()}"


def _claim(digest: bytes) -> str:
    return f"inquiry:{digest.hex()}"
