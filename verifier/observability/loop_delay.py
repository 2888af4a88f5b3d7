"""How late the event loop is: whatever is due waits that long for its turn, a decision like a timer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

INTERVAL = 0.1
"""Seconds between two looks."""


@asynccontextmanager
async def watching(late: Callable[[float], None], interval: float = INTERVAL) -> AsyncIterator[None]:
    """Tells ``late`` how many seconds too late a timer fires, every ``interval`` seconds, until the end of the ``async
    with``. A loop that stands still for longer is told of once, with all of it but what was left of the interval."""
    looking = asyncio.create_task(_look(late, interval), name="event loop delay")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait({looking})


async def _look(late: Callable[[float], None], interval: float) -> None:
    while True:
        due = monotonic() + interval
        await asyncio.sleep(interval)
        late(max(0.0, monotonic() - due))
