"""How late the event loop is: whatever is due waits that long for its turn, a decision like a timer."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic

from verifier.background import beside

INTERVAL = 0.1
"""Seconds between two looks."""


def watching(late: Callable[[float], None], interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Tells ``late`` how many seconds too late a timer fires, every ``interval`` seconds, until the end of the ``async
    with``. A loop that stands still for longer is told of once, with all of it but what was left of the interval."""
    return beside(_look(late, interval), "event loop delay")


async def _look(late: Callable[[float], None], interval: float) -> None:
    while True:
        due = monotonic() + interval
        await asyncio.sleep(interval)
        late(max(0.0, monotonic() - due))
