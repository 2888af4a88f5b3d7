"""Work that goes on beside other work, and ends with it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], name: str | None = None) -> AsyncIterator[None]:
    """``work`` runs until the end of the ``async with``, which waits for it to end. ``name`` is for whoever looks at
    tasks."""
    working = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        working.cancel()
        await asyncio.wait({working})
