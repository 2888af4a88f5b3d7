"""What tests share: keys made at run time, tokens of any shape, and an issuer over HTTP that can misbehave."""

import asyncio
import io
import json
import os
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from verifier.app import Configuration, Service, serving
from verifier.config import Settings
from verifier.core import base64url
from verifier.core.algorithms import KEY_TYPE
from verifier.core.issuer import Issuer
from verifier.observability.log import open_log

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

ISS = "https://issuer.example/"
AUD = "https://api.example"
NOW = 1_700_000_000
ADMIN_TOKEN = secrets.token_hex(16)

PrivateKey = RSAKey | ECKey | OKPKey | OctKey


def private_key(algorithm: str = "RS256", kid: str | None = "k1", which: int = 0) -> PrivateKey:
    """A key for ``algorithm``, made once; another ``which`` is another key."""
    return _made_once(algorithm, kid, which)


@cache
def _made_once(algorithm: str, kid: str | None, _which: int) -> PrivateKey:
    parameters: Any = {} if kid is None else {"kid": kid}
    key_type = KEY_TYPE[algorithm]
    if key_type.kty == "RSA":
        return RSAKey.generate_key(2048, parameters=parameters)
    if key_type.kty == "EC":
        return ECKey.generate_key(str(key_type.curve), parameters=parameters)
    if key_type.kty == "OKP":
        return OKPKey.generate_key("Ed25519", parameters=parameters)
    return OctKey.generate_key(512, parameters=parameters)


def public_jwk(key: PrivateKey, **members: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), **members}


def encode(value: Any) -> str:
    """``value`` as a segment: bytes as they are, anything else as JSON."""
    return base64url.encode(value if isinstance(value, bytes) else json.dumps(value).encode())


def sign(
    claims: Any, key: PrivateKey | None = None, algorithm: str = "RS256", header: Any = None, **members: Any
) -> str:
    """A token; ``header`` and ``claims`` may be raw bytes, and ``members`` change single header members."""
    key = key or private_key(algorithm)
    default = {"alg": algorithm, "typ": "JWT", "kid": key.kid}
    merged = {name: value for name, value in {**default, **members}.items() if value is not None}
    signing_input = f"{encode(merged if header is None else header)}.{encode(claims)}"
    signature = JWSRegistry.algorithms[algorithm].sign(signing_input.encode(), key)
    return f"{signing_input}.{base64url.encode(signature)}"


def claims(now: float = NOW, **changes: Any) -> dict[str, Any]:
    """Good claims at ``now``; a change to None takes the claim away."""
    made = {"iss": ISS, "aud": AUD, "sub": "alice", "exp": int(now) + 300, "iat": int(now), "scope": "read write"}
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def issuer(**changes: Any) -> Issuer:
    made = Issuer(
        name="main",
        identifiers=frozenset({ISS}),
        algorithms=frozenset({"RS256", "ES256", "EdDSA"}),
        token_types=frozenset({"jwt", "at+jwt"}),
        audiences=frozenset({AUD}),
        client_ids=frozenset(),
        client_id_claims=("client_id", "azp"),
        scope_claims=(("scope",), ("scp",)),
        required_claims=(),
        leeway=30.0,
        max_age=None,
        fingerprint="one",
    )
    return replace(made, **changes)


@dataclass
class FakeIssuer:
    """An issuer over real HTTP whose answers the test decides; it counts what it is asked. ``active`` are the
    introspection answers by token.

    It stands in for the identity providers that cannot run here. ``fault`` replaces the answer to everything.
    """

    url: str = ""
    keys: list[PrivateKey] = field(default_factory=list)
    jwks_headers: dict[str, str] = field(default_factory=dict)
    fault: Callable[[web.Request], Any] | None = None
    discoveries: int = 0
    key_fetches: int = 0
    introspections: int = 0
    active: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self) -> None:
        await self.start(int(self.url.rpartition(":")[2]))

    def token(self, algorithm: str = "RS256", key: PrivateKey | None = None, **changes: Any) -> str:
        used = key or next(k for k in self.keys if k.key_type == KEY_TYPE[algorithm].kty)
        return sign(claims(time.time(), **{"iss": self.url, **changes}), used, algorithm)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.fault is not None:
            answer = self.fault(request)
            return await answer if asyncio.iscoroutine(answer) else answer  # type: ignore[no-any-return]
        return await self.usual(request)

    async def usual(self, request: web.Request) -> web.StreamResponse:
        """The answer without a fault."""
        if request.path == "/.well-known/openid-configuration":
            self.discoveries += 1
            return web.json_response(
                {
                    "issuer": self.url,
                    "jwks_uri": f"{self.url}/jwks",
                    "introspection_endpoint": f"{self.url}/introspect",
                }
            )
        if request.path == "/jwks":
            self.key_fetches += 1
            return web.json_response({"keys": [public_jwk(key) for key in self.keys]}, headers=self.jwks_headers)
        if request.path == "/introspect":
            self.introspections += 1
            token = str((await request.post())["token"])
            return web.json_response(self.active.get(token, {"active": False}))
        return web.Response(status=404)

    def opaque(self, token: str, **changes: Any) -> str:
        """Make ``token`` one that introspection calls active."""
        self.active[token] = {"active": True, **claims(time.time(), **{"iss": self.url, **changes})}
        return token


@asynccontextmanager
async def fake_issuer(*algorithms: str, kid: str = "k1", which: int = 0) -> AsyncIterator[FakeIssuer]:
    made = FakeIssuer(keys=[private_key(algorithm, kid, which) for algorithm in algorithms or ("RS256",)])
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def settings(*issuers: Mapping[str, Any], **changes: Any) -> Settings:
    return Settings.model_validate(
        {"listen": "127.0.0.1:0", "ops": {"listen": "127.0.0.1:0"}, "issuers": [*issuers], **changes}
    )


def opaque_issuer(name: str, endpoint: str, secret_file: Path, **introspection: Any) -> dict[str, Any]:
    """The configuration of an issuer that is asked about all of its tokens at ``endpoint``."""
    asked = {"endpoint": endpoint, "client_id": "verifier", "client_secret_file": str(secret_file), **introspection}
    return {
        "name": name,
        "issuer": f"https://{name}.example",
        "audiences": [AUD],
        "introspect": "only",
        "introspection": asked,
    }


@dataclass
class Client:
    """A running service, seen from outside."""

    service: Service
    http: aiohttp.ClientSession
    log_stream: io.StringIO

    @property
    def url(self) -> str:
        return f"http://{self.service.address}"

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_stream.getvalue().splitlines()]

    async def verify(self, token: str | None = None, **headers: str) -> "Reply":
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.get("/verify", **headers)

    async def get(self, path: str, **headers: str) -> "Reply":
        async with self.http.get(self.url + path, headers=headers) as answer:
            return await Reply.of(answer)

    async def post(self, path: str, **request: Any) -> "Reply":
        async with self.http.post(self.url + path, **request) as answer:
            return await Reply.of(answer)

    async def ops(self, path: str, method: str = "GET", **request: Any) -> "Reply":
        async with self.http.request(method, f"http://{self.service.ops_address}{path}", **request) as answer:
            return await Reply.of(answer)

    async def admin(self, method: str, path: str = "", token: str = ADMIN_TOKEN, **request: Any) -> "Reply":
        headers = {"Authorization": f"Bearer {token}"}
        return await self.ops(f"/admin/revocations{path}", method, headers=headers, **request)

    async def open_metrics(self) -> "list[Sample]":
        """All samples of ``/metrics`` in OpenMetrics, with their exemplars."""
        from prometheus_client.openmetrics.parser import text_string_to_metric_families  # noqa: PLC0415 - only here

        asked_for = {"Accept": "application/openmetrics-text; version=1.0.0"}
        families: Any = text_string_to_metric_families  # it has no types
        text = (await self.ops("/metrics", headers=asked_for)).text
        return [sample for family in families(text) for sample in family.samples]

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of ``/metrics``; 0 where it is not there yet."""
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - only here

        text = (await self.ops("/metrics")).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return 0.0


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str

    @classmethod
    async def of(cls, answer: aiohttp.ClientResponse) -> "Reply":
        return cls(answer.status, answer.headers, await answer.text())

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def reason(self) -> str | None:
        return self.json.get("reason") if self.text else None


def free_port() -> int:
    """A port that nobody has, of those that the system gives to nobody who asks for any. Tests side by side have ports
    of their own."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    mine = [*range(20_000 + worker, 30_000, 16)]
    random.SystemRandom().shuffle(mine)
    return cycle(mine)


_PORTS = _ports()


@asynccontextmanager
async def serve(made: Settings, configuration: Configuration | None = None) -> AsyncIterator[Client]:
    stream = io.StringIO()
    running = serving(made, open_log("json", "debug", stream), configuration=configuration)
    async with running as service, aiohttp.ClientSession() as http:
        yield Client(service, http, stream)


async def eventually(holds: Callable[[], Any], within: float = 15.0) -> None:
    """Wait until ``holds()`` is true; fails after ``within`` seconds."""
    async with asyncio.timeout(within):
        while True:
            result = holds()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.01)


@dataclass
class Stalls:
    """``slack``: seconds by which a measured wait may be longer because this process was not given the processor."""

    slack: float = 0.05


@asynccontextmanager
async def stalls() -> AsyncIterator[Stalls]:
    """Watches how late the loop is, for what is measured meanwhile."""
    seen = Stalls()

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            seen.slack = max(seen.slack, 4 * (time.monotonic() - before - 0.005))

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
