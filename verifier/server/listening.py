"""Where bytes come in: an address, or a Unix socket."""

import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiohttp import web

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


async def open_http(server: web.Server, listen: str, mode: int, within: float) -> tuple[str, Close]:
    """Serve on ``host:port`` or ``unix:/path`` (with the file's ``mode``).

    Returns the address as bound, also where port 0 was asked for, and what ends it: requests in progress then have
    ``within`` seconds. Raises ``OSError``.
    """
    runner = web.ServerRunner(server, shutdown_timeout=within)
    await runner.setup()
    file: SocketFile | None = None
    if listen.startswith("unix:"):
        address = listen
        file = SocketFile(Path(listen.removeprefix("unix:")), mode)
        await web.SockSite(runner, _unix_socket(file), backlog=BACKLOG).start()
    else:
        host, _, port = listen.rpartition(":")
        await web.TCPSite(runner, host.strip("[]") or None, int(port), backlog=BACKLOG).start()
        bound_host, bound_port = runner.addresses[0][:2]
        address = f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"

    async def close() -> None:
        await runner.cleanup()
        if file is not None:
            file.remove()

    return address, close


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
