"""Identities between replicas: one verifies or asks, the others read (the engine's ``SharedIdentities``)."""

import asyncio
import secrets
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from verifier.ports import Unreachable

if TYPE_CHECKING:
    from verifier.store.redis import RedisStore

PATIENCE = 0.5
"""The part of its time that is left to whoever claimed the work; then we do it too."""

LOOK_AGAIN = 0.02
"""Seconds between two looks for what another replica is finding out."""


class Shared:
    """In Redis, under names that only replicas know how to make."""

    is_shared = True

    def __init__(self, store: "RedisStore") -> None:
        self._store = store
        self._id = secrets.token_bytes(8)

    async def recall(self, digest: bytes) -> bytes | None:
        with suppress(Unreachable):
            return await self._store.get(self._entry(digest))
        return None

    async def recall_or_claim(self, digest: bytes, seconds: float) -> bytes | None:
        entry, claim = self._entry(digest), self._claim(digest)
        give_up = monotonic() + seconds * PATIENCE
        with suppress(Unreachable):
            while monotonic() < give_up:
                found = await self._store.get(entry)
                if found is not None:
                    return found
                ours = await self._store.claim(claim, self._id, seconds)
                if ours or await self._store.get(claim) in (None, self._id):
                    # Ours, or nobody's: whoever had it may have ended since we looked.
                    return await self._store.get(entry)
                await asyncio.sleep(LOOK_AGAIN)
        return None

    def keep(self, digest: bytes, entry: bytes, seconds: float) -> None:
        self._store.put(self._entry(digest), entry, seconds)

    def release(self, digest: bytes) -> None:
        self._store.drop(self._claim(digest))

    def _entry(self, digest: bytes) -> str:
        return f"identity:{self._store.secret_name(digest)}"

    def _claim(self, digest: bytes) -> str:
        return f"inquiry:{self._store.secret_name(digest)}"


class NotShared:
    """Each replica for itself."""

    is_shared = False

    async def recall(self, digest: bytes) -> bytes | None:  # noqa: ARG002 - the form of SharedIdentities
        return None

    async def recall_or_claim(self, digest: bytes, seconds: float) -> bytes | None:  # noqa: ARG002
        return None

    def keep(self, digest: bytes, entry: bytes, seconds: float) -> None:
        """Nowhere to keep it."""

    def release(self, digest: bytes) -> None:
        """Nothing was claimed."""
