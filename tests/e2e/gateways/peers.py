"""What a gateway stands between: a client that sends bytes as they are, the verifier, an application that remembers."""

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

Headers = list[tuple[str, str]]


def values(headers: Headers, name: str) -> list[str]:
    return [value for found, value in headers if found.lower() == name.lower()]


@dataclass(frozen=True)
class Message:
    """A request or an answer: the first line's parts, the headers as they came, the body."""

    first: tuple[str, ...]
    headers: Headers
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.first[1])

    @property
    def target(self) -> str:
        return self.first[1]

    def values(self, name: str) -> list[str]:
        return values(self.headers, name)


def as_sent(text: str) -> str:
    """What aiohttp read as UTF-8, byte by byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def parse(head: bytes, body: bytes = b"") -> Message:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Message(tuple(first.split(" ", 2)), headers, body)


def request(
    target: str = "/pets", *headers: str, token: str | None = None, method: str = "GET", version: str = "1.1"
) -> bytes:
    """The bytes of a request to ``api.example``."""
    sent = [] if token is None else [f"Authorization: Bearer {token}"]
    if version == "1.1":
        sent += ["Host: api.example", "Connection: close"]
    return "\r\n".join([f"{method} {target} HTTP/{version}", *sent, *headers, "", ""]).encode("latin-1")


def exchange(port: int, sent: bytes, timeout: float = 15) -> Message:
    """The answer to ``sent``; the other side ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return parse(head, body)


@dataclass
class Application:
    """Answers 200 to everything and remembers it."""

    got: list[Message] = field(default_factory=list)
    port: int = 0


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b""
        while line := self.rfile.readline():
            if line == b"\r\n":
                break
            head += line
        if not head:
            return
        message = parse(head.removesuffix(b"\r\n"))
        body = self.rfile.read(int((message.values("Content-Length") or ["0"])[0]))
        self.server.application.got.append(replace(message, body=body))  # type: ignore[attr-defined]
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, application: Application) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.application = application


@contextmanager
def application() -> Iterator[Application]:
    made = Application()
    with _Server(made) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


class Verifier:
    """The stub as a process of its own, so that it can be stopped and killed."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start; after ``kill``, on the same port."""
        command = [sys.executable, "-m", "tests.e2e.gateways.stub", "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    @contextmanager
    def dead(self) -> Iterator[None]:
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Accepts connections and answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def asked(self) -> Sequence[Message]:
        """What it was asked since this was last called."""
        answer = exchange(self.port, request("/_asked"))
        return [
            Message(
                (entry["method"], as_sent(entry["target"])),
                [(name, as_sent(value)) for name, value in entry["headers"]],
            )
            for entry in json.loads(answer.body)
        ]


@contextmanager
def verifier() -> Iterator[Verifier]:
    made = Verifier()
    made.start()
    try:
        yield made
    finally:
        made.kill()
