"""Where bytes come in: an address, or a Unix socket."""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from aiohttp import web

from verifier.server.handshake import Handshakes
from verifier.server.http import HttpServer

BACKLOG = 1_024

LAST_WRITES = 0.1
"""Seconds in which connections end once their requests had their time."""

Close = Callable[[], Awaitable[None]]
"""Ends what listens."""


class SocketFile:
    """The file of a Unix socket: there with its ``mode`` or not at all, and never in the place of somebody's.

    It is bound under another name and gets its own last, so that whoever ends the socket (gRPC does) does not take away
    the file of a process that has come in our place.
    """

    def __init__(self, path: Path, mode: int) -> None:
        self._path = path
        self._mode = mode
        self._ours: tuple[int, int] | None = None

    @contextmanager
    def binding(self) -> Iterator[Path]:
        """For binding inside, to the path that it gives. Raises ``OSError`` where the place is taken."""
        new = self._path.with_name(f"{self._path.name}.new")
        _remove_abandoned(self._path)
        _remove_abandoned(new)
        with _only_for_us():
            yield new
        new.chmod(self._mode)
        self._ours = _identity(new)
        new.rename(self._path)

    def remove(self) -> None:
        """So that nobody finds it without its server."""
        with suppress(FileNotFoundError):
            if _identity(self._path) == self._ours:
                self._path.unlink()


@dataclass(frozen=True, slots=True)
class Bound:
    """Sockets that listen at ``address``, which is as bound, also where port 0 was asked for.

    ``shares`` has those of each worker. Over TCP they are its own, and the kernel deals connections out among the
    workers; each of them waits in the queue of one. A Unix socket has one queue, and is every worker's.
    """

    address: str
    shares: tuple[tuple[socket.socket, ...], ...]
    file: SocketFile | None = None

    def close_queue(self, share: int) -> None:
        """Have connections dealt out to others until somebody listens there anew; those who wait in it are refused."""
        if self.file is not None:
            return
        for one in self.shares[share]:
            # Of one that does not listen, the connections that it takes later would be at their end from the beginning.
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                with suppress(OSError):  # only Linux can
                    one.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """May be called again. Whoever has copies of the sockets goes on with them."""
        for one in chain.from_iterable(self.shares):
            one.close()
        if self.file is not None:
            self.file.remove()


async def bind(listen: str, mode: int, workers: int = 1) -> Bound:
    """Listen at ``host:port``, on all addresses of the host, or ``unix:/path`` (with the file's ``mode``).

    Raises ``OSError``.
    """
    if listen.startswith("unix:"):
        file = SocketFile(Path(listen.removeprefix("unix:")), mode)
        return Bound(listen, ((_unix_socket(file),),) * workers, file)
    found = await _resolved(listen)
    if workers == 1:
        sockets = _listening(found)
        return Bound(_written(sockets[0].getsockname()), (sockets,))
    with _reserved(found) as taken, ExitStack() as closing:
        shares = []
        for _ in range(workers):
            shares.append(_listening(taken, shared=True))
            for one in shares[-1]:
                closing.callback(one.close)
        closing.pop_all()
    return Bound(_written(shares[0][0].getsockname()), tuple(shares))


@asynccontextmanager
async def reserve(listen: str) -> AsyncIterator[str]:
    """Keeps ``host:port`` for those of our processes that listen there with ``SO_REUSEPORT``.

    Gives the address with the port that was found for port 0. Raises ``OSError`` where it is taken.
    """
    host = listen.rpartition(":")[0]
    with _reserved(await _resolved(listen)) as taken:
        yield f"{host}:{taken[0][1][1]}"


async def open_http(server: HttpServer, listen: str, mode: int, within: Callable[[], float]) -> tuple[str, Close]:
    """Serve at an address as ``bind`` takes it.

    Returns the address as bound, and what ends it: requests in progress then have ``within()`` seconds. Raises
    ``OSError``.
    """
    bound = await bind(listen, mode)
    close_server = await serve_http(server, bound.shares[0], within)

    async def close() -> None:
        await close_server()
        bound.close()

    return bound.address, close


async def serve_http(server: HttpServer, sockets: Iterable[socket.socket], within: Callable[[], float]) -> Close:
    """Serve on ``sockets``; they are closed when it ends."""
    runner = _Runner(server, within)
    await runner.setup()
    end_tls: Close | None = None
    if server.handshakes is not None:
        end_tls = _accept_tls(server, server.handshakes, tuple(sockets))
    else:
        for listening in sockets:
            await web.SockSite(runner, listening, backlog=BACKLOG).start()

    async def close() -> None:
        if end_tls is not None:
            await end_tls()
        await runner.cleanup()

    return close


class _Runner(web.ServerRunner):
    """Lets requests in flight end. aiohttp itself would wait twice as long as it is told to."""

    def __init__(self, server: HttpServer, within: Callable[[], float]) -> None:
        super().__init__(server, shutdown_timeout=LAST_WRITES)
        self._finish = server.finish
        self._within = within

    async def shutdown(self) -> None:
        await self._finish(self._within())


def _accept_tls(server: HttpServer, handshakes: Handshakes, sockets: Iterable[socket.socket]) -> Close:
    for listening in sockets:
        listening.listen(BACKLOG)
    accepting = [asyncio.create_task(handshakes.accept(listening, server)) for listening in sockets]

    async def close() -> None:
        for task in accepting:
            task.cancel()
        await asyncio.wait(accepting)
        for listening in sockets:
            listening.close()
        await handshakes.stop()

    return close


_Place = tuple[int, tuple[Any, ...]]
"""A family of addresses, and an address of it."""


async def _resolved(listen: str) -> list[_Place]:
    """Every address of the host. Raises ``OSError``."""
    host, port = _host_and_port(listen)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listening(places: Iterable[_Place], *, shared: bool = False) -> tuple[socket.socket, ...]:
    """One at each place, all of which have the port that the first one found for port 0. Raises ``OSError``."""
    sockets: list[socket.socket] = []
    with ExitStack() as closing:
        for family, (host, port, *rest) in places:
            address = (host, port or (sockets[0].getsockname()[1] if sockets else 0), *rest)
            try:
                one = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=shared)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:  # every address, on a machine without IPv6
                    continue
                raise
            one.setblocking(False)
            sockets.append(closing.enter_context(one))
        closing.pop_all()
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, "none of its addresses is one of this machine")
    return tuple(sockets)


@contextmanager
def _reserved(places: Iterable[_Place]) -> Iterator[list[_Place]]:
    """Keeps ``places`` for us, with the port that was found for port 0, without listening.

    With ``SO_REUSEPORT`` alone, a port of which another service of ours has a share would give us one too.
    """
    alone = _listening(places)
    taken: list[_Place] = [(one.family, one.getsockname()) for one in alone]
    for one in alone:
        one.close()
    with ExitStack() as keeping:
        for family, address in taken:
            one = keeping.enter_context(socket.socket(family))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                one.bind(address)
            except OSError:  # connections of the last service linger; this keeps nobody out until workers listen
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(address)
        yield taken


def _host_and_port(listen: str) -> tuple[str | None, int]:
    """No host stands for every address."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]") or None, int(port)


def _written(address: Any) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unix_socket(file: SocketFile) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        with file.binding() as path:
            bound.bind(str(path))
            bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _remove_abandoned(path: Path) -> None:
    """The socket of a process that was killed is in the way; one that answers, and any other file, is somebody's."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
                    return
                except (TimeoutError, BlockingIOError):
                    pass  # somebody who is busy
        raise OSError(errno.EADDRINUSE, f"{path}: address already in use")


@contextmanager
def _only_for_us() -> Iterator[None]:
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
