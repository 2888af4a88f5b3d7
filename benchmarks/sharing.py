"""What a signature costs against asking Redis whether another replica checked it (``make bench-sharing``).

Both are work of this process: processor time per decision, in interleaved rounds, medians and ranges. Redis runs on
loopback, which is as near as it can be, so what is cheaper to decide here is cheaper everywhere.
"""

import asyncio
import platform
import secrets
import statistics
import time
from dataclasses import dataclass
from importlib.metadata import version

from tests.engine_bench import Revoked, Seen, Source
from tests.redis_servers import program, redis_server
from tests.support import claims, issuer, private_key, public_jwk, sign
from verifier.core import base64url, keys
from verifier.core.algorithms import KEY_TYPE, WORTH_SHARING
from verifier.core.issuer import Issuers
from verifier.core.sealing import Sealer
from verifier.core.verdict import Allowed
from verifier.engine import Engine, Question
from verifier.ports import Limits, Sources
from verifier.store.clients import connect
from verifier.store.memory import MemoryCache
from verifier.store.redis import RedisStore
from verifier.store.servers import parse
from verifier.store.shared import NotShared, Shared

ROUNDS = 7
TOKENS = 300
TOGETHER = 32
"""Decisions under way at once, so that their look-ups share commands, as they do under load."""


@dataclass
class Quiet(Seen):
    """Sees nothing."""

    def redis_took(self, command: str, seconds: float) -> None: ...

    def redis_failed(self, command: str, error: Exception, seconds: float) -> None: ...

    def redis_breaker(self, *, is_open: bool, cause: str = "") -> None: ...

    def entry_refused(self, cause: str) -> None: ...

    def write_dropped(self) -> None: ...


def engine(algorithm: str, shared: Shared | NotShared, *, asks: bool) -> Engine:
    """With an empty cache, so that every token is new."""
    source = Source(_keys(algorithm))
    return Engine(
        issuers=Issuers([issuer(algorithms=frozenset({algorithm}))]),
        sources=Sources({"main": source}, {}, shared, Revoked()),
        cache=MemoryCache(10, 300.0, time.monotonic),
        observer=Quiet(),
        limits=Limits(shared_algorithms=frozenset({algorithm} if asks else ())),
        clock=time.time,
    )


def _keys(algorithm: str) -> keys.KeySet:
    key = private_key(algorithm)
    if key.key_type == "oct":
        return keys.load_secret(base64url.decode(str(key.as_dict(private=True)["k"])), [algorithm])
    return keys.load_jwks({"keys": [public_jwk(key)]})


async def decide_all(made: Engine, tokens: list[str]) -> float:
    """Processor seconds for one decision."""
    began = time.process_time()
    for first in range(0, len(tokens), TOGETHER):
        batch = tokens[first : first + TOGETHER]
        verdicts = await asyncio.gather(*(made.decide(Question(token=text)) for text in batch))
        if not all(isinstance(verdict, Allowed) for verdict in verdicts):
            raise RuntimeError("a good token was refused: nothing was measured")
    return (time.process_time() - began) / len(tokens)


async def measure(algorithm: str, shared: Shared) -> tuple[list[float], list[float]]:
    """Microseconds for checking a signature, and for taking a shared identity; round by round."""
    tokens = [sign(claims(time.time(), jti=str(n)), algorithm=algorithm) for n in range(TOKENS)]
    await decide_all(engine(algorithm, shared, asks=True), tokens)  # what the other replicas have from now on
    await asyncio.sleep(0.2)
    checked, taken = [], []
    for _ in range(ROUNDS):
        checked.append(1e6 * await decide_all(engine(algorithm, NotShared(), asks=False), tokens))
        reading = engine(algorithm, shared, asks=True)
        taken.append(1e6 * await decide_all(reading, tokens))
    return checked, taken


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


async def main() -> None:
    print(f"Python {platform.python_version()}, cryptography {version('cryptography')}, redis-py {version('redis')}")
    print(f"{ROUNDS} rounds of {TOKENS} tokens; µs of processor time per decision: median (range)\n")
    print("| Algorithm | Checked here | Taken from Redis | Ratio | `auto` asks Redis |")
    print("|---|---|---|---|---|")
    with redis_server() as server:
        store = RedisStore(
            connect(parse(server.url), timeout=1.0, connections=16),
            sealer=Sealer([secrets.token_bytes(32)]),
            prefix="bench",
            timeout=1.0,
            connections=16,
            observer=Quiet(),
        )
        for algorithm in KEY_TYPE:
            checked, taken = await measure(algorithm, Shared(store))
            ratio = statistics.median(taken) / statistics.median(checked)
            asks = "yes" if algorithm in WORTH_SHARING else "no"
            print(f"| {algorithm} | {shown(checked)} | {shown(taken)} | {ratio:.2f} | {asks} |", flush=True)
        await store.stop()
    print(f"\nRedis: {program()}")


if __name__ == "__main__":
    asyncio.run(main())
