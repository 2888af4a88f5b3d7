"""Two replicas that meet everything which dashboards and alerts are about: good tokens and bad ones, an issuer that
goes down and one that was never there, introspection, revocations, a Redis that goes away and one that lies."""

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests import aws_events, tls
from tests.app.processes import Program, program
from tests.redis_servers import RedisServer
from tests.support import (
    ADMIN_TOKEN,
    AUD,
    FakeIssuer,
    eventually,
    fake_issuer,
    free_port,
    opaque_issuer,
    private_key,
)

HEADER = "X-Verifier-Secret"


@dataclass
class Replica:
    program: Program
    ops: str
    file: Path
    http: aiohttp.ClientSession

    async def ask(self, path: str, token: str | None = None, method: str = "GET", **request: Any) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= request.pop("headers", {})
        url = f"https://localhost:{self.program.place[1]}{path}"
        async with self.http.request(method, url, headers=headers, **request) as answer:
            return answer.status

    async def become(self, **changes: Any) -> None:
        """Another configuration."""
        self.file.write_text(json.dumps({**json.loads(self.file.read_text()), **changes}))
        seen = len(self._taken())
        await eventually(lambda: len(self._taken()) > seen, within=20)

    def _taken(self) -> list[Any]:
        return [line for line in self.program.lines if str(line.get("event")).startswith("config_")]


@dataclass
class Scene:
    replicas: tuple[Replica, Replica]
    main: FakeIssuer
    second: FakeIssuer
    opaque: FakeIssuer
    redis: RedisServer
    secret: str

    @property
    def targets(self) -> list[str]:
        return [replica.ops for replica in self.replicas]


@asynccontextmanager
async def scene(folder: Path, redis: RedisServer) -> AsyncIterator[Scene]:
    async with fake_issuer("EdDSA") as main, fake_issuer("EdDSA", which=1) as second, fake_issuer("EdDSA") as opaque:
        files = _files(folder)
        issuers: list[dict[str, Any]] = [
            {"name": "main", "issuer": main.url, "audiences": [AUD], "report_only": {"audiences": ["https://other"]}},
            {"name": "second", "issuer": second.url, "audiences": [AUD]},
            {"name": "never", "issuer": f"http://127.0.0.1:{free_port()}", "audiences": [AUD]},
            opaque_issuer("opaque", f"{opaque.url}/introspect", files["client-secret"], deadline="1s"),
        ]
        config = _config(issuers, redis, files)
        async with _replica(folder / "one", config, files) as one, _replica(folder / "two", config, files) as two:
            yield Scene((one, two), main, second, opaque, redis, files["caller"].read_text())


def _files(folder: Path) -> dict[str, Path]:
    """Those that the configuration names, and a folder for each replica."""
    for replica in ("one", "two"):
        (folder / replica).mkdir()
    authority = tls.authority()
    contents = {
        "client-secret": secrets.token_hex().encode(),
        "admin": ADMIN_TOKEN.encode(),
        "caller": secrets.token_hex(16).encode(),
        "pair.pem": tls.certificate(authority, "localhost"),
        "authority.pem": authority.pem,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in [*contents, "cache-key"]}


def _config(issuers: list[dict[str, Any]], redis: RedisServer, files: dict[str, Path]) -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:0",
        "issuers": issuers,
        "tls": {"certificate_file": str(files["pair.pem"]), "key_file": str(files["pair.pem"])},
        "callers": [{"name": "gateway", "secret_file": str(files["caller"])}],
        "callers_exempt": ["127.0.0.0/8"],
        "trusted_proxies": ["127.0.0.0/8"],
        "redis": {"url": redis.url, "key_file": str(files["cache-key"])},
        "keys": {"refresh": "1s", "unknown_kid_cooldown": "1s", "deadline": "1s"},
        "cache": {"max_entries": 10, "share": "always"},
        "limits": {"waiting": 1},
        "routes": [
            {"path": "/tried", "scopes": ["admin"], "report_only": True},
            {"path": "/admin", "scopes": ["admin"]},
        ],
        "log": {"format": "json"},
    }


@asynccontextmanager
async def _replica(folder: Path, config: dict[str, Any], files: dict[str, Path]) -> AsyncIterator[Replica]:
    ops = f"127.0.0.1:{free_port()}"
    made = {**config, "ops": {"listen": ops, "admin_token_file": str(files["admin"])}}
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(files["authority.pem"])))
    async with program(made, folder) as running, aiohttp.ClientSession(connector=connector) as http:
        yield Replica(running, ops, folder / "verifier.json", http)


async def happen(made: Scene) -> None:
    """Everything, and once more when Prometheus has seen it: a rate is what comes between two looks. Answers are looked
    at where they show that it did happen."""
    one = made.replicas[0]
    await eventually(lambda: _answers(one, made.main.token("EdDSA")), within=20)
    assert await one.ask("/verify", made.second.token("EdDSA")) == 200
    await made.second.stop()
    for turn in ("first", "second"):
        await _denials(made, turn)
        await _introspection(made, turn)
        await _other_surfaces(made)
        await _revocation(made, turn)
        await one.become(limits={"waiting": 1, "token_bytes": 10_000 + len(turn)})
        await _redis_lies(made, turn)
        await _redis_goes_away(made, turn)
        await asyncio.sleep(2.5)


async def _answers(replica: Replica, token: str) -> bool:
    return await replica.ask("/verify", token) == 200


async def _denials(made: Scene, turn: str) -> None:
    one, two = made.replicas
    foreign = private_key("EdDSA", "unknown", 5)
    assert await one.ask("/verify") == 401
    assert await one.ask("/verify", made.main.token("EdDSA", exp=1)) == 401
    assert await one.ask("/verify", made.main.token("EdDSA", key=foreign)) == 401
    never = json.loads(one.file.read_text())["issuers"][2]["issuer"]
    assert await one.ask("/verify", made.main.token("EdDSA", iss=never)) == 503
    for number in range(30):
        token = made.main.token("EdDSA", sub=f"{turn}-{number}")
        assert {await replica.ask("/verify", token) for replica in (one, two, one)} == {200}


async def _introspection(made: Scene, turn: str) -> None:
    one, _ = made.replicas
    assert await one.ask("/verify", made.opaque.opaque(f"{turn}-known", iss="https://opaque.example")) == 200
    assert await one.ask("/verify", f"{turn}-made-up") == 401
    slow = asyncio.Event()

    async def answer_later(request: Any) -> Any:
        await slow.wait()
        return await made.opaque.usual(request)

    made.opaque.fault = answer_later
    asked = [asyncio.create_task(one.ask("/verify", f"{turn}-{number}")) for number in range(4)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    slow.set()
    assert 503 in {await each for each in asked}
    made.opaque.fault = None


async def _other_surfaces(made: Scene) -> None:
    one, _ = made.replicas
    good = made.main.token("EdDSA")
    assert await one.ask("/verify", method="POST", json={"token": good, "method": "GET", "path": "/tried"}) == 200
    assert await one.ask("/verify", method="POST", json={"token": good, "method": "GET", "path": "/admin"}) == 403
    assert await one.ask("/verify", good, headers={HEADER: made.secret}) == 200
    assert await one.ask("/nowhere") == 404
    event = aws_events.rest_request(f"Bearer {good}")
    assert await one.ask("/aws/authorizer", method="POST", json=event) == 200
    _, writer = await asyncio.open_connection(*one.program.place)
    writer.write(b"no handshake\r\n\r\n")
    await writer.drain()
    writer.close()


async def _revocation(made: Scene, turn: str) -> None:
    one, two = made.replicas
    token = made.main.token("EdDSA", sub=f"mallory-{turn}")
    assert await two.ask("/verify", token) == 200
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    revoked = {"issuer": "main", "sub": f"mallory-{turn}"}
    async with one.http.post(f"http://{one.ops}/admin/revocations", json=revoked, headers=headers) as answer:
        assert answer.status == 201

    async def is_refused() -> bool:
        return await two.ask("/verify", token) == 401

    await eventually(is_refused)


async def _redis_lies(made: Scene, turn: str) -> None:
    one, two = made.replicas
    await eventually(lambda: _is_asked(one))
    await eventually(lambda: _is_asked(two))
    token = made.main.token("EdDSA", sub=f"shared-{turn}")
    before = await _keys(made)
    assert await one.ask("/verify", token) == 200

    async def is_shared() -> bool:
        return bool(await _keys(made) - before)

    await eventually(is_shared)
    with made.redis.admin() as admin:
        for key in await _keys(made):
            admin.set(key, secrets.token_bytes(64), keepttl=True)
    assert await two.ask("/verify", token) == 200


async def _is_asked(replica: Replica) -> bool:
    """Redis, that is: it may have been away."""
    async with replica.http.get(f"http://{replica.ops}/metrics") as answer:
        return "\nverifier_redis_breaker_open 0.0" in await answer.text()


async def _keys(made: Scene) -> set[bytes]:
    """Those in Redis that hold one value each."""
    with made.redis.admin() as admin:
        return {key for key in admin.scan_iter("*") if admin.type(key) == b"string"}


async def _redis_goes_away(made: Scene, turn: str) -> None:
    one, _ = made.replicas
    made.redis.stop()
    for number in range(5):
        assert await one.ask("/verify", made.main.token("EdDSA", sub=f"alone-{turn}-{number}")) == 200
    made.redis.start()
