"""What takes part in a scenario, each in a process of its own: issuers, the verifier, and its load."""

import asyncio
import base64
import json
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.suite.machine import Cores
from benchmarks.suite.processes import ROOT, Process, pinned
from tests.faults.answers import Answers
from tests.faults.traffic import Order, Stream
from tests.support import ADMIN_TOKEN, AUD, PrivateKey, claims, free_port, private_key, public_jwk, sign

VERIFIER = Path(sys.executable).with_name("verifier")
ASKED = "https://asked.example"
"""The issuer that is asked about its tokens."""

PROMPT_KEYS = {"refresh": "2s", "max_stale": "6s", "unknown_kid_cooldown": "1s", "deadline": "1s"}
"""So that what takes hours of an outage is seen within seconds."""


def on(cores: Cores) -> list[int]:
    """Where a helper runs: beside the server only where there is no other core."""
    return [cores.server if cores.helper is None else cores.helper]


@dataclass
class IssuerProcess:
    """An issuer that can be told to misbehave. ``signing`` is the key that new tokens are signed with."""

    url: str
    process: asyncio.subprocess.Process
    signing: PrivateKey
    name: str = "main"

    async def tell(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        said: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return said

    async def misbehave(self, fault: str, **more: Any) -> None:
        await self.tell(fault=fault, **more)

    async def behave(self) -> None:
        await self.tell(fault="", only="", delay=0.0)

    async def refuse(self) -> None:
        await self.tell(listen=False)

    async def accept(self) -> None:
        await self.tell(listen=True)

    async def publish(self, *keys: PrivateKey | dict[str, Any]) -> None:
        await self.tell(keys=[key if isinstance(key, dict) else public_jwk(key) for key in keys])

    async def asked(self, path: str = "/jwks", *, since: float = 0.0) -> list[float]:
        """When it was, in seconds of the machine's monotonic clock."""
        return [at for at, what in (await self.tell())["seen"] if what == path and at >= since]

    def token(self, number: int | str, key: PrivateKey | None = None, **changes: Any) -> str:
        made = claims(
            time.time(), **{"iss": self.url, "sub": f"subject-{number}", "jti": secrets.token_hex(8), **changes}
        )
        used = key or self.signing
        return sign(made, used, "RS256" if used.key_type == "RSA" else "EdDSA")


@dataclass
class Verifier:
    """``verifier serve``, running."""

    process: Process
    configuration: dict[str, Any]
    file: Path
    output: Path
    http: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return int(self.configuration["listen"].rpartition(":")[2])

    @property
    def ops(self) -> str:
        return f"http://{self.configuration['ops']['listen']}"

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels; 0 where there is none."""
        async with self.http.get(f"{self.ops}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        samples = (sample for family in families for sample in family.samples if sample.name == f"verifier_{name}")
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    async def undecided(self) -> str:
        """Why answers were 503, and how often."""
        counted = {
            reason: await self.metric("decisions_total", outcome="undecided", reason=reason)
            for reason in ("keys_unavailable", "introspection_unavailable", "revocations_unavailable", "overloaded")
        }
        return ", ".join(f"{number:.0f} × {reason}" for reason, number in counted.items() if number) or "none"

    async def until(self, name: str, wanted: Any, within: float = 10.0, **labels: str) -> float | None:
        """Seconds until ``wanted`` says yes to the metric; None where it does not in time."""
        began = time.monotonic()
        while time.monotonic() - began < within:
            with suppress(aiohttp.ClientError, OSError):
                if wanted(await self.metric(name, **labels)):
                    return time.monotonic() - began
            await asyncio.sleep(0.05)
        return None

    async def probe(self, path: str, within: float = 1.0) -> int:
        """The status; 0 where nobody answers in so many seconds."""
        with suppress(aiohttp.ClientError, OSError):
            async with self.http.get(f"{self.ops}{path}", timeout=aiohttp.ClientTimeout(within)) as answer:
                return answer.status
        return 0

    async def verify(self, token: str) -> int:
        """One request, over a connection of its own; 0 where nobody answers within ten seconds."""
        headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        url = f"http://{self.configuration['listen']}/verify"
        with suppress(aiohttp.ClientError, OSError):
            async with self.http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(10)) as answer:
                await answer.read()
                return answer.status
        return 0

    async def until_status(self, token: str, status: int, within: float = 15.0) -> float | None:
        """Seconds until the token gets it; None where it does not in time."""
        began = time.monotonic()
        while time.monotonic() - began < within:
            if await self.verify(token) == status:
                return time.monotonic() - began
            await asyncio.sleep(0.02)
        return None

    async def admin(self, method: str, path: str, **request: Any) -> int:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with self.http.request(method, f"{self.ops}/admin{path}", headers=headers, **request) as answer:
            return answer.status

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Of its log."""
        found = []
        for line in self.output.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if line.get("event") == event]

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@dataclass
class Load:
    """Generators that are running."""

    processes: list[asyncio.subprocess.Process]
    orders: list[Order]
    began: float

    async def stop(self) -> Answers:
        """Send nothing more, and see what came of it."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        return await self.answers()

    async def answers(self) -> Answers:
        """When it is over."""
        for code in await asyncio.gather(*(process.wait() for process in self.processes)):
            if code:
                raise RuntimeError(f"a generator ended with {code}")
        return Answers.together(Answers.read(Path(order.results), order.streams) for order in self.orders)


@dataclass
class Stage:
    """Where a scenario is played. ``loop``: the event loop of the verifier."""

    folder: Path
    cores: Cores
    http: aiohttp.ClientSession
    loop: str = "uvloop"
    _number: int = field(default=0)

    def path(self, name: str, content: str | None = None) -> Path:
        self._number += 1
        path = self.folder / f"{self._number}-{name}"
        if content is not None:
            path.write_text(content)
        return path

    def sealing_key(self) -> str:
        """A file with a key for entries in Redis."""
        return str(self.path("key", base64.b64encode(secrets.token_bytes(32)).decode()))

    @asynccontextmanager
    async def issuer(self, name: str = "main", kid: str = "k1") -> AsyncIterator[IssuerProcess]:
        process = await asyncio.create_subprocess_exec(
            *(*pinned(on(self.cores)), sys.executable, "-m", "tests.faults.issuer_program"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            limit=2**26,
        )
        try:
            assert process.stdout is not None
            url = json.loads(await process.stdout.readline())["url"]
            made = IssuerProcess(url, process, private_key("EdDSA", f"{name}-{kid}"), name)
            await made.publish(made.signing)
            yield made
        finally:
            process.kill()
            await process.wait()

    def trust(self, issuer: IssuerProcess, **more: Any) -> dict[str, Any]:
        return {"name": issuer.name, "issuer": issuer.url, "audiences": [AUD], **more}

    def ask(self, issuer: IssuerProcess, **more: Any) -> dict[str, Any]:
        """An issuer of opaque tokens, which are asked about at ``issuer``."""
        secret = self.path("client", secrets.token_hex())
        asked = {
            "endpoint": f"{issuer.url}/introspect",
            "client_id": "faults",
            "client_secret_file": str(secret),
            **more,
        }
        return {
            "name": "asked",
            "issuer": ASKED,
            "audiences": [AUD],
            "introspect": "only",
            "introspection": asked,
        }

    def configuration(self, *issuers: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "listen": f"127.0.0.1:{free_port()}",
            "ops": {
                "listen": f"127.0.0.1:{free_port()}",
                "admin_token_file": str(self.path("admin", ADMIN_TOKEN)),
            },
            "issuers": [dict(issuer) for issuer in issuers],
            "log": {"denials": False, "format": "json"},
            "event_loop": self.loop,
            "keys": PROMPT_KEYS,
            "drain_delay": "0s",
            "stop_timeout": "2s",
            **more,
        }

    @asynccontextmanager
    async def verifier(
        self,
        configuration: dict[str, Any],
        before: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        *,
        ready: bool = True,
        cores: Sequence[int] | None = None,
    ) -> AsyncIterator[Verifier]:
        """From when it is ``ready``, or at least answers probes. ``before``: what its command begins with."""
        file = self.path("verifier.yaml", yaml.safe_dump(configuration))
        output = self.path("verifier.log")
        workers = configuration.get("workers", 1)
        own = [self.cores.server, *on(self.cores)][: max(1, workers)]
        process = Process([*before, VERIFIER, "serve", "--config", file], cores or own, output, environment)
        made = Verifier(process, configuration, file, output, self.http)
        try:
            await self._until_probed(made, ready=ready)
            yield made
        finally:
            await asyncio.to_thread(process.stop)

    async def _until_probed(self, verifier: Verifier, *, ready: bool) -> None:
        deadline = time.monotonic() + 20
        path = "/readyz" if ready else "/healthz"
        while await verifier.probe(path) != 200:
            if time.monotonic() > deadline or not verifier.process.alive:
                raise verifier.process.not_started()
            await asyncio.sleep(0.01)

    def tokens(self, issuer: IssuerProcess, number: int, key: PrivateKey | None = None, /, **changes: Any) -> str:
        """A file with so many tokens of the issuer, and their subjects."""
        lines = [f"{issuer.token(one, key, **changes)} subject-{one}\n" for one in range(number)]
        return str(self.path("tokens", "".join(lines)))

    def opaque(self, number: int, *, good: bool = True) -> str:
        made = [f"{'good' if good else 'bad'}-{secrets.token_urlsafe(24)}" for _ in range(number)]
        return str(self.path("opaque", "".join(f"{token} {token}\n" for token in made)))

    def good(self, issuer: IssuerProcess, rate: float, seconds: float = 0.0, name: str = "good") -> Stream:
        """Good tokens: each new where ``seconds`` says for how long, else a hundred, again and again."""
        return Stream(name, rate, True, self.tokens(issuer, int(rate * seconds) or 100))

    @asynccontextmanager
    async def load(
        self,
        verifier: Verifier | int,
        streams: Sequence[Stream],
        seconds: float,
        *,
        connections: int = 64,
        timeout: float = 5.0,
        patience: float = 5.0,
        generators: int = 1,
        apart: bool = False,
    ) -> AsyncIterator[Load]:
        """Running, until it is over or the block is left. Further ``generators`` share rates and connections.
        ``apart``: on the other core, where another load is running."""
        port = verifier if isinstance(verifier, int) else verifier.port
        shared = tuple(replace(stream, rate=stream.rate / generators) for stream in streams)
        order = Order(port, seconds, connections // generators, timeout, patience, shared, "")
        orders = [replace(order, results=str(self.path("answers")), seed=seed) for seed in range(generators)]
        cores = self.cores.load[::-1] if apart else self.cores.load
        processes = [
            await asyncio.create_subprocess_exec(
                *(*pinned([cores[order.seed % len(cores)]]), sys.executable, "-m", "tests.faults.traffic"),
                json.dumps(asdict(order)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            for order in orders
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                await process.stdout.readline()
            yield Load(processes, orders, time.monotonic())
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def milliseconds(value: float | None) -> str:
    return "never" if value is None else f"{1_000 * value:,.0f} ms"


def seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
