"""Where bytes come in: an address, or a Unix socket."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiohttp import web

BACKLOG = 1_024


async def open_site(runner: web.ServerRunner, listen: str, mode: int) -> str:
    """Listen on ``host:port`` or ``unix:/path`` (with the file's ``mode``), until ``runner`` is cleaned up.

    Returns the address as bound, also where port 0 was asked for. Raises ``OSError``.
    """
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix("unix:"))
        await web.SockSite(runner, _unix_socket(path, mode), backlog=BACKLOG).start()
        return listen
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host.strip("[]") or None, int(port), backlog=BACKLOG).start()
    bound_host, bound_port = runner.addresses[0][:2]
    return f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"


def close_socket(listen: str) -> None:
    """Remove the file of a Unix socket, so that nobody finds it without its server."""
    if listen.startswith("unix:"):
        Path(listen.removeprefix("unix:")).unlink(missing_ok=True)


@contextmanager
def socket_file(path: Path, mode: int) -> Iterator[None]:
    """For binding a Unix socket to ``path`` inside: the file is ours alone until it has its ``mode``.

    Raises ``OSError`` where something else has that place already.
    """
    _remove_abandoned(path)
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
    path.chmod(mode)


def _unix_socket(path: Path, mode: int) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        with socket_file(path, mode):
            bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _remove_abandoned(path: Path) -> None:
    """The socket of a process that was killed is in the way; one that answers, and any other file, is somebody's."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
                    return
        raise OSError(errno.EADDRINUSE, f"{path}: address already in use")
