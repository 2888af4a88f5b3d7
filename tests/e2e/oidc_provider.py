"""npm's certified ``oidc-provider``, started by the tests: real metadata, real keys, real tokens."""

import asyncio
import json
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

HERE = Path(__file__).parent
AUDIENCE = "https://api.example.test"
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")


def require_provider() -> None:
    """Skip where the provider cannot run; fail where it must (``E2E_REQUIRE=1``)."""
    missing = None
    if shutil.which("node") is None:
        missing = "node is not installed"
    elif not (HERE / "node_modules" / "oidc-provider").exists():
        missing = "oidc-provider is not installed: run npm ci in tests/e2e, or make e2e"
    if missing and os.environ.get("E2E_REQUIRE") == "1":
        pytest.fail(missing)
    elif missing:
        pytest.skip(missing)


@dataclass
class OidcProvider:
    """A running provider. ``settings`` is the file that it reads at start and on ``replace_keys``."""

    settings: Path
    issuer: str
    client_secret: str
    process: asyncio.subprocess.Process

    async def token(self, algorithm: str, scope: str = "read:pets") -> str:
        """An access token by the client-credentials grant, signed with ``algorithm``."""
        form = {"grant_type": "client_credentials", "resource": f"{AUDIENCE}/{algorithm}", "scope": scope}
        headers = {"Authorization": aiohttp.encode_basic_auth("e2e", self.client_secret)}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.issuer}/token", data=form, headers=headers) as answer,
        ):
            document = await answer.json()
            assert answer.status == 200, document.get("error")
            return str(document["access_token"])

    async def replace_keys(self, keys: list[dict[str, Any]]) -> None:
        """Sign with, and publish, these private JWKs from now on."""
        _write(self.settings, {**json.loads(self.settings.read_text()), "jwks": {"keys": keys}})
        self.process.send_signal(signal.SIGHUP)
        await _line(self.process)


@asynccontextmanager
async def oidc_provider(folder: Path, keys: list[dict[str, Any]]) -> AsyncIterator[OidcProvider]:
    settings = folder / "provider.json"
    client_secret = secrets.token_urlsafe(24)
    _write(settings, {"port": 0, "jwks": {"keys": keys}, "clientSecret": client_secret})
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "provider.mjs"),
        str(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield OidcProvider(settings, (await _line(process))["issuer"], client_secret, process)
    finally:
        process.terminate()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next line of JSON; what the provider says otherwise (warnings for people) is passed over."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while line := await process.stdout.readline():
            if line.startswith(b"{"):
                return dict(json.loads(line))
    raise RuntimeError("the provider ended before it was ready")


def _write(path: Path, value: dict[str, Any]) -> None:
    path.touch(mode=0o600)
    path.write_text(json.dumps(value))
