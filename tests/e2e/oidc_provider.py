"""npm's certified ``oidc-provider``, started by the tests: real metadata, real keys, real tokens."""

import asyncio
import json
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

HERE = Path(__file__).parent
AUDIENCE = "https://api.example.test"
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
CLIENT_ID = "e2e"


def missing() -> str | None:
    """What the provider lacks to run here, and how to get it."""
    if shutil.which("node") is None:
        return "node is not installed: get Node.js 20, which brings npm"
    if not (HERE / "node_modules" / "oidc-provider").exists():
        return "oidc-provider is not installed: run npm ci in tests/e2e, or make e2e"
    return None


def require_provider() -> None:
    """Skip where the provider cannot run; fail where it must (``E2E_REQUIRE=1``)."""
    lacking = missing()
    if lacking and os.environ.get("E2E_REQUIRE") == "1":
        pytest.fail(lacking)
    elif lacking:
        pytest.skip(lacking)


def generate_key(algorithm: str, kid: str) -> dict[str, Any]:
    """A new private JWK for one of ``ALGORITHMS``, bound to it by ``alg`` so that the provider picks it."""
    key: RSAKey | ECKey | OKPKey
    if algorithm in {"RS256", "PS256"}:
        key = RSAKey.generate_key(2048)
    elif algorithm == "ES256":
        key = ECKey.generate_key("P-256")
    elif algorithm == "EdDSA":
        key = OKPKey.generate_key("Ed25519")
    else:
        raise ValueError(f"no key for {algorithm}")
    return {**key.as_dict(private=True), "kid": kid, "alg": algorithm, "use": "sig"}


class OidcProvider:
    """The provider as a child process. ``folder`` holds its settings and what it says on standard error.

    For the next ``start``: ``clients`` are registrations (RFC 7591) beside that of ``client_id``, and with
    ``remembers_jwts`` it also knows the JWTs that it issued when it is asked about them, or to revoke them.
    """

    client_id = CLIENT_ID

    def __init__(self, folder: Path) -> None:
        self.client_secret = secrets.token_urlsafe(24)
        self.clients: list[dict[str, Any]] = []
        self.remembers_jwts = False
        self.issuer = ""
        self._settings = folder / "provider.json"
        self._errors = folder / "provider.stderr"
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, keys: list[dict[str, Any]]) -> None:
        """Start with these private JWKs. After ``stop``, port and issuer are the same as before."""
        if self._process is not None:
            raise RuntimeError("the provider runs already")
        self._write(keys)
        with self._errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                "node",
                str(HERE / "provider.mjs"),
                "--port",
                str(self._port),
                str(self._settings),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        try:
            self.issuer = (await self._line())["issuer"]
        except BaseException:  # cancelled, too: no process outlives the test that wanted it
            await self.stop()
            raise
        self._port = int(self.issuer.rpartition(":")[2])

    async def stop(self) -> None:
        """End the process; one that is gone already is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            process.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def token(self, algorithm: str, scope: str = "read:pets", proof: str | None = None) -> str:
        """A client-credentials access token, signed with ``algorithm``, or an ``opaque`` one, or a ``brief`` one, which
        is opaque and over after 3 seconds. ``proof`` binds it to the key that signed that (RFC 9449 §5)."""
        form = {"grant_type": "client_credentials", "resource": f"{AUDIENCE}/{algorithm}", "scope": scope}
        headers = {} if proof is None else {"DPoP": proof}
        return str(json.loads(await self._post("/token", form, headers))["access_token"])

    async def revoke(self, token: str) -> None:
        """Withdraw a token of ``client_id`` (RFC 7009)."""
        await self._post("/token/revocation", {"token": token})

    async def introspect(self, token: str) -> dict[str, Any]:
        """What the provider itself says about ``token``, asked by ``client_id``."""
        return dict(json.loads(await self._post("/token/introspection", {"token": token})))

    async def introspections(self) -> list[dict[str, Any]]:
        """Those that other clients than ``client_id`` asked for, each with ``client``, ``auth`` and ``status``."""
        if self._process is None:
            raise RuntimeError("the provider does not run")
        self._process.send_signal(signal.SIGUSR2)
        found = (await self._line())["introspections"]
        return [request for request in found if request["client"] != self.client_id]

    def pause(self) -> None:
        """Accept connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def replace_keys(self, keys: list[dict[str, Any]]) -> None:
        """Sign with, and publish, these private JWKs from now on."""
        if self._process is None:
            raise RuntimeError("the provider does not run")
        self._write(keys)
        self._process.send_signal(signal.SIGHUP)
        await self._line()

    async def _post(self, path: str, form: dict[str, str], headers: Mapping[str, str] = MappingProxyType({})) -> str:
        sent = {"Authorization": aiohttp.encode_basic_auth(self.client_id, self.client_secret), **headers}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.issuer}{path}", data=form, headers=sent) as answer,
        ):
            text = await answer.text()
            if answer.status != 200:  # no assert: it would show the document, and with it a token
                error = json.loads(text).get("error") if text.startswith("{") else None
                raise RuntimeError(f"the provider answered {path} with {answer.status} {error}")
            return text

    async def _line(self) -> dict[str, Any]:
        """The next line of JSON; what the provider says otherwise (warnings for people) is passed over."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            while line := await self._process.stdout.readline():
                if line.startswith(b"{"):
                    return dict(json.loads(line))
        raise RuntimeError(f"the provider ended; its last words are in {self._errors}")

    def _write(self, keys: list[dict[str, Any]]) -> None:
        self._settings.touch(mode=0o600)
        document = {
            "jwks": {"keys": keys},
            "clientSecret": self.client_secret,
            "clients": self.clients,
            "remembersJwts": self.remembers_jwts,
        }
        self._settings.write_text(json.dumps(document))


@asynccontextmanager
async def oidc_provider(
    folder: Path, keys: list[dict[str, Any]], clients: Sequence[dict[str, Any]] = ()
) -> AsyncIterator[OidcProvider]:
    provider = OidcProvider(folder)
    provider.clients += clients
    await provider.start(keys)
    try:
        yield provider
    finally:
        await provider.stop()
