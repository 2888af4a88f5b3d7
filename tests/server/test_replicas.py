"""Replicas that share a Redis behave as one."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.redis_servers import RedisServer, redis_server
from tests.support import AUD, Client, FakeIssuer, serve, settings


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "cache-key"
    path.write_bytes(base64.b64encode(os.urandom(32)))
    return path


@asynccontextmanager
async def replicas(number: int, issuer: dict[str, Any], **changes: Any) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        made = settings({"name": "main", "audiences": [AUD], **issuer}, **changes)
        yield list(await asyncio.gather(*(stack.enter_async_context(serve(made)) for _ in range(number))))


async def test_three_replicas_fetch_keys_once(redis: RedisServer, key_file: Path, issuer: FakeIssuer) -> None:
    shared = {"url": redis.url, "key_file": str(key_file)}
    async with replicas(3, {"issuer": issuer.url}, redis=shared) as clients:
        token = issuer.token("EdDSA")
        for client in clients:
            assert (await client.verify(token)).status == 200
    assert (issuer.discoveries, issuer.key_fetches) == (1, 1)
