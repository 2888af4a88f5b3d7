"""What is under way, counted, and waited for."""

import asyncio
from contextlib import suppress
from types import TracebackType


class Flight:
    """``with flight:`` around each. ``number`` of them are under way."""

    def __init__(self) -> None:
        self.number = 0
        self._ended = asyncio.Event()

    def __enter__(self) -> None:
        self.number += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.number -= 1
        if not self.number:
            self._ended.set()

    async def ended(self, within: float | None = None) -> None:
        """Returns when none is under way, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.number:
                    self._ended.clear()
                    await self._ended.wait()
