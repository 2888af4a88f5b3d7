"""Where bytes come in: an address, or a Unix socket."""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from verifier.server.handshake import Handshakes
from verifier.server.http import HttpServer

BACKLOG = 1_024

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


async def open_http(server: HttpServer, listen: str, mode: int, within: float) -> tuple[str, Close]:
    """Serve on ``host:port`` or ``unix:/path`` (with the file's ``mode``).

    Returns the address as bound, also where port 0 was asked for, and what ends it: requests in progress then have
    ``within`` seconds. Raises ``OSError``.
    """
    runner = web.ServerRunner(server, shutdown_timeout=within)
    await runner.setup()
    file: SocketFile | None = None
    end_tls: Close | None = None
    if server.handshakes is not None:
        address, end_tls = await _open_tls(server, server.handshakes, *_host_and_port(listen))
    elif listen.startswith("unix:"):
        address = listen
        file = SocketFile(Path(listen.removeprefix("unix:")), mode)
        await web.SockSite(runner, _unix_socket(file), backlog=BACKLOG).start()
    else:
        await web.TCPSite(runner, *_host_and_port(listen), backlog=BACKLOG).start()
        address = _written(runner.addresses[0])

    async def close() -> None:
        if end_tls is not None:
            await end_tls()
        await runner.cleanup()
        if file is not None:
            file.remove()

    return address, close


async def _open_tls(server: HttpServer, handshakes: Handshakes, host: str | None, port: int) -> tuple[str, Close]:
    """Serve over TLS on every address of ``host``."""
    sockets = await _tcp_sockets(host, port)
    accepting = [asyncio.create_task(handshakes.accept(listening, server)) for listening in sockets]

    async def close() -> None:
        for task in accepting:
            task.cancel()
        await asyncio.wait(accepting)
        for listening in sockets:
            listening.close()
        await handshakes.stop()

    return _written(sockets[0].getsockname()), close


async def _tcp_sockets(host: str | None, port: int) -> list[socket.socket]:
    """One for each address of ``host``. Raises ``OSError``."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as closing:
        sockets = []
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                bound = socket.create_server(address, family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:  # every address, on a machine without IPv6
                    continue
                raise
            bound.setblocking(False)
            sockets.append(closing.enter_context(bound))
        closing.pop_all()
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, f"{host}: none of its addresses is one of this machine")
    return sockets


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
