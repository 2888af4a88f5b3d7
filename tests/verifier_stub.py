"""A verifier on loopback whose every answer, or lack of one, the test decides; for the Lambda authorizer."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import parse_headers

from tests.support import free_port


@dataclass(frozen=True)
class Asked:
    target: str
    headers: Message
    body: bytes
    connection: int
    """Which one it came over; the first is 1."""

    @property
    def event(self) -> object:
        return json.loads(self.body)


Behaviour = Callable[[socket.socket, Asked], object]
"""What is done about a request. The connection ends afterwards if it returns False."""


def answer(
    status: int, body: object = None, content_type: str = "application/json", length: int | None = None
) -> bytes:
    """The bytes of an answer; ``body`` is JSON unless it is bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Told", f"Content-Type: {content_type}"]
    lines.append(f"Content-Length: {len(raw) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + raw


def answers(*args: object, **kwargs: object) -> Behaviour:
    """Always this ``answer``."""
    raw = answer(*args, **kwargs)  # type: ignore[arg-type]
    return lambda line, _asked: line.sendall(raw)


@dataclass
class StubVerifier:
    """``asked`` is what came; ``behave`` may be changed at any time. After ``stop``, ``start`` has the same port."""

    behave: Behaviour
    tls: ssl.SSLContext | None = None
    port: int = field(default_factory=free_port)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    """Set when it stops, for behaviours that wait."""
    _lines: list[socket.socket] = field(default_factory=list)
    _listening: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def start(self) -> None:
        self.over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def stop(self) -> None:
        self.over.set()
        if self._listening is not None:
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # wakes who waits for connections
            self._listening.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections."""
        while self._lines:
            with suppress(OSError):
                socket.socket.shutdown(self._lines.pop(), socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                line, _ = listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(line, self.connections), daemon=True).start()

    def _serve(self, line: socket.socket, number: int) -> None:
        with suppress(OSError), line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is None:
                self._converse(line, number)
            else:
                with self.tls.wrap_socket(line, server_side=True) as wrapped:
                    self._converse(wrapped, number)

    def _converse(self, line: socket.socket, number: int) -> None:
        self._lines.append(line)
        with line.makefile("rb") as read:
            while first := read.readline():
                headers = parse_headers(read)
                body = read.read(int(headers["Content-Length"]))
                asked = Asked(first.decode().removesuffix(" HTTP/1.1\r\n"), headers, body, number)
                self.asked.append(asked)
                if self.behave(line, asked) is False:
                    with suppress(OSError):
                        socket.socket.shutdown(line, socket.SHUT_RDWR)
                    return


@contextmanager
def stub_verifier(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[StubVerifier]:
    made = StubVerifier(behave, tls)
    made.start()
    try:
        yield made
    finally:
        made.stop()
