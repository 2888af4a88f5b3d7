"""Fixtures of the whole suite."""

import base64
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.redis_servers import RedisServer, redis_server
from tests.support import ADMIN_TOKEN, AUD, Client, FakeIssuer, fake_issuer, serve, settings


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own environment must not configure the service under test."""
    for name in os.environ:
        if name.startswith(("VERIFIER_", "OTEL_")) or name in {"TOKEN_ISSUER", "AUDIENCE", "JWKS_URI"}:
            monkeypatch.delenv(name)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A file with the client secret for introspection."""
    path = tmp_path / "client-secret"
    path.write_text(secrets.token_hex())
    return path


@pytest.fixture
def admin_token_file(tmp_path: Path) -> Path:
    path = tmp_path / "admin-token"
    path.write_text(f"{ADMIN_TOKEN}\n")
    return path


@pytest.fixture(scope="session")
def _redis_of_the_session() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(_redis_of_the_session: RedisServer) -> RedisServer:
    """A real Redis, empty."""
    with _redis_of_the_session.admin() as admin:
        admin.flushall()
    return _redis_of_the_session


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The key that entries in Redis are sealed with."""
    path = tmp_path / "cache-key"
    path.write_bytes(base64.b64encode(secrets.token_bytes(32)))
    return path


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    """An issuer with one EdDSA key."""
    async with fake_issuer("EdDSA") as made:
        yield made


@pytest.fixture
async def client(issuer: FakeIssuer) -> AsyncIterator[Client]:
    """A service that trusts ``issuer``."""
    async with serve(settings({"name": "main", "issuer": issuer.url, "audiences": [AUD]})) as made:
        yield made
