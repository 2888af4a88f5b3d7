"""Three replicas and a Redis that comes and goes (``make bench-replicas``).

Real processes of ``verifier serve`` on loopback. What is measured: fetches and introspections that the fleet saves,
how soon a revocation is known, and what a sick Redis costs the requests of good tokens.
"""

import asyncio
import base64
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.redis_servers import Line, RedisServer, line_to, redis_server
from tests.support import ADMIN_TOKEN, AUD, FakeIssuer, fake_issuer, free_port

VERIFIER = Path(sys.executable).with_name("verifier")
REDIS_LIMIT = "50ms"


@dataclass
class Secrets:
    """Files that all replicas have."""

    directory: Path

    def __post_init__(self) -> None:
        self.file("key", base64.b64encode(secrets.token_bytes(32)).decode())
        self.file("admin", ADMIN_TOKEN)
        self.file("client", secrets.token_hex())

    def file(self, name: str, content: str | None = None) -> str:
        path = self.directory / name
        if content is not None:
            path.write_text(content)
        return str(path)


class Replica:
    """One process."""

    def __init__(self, issuer: FakeIssuer, redis_url: str, files: Secrets, **more: Any) -> None:
        self.data, self.ops = free_port(), free_port()
        asked = {
            "endpoint": f"{issuer.url}/introspect",
            "client_id": "bench",
            "client_secret_file": files.file("client"),
        }
        configuration = {
            "listen": f"127.0.0.1:{self.data}",
            "drain_delay": "0s",
            "ops": {"listen": f"127.0.0.1:{self.ops}", "admin_token_file": files.file("admin")},
            "issuers": [
                {"name": "main", "issuer": issuer.url, "audiences": [AUD]},
                {
                    "name": "asked",
                    "issuer": "https://asked.example",
                    "audiences": [AUD],
                    "introspect": "only",
                    "introspection": asked,
                },
            ],
            "redis": {"url": redis_url, "key_file": files.file("key"), "timeout": REDIS_LIMIT},
            "log": {"denials": False},
            **more,
        }
        path = files.file(f"{self.data}.yaml", yaml.safe_dump(configuration))
        self.process = subprocess.Popen([VERIFIER, "serve", "--config", path], stderr=subprocess.DEVNULL)

    async def ready(self, http: aiohttp.ClientSession) -> None:
        for _ in range(500):
            try:
                async with http.get(f"http://127.0.0.1:{self.ops}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
        raise RuntimeError("a replica did not get ready within 10 s")

    async def verify(self, http: aiohttp.ClientSession, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with http.get(f"http://127.0.0.1:{self.data}/verify", headers=headers) as answer:
            await answer.read()
            return answer.status

    async def revoke(self, http: aiohttp.ClientSession, token_id: str) -> None:
        url = f"http://127.0.0.1:{self.ops}/admin/revocations"
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with http.post(url, json={"issuer": "main", "jti": token_id}, headers=headers) as answer:
            if answer.status != 201:
                raise RuntimeError(f"not revoked: {await answer.text()}")


@asynccontextmanager
async def fleet(
    http: aiohttp.ClientSession, issuer: FakeIssuer, files: Secrets, *redis_urls: str, **more: Any
) -> AsyncIterator[list[Replica]]:
    """One replica for each address of Redis."""
    replicas = [Replica(issuer, url, files, **more) for url in redis_urls]
    try:
        await asyncio.gather(*(replica.ready(http) for replica in replicas))
        yield replicas
    finally:
        for replica in replicas:
            replica.process.terminate()
        for replica in replicas:
            replica.process.wait()


async def saved(http: aiohttp.ClientSession, files: Secrets) -> None:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_server())
        issuer = await stack.enter_async_context(fake_issuer("EdDSA"))
        replicas = await stack.enter_async_context(fleet(http, issuer, files, *[redis.url] * 3))
        answers: Counter[int] = Counter()

        async def send(tokens: list[str], first: int, step: int) -> None:
            for place in range(first, len(tokens), step):
                answers[await replicas[place % 3].verify(http, tokens[place])] += 1

        fresh = [issuer.token("EdDSA", jti=str(number)) for number in range(10_000)]
        await asyncio.gather(*(send(fresh, first, 24) for first in range(24)))
        print(f"10,000 fresh tokens: {dict(answers)}, discoveries {issuer.discoveries}, fetches {issuer.key_fetches}")
        answers.clear()
        opaque = [issuer.opaque(secrets.token_urlsafe(), iss="https://asked.example")] * 1_000
        await asyncio.gather(*(send(opaque, first, 30) for first in range(30)))
        print(f"one opaque token, 1,000 times: {dict(answers)}, introspections {issuer.introspections}")


async def revoked(http: aiohttp.ClientSession, files: Secrets) -> None:
    """From the answer to an administrator until the first denial, at each of the other two replicas."""
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_server())
        issuer = await stack.enter_async_context(fake_issuer("EdDSA"))
        replicas = await stack.enter_async_context(fleet(http, issuer, files, *[redis.url] * 3))
        delays: list[float] = []
        answers: Counter[int] = Counter()

        async def load(which: int) -> None:
            while len(delays) < 200:
                token = issuer.token("EdDSA", jti=secrets.token_hex(8))
                answers[await replicas[which % 3].verify(http, token)] += 1

        async def until_denied(replica: Replica, token: str, began: float) -> None:
            while await replica.verify(http, token) == 200:
                await asyncio.sleep(0.005)
            delays.append(time.perf_counter() - began)

        loads = [asyncio.create_task(load(which)) for which in range(6)]
        for number in range(100):
            told, *others = replicas[number % 3 :] + replicas[: number % 3]
            token = issuer.token("EdDSA", jti=f"revoked-{number}")
            for replica in replicas:
                await replica.verify(http, token)
            await told.revoke(http, f"revoked-{number}")
            began = time.perf_counter()
            await asyncio.gather(*(until_denied(replica, token, began) for replica in others))
        await asyncio.gather(*loads)
        delays.sort()
        within = sum(delay <= 1.0 for delay in delays)
        print(
            f"100 revocations under load {dict(answers)}: of 200 denials at other replicas {within} within 1 s; "
            f"median {1_000 * statistics.median(delays):.0f} ms, p99 {1_000 * delays[197]:.0f} ms, "
            f"longest {1_000 * delays[-1]:.0f} ms"
        )


async def missed(http: aiohttp.ClientSession, files: Secrets) -> None:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_server())
        line = await stack.enter_async_context(line_to(redis))
        issuer = await stack.enter_async_context(fake_issuer("EdDSA"))
        far, near = await stack.enter_async_context(fleet(http, issuer, files, line.url, redis.url))
        tokens = [issuer.token("EdDSA", jti=f"missed-{number}") for number in range(5)]
        await line.cut()
        await asyncio.sleep(15)
        for number in range(5):
            await near.revoke(http, f"missed-{number}")
        await asyncio.sleep(15)
        await line.mend()
        began = time.perf_counter()
        while 200 in [await far.verify(http, token) for token in tokens]:
            await asyncio.sleep(0.01)
        print(f"Redis gone for 30 s: what was revoked meanwhile is known {time.perf_counter() - began:.2f} s after")


FAULTS: dict[str, Callable[[RedisServer, Line], None]] = {
    "well": lambda _redis, _line: None,
    "killed": lambda redis, _line: redis.stop(),
    "stopped": lambda redis, _line: redis.pause(),
    "200 ms away": lambda _redis, line: setattr(line, "delay", 0.2),
    "well again": lambda _redis, _line: None,
}


async def sick(http: aiohttp.ClientSession, files: Secrets) -> None:
    print(f"\n| Redis, limit {REDIS_LIMIT} | Answers | Other than 200 | p50 | p99 | longest |")
    print("|---|---|---|---|---|---|")
    for name, fault in FAULTS.items():
        async with AsyncExitStack() as stack:
            redis = stack.enter_context(redis_server())
            line = await stack.enter_async_context(line_to(redis))
            issuer = await stack.enter_async_context(fake_issuer("EdDSA"))
            share = {"share": "always"}
            (replica,) = await stack.enter_async_context(fleet(http, issuer, files, line.url, cache=share))
            await at_a_rate(http, replica, issuer, seconds=3)
            measuring = asyncio.create_task(at_a_rate(http, replica, issuer, seconds=10))
            await asyncio.sleep(1)
            fault(redis, line)
            took, other = await measuring
            p50, p99 = 1_000 * took[len(took) // 2], 1_000 * took[len(took) * 99 // 100]
            print(f"| {name} | {len(took)} | {other} | {p50:.1f} ms | {p99:.1f} ms | {1_000 * took[-1]:.0f} ms |")


async def at_a_rate(
    http: aiohttp.ClientSession, replica: Replica, issuer: FakeIssuer, seconds: int, rate: int = 300
) -> tuple[list[float], int]:
    """Good tokens, sent at their time whatever became of the others: how long each took, and how many failed."""
    took: list[float] = []
    other = 0
    tokens = [issuer.token("EdDSA", jti=secrets.token_hex(8)) for _ in range(seconds * rate)]

    async def send(token: str, at: float) -> None:
        nonlocal other
        await asyncio.sleep(at - time.perf_counter())
        began = time.perf_counter()
        other += await replica.verify(http, token) != 200
        took.append(time.perf_counter() - began)

    start = time.perf_counter()
    await asyncio.gather(*(send(token, start + number / rate) for number, token in enumerate(tokens)))
    return sorted(took), other


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        files = Secrets(Path(directory))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            for measure in (saved, revoked, missed, sick):
                await measure(http, files)


if __name__ == "__main__":
    asyncio.run(main())
