"""What a gateway stands between: a client that sends bytes as they are, the verifier, an application that remembers."""

import json
import os
import secrets
import selectors
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from tests.gateway_table import IDENTITY, TOKENS, configuration
from tests.grpc_check import CHECK
from tests.support import AUD, FakeIssuer, free_port, opaque_issuer, private_key, public_jwk
from verifier.surfaces.ext_authz_messages import CheckRequest

Headers = list[tuple[str, str]]
Owner = TypeVar("Owner")


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


def parse(head: bytes, body: bytes = b"") -> Message:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Message(tuple(first.split(" ", 2)), headers, body)


# Its keys are in a file, and nobody asks it for anything.
ISSUER = FakeIssuer(url="https://issuer.example", keys=[private_key("EdDSA")])

OPAQUE = "slow-"
"""What tokens begin with that the verifier has to ask about for longer than a gateway waits."""


def token_of(name: str) -> str:
    """A new token: one of the table's, or a ``slow`` one, for which the answer is an allow in the end."""
    return OPAQUE + secrets.token_hex(8) if name == "slow" else TOKENS[name](ISSUER)


def request(
    target: str = "/pets",
    *headers: str,
    token: str | None = None,
    method: str = "GET",
    version: str = "1.1",
    host: str = "api.example",
    connection: str = "close",
) -> bytes:
    """The bytes of a request; ``token`` is a name of ``token_of``, and without ``host`` no Host is sent."""
    sent = [f"Host: {host}"] if host else []
    if token is not None:
        sent.append(f"Authorization: Bearer {token_of(token)}")
    sent += [*headers, f"Connection: {connection}", "", ""]
    return "\r\n".join([f"{method} {target} HTTP/{version}", *sent]).encode("latin-1")


def exchange(port: int, sent: bytes, timeout: float = 15) -> Message:
    """The answer to ``sent``; the other side ends the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection, suppress(ConnectionError):
        connection.sendall(sent)  # the other side may have answered before it read all
        while piece := connection.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return parse(head, body)


@dataclass
class Application:
    """Answers 200 with ``body`` to everything, after ``delay`` seconds, and remembers it."""

    body: bytes = b"hello"
    delay: float = 0.0
    got: list[Message] = field(default_factory=list)
    port: int = 0


class _Connection(socketserver.StreamRequestHandler):
    server: "_Server[Application]"

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
        us = self.server.owner
        us.got.append(replace(message, body=body))
        time.sleep(us.delay)
        with suppress(ConnectionError):  # who asked may have gone
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(us.body))
            self.wfile.write(us.body)


class _Server(socketserver.ThreadingTCPServer, Generic[Owner]):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, handler: type[socketserver.BaseRequestHandler], owner: Owner) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.owner = owner


@contextmanager
def _served(handler: type[socketserver.BaseRequestHandler], owner: Owner) -> Iterator[int]:
    """The port on which ``handler`` answers for ``owner``."""
    with _Server(handler, owner) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def application(body: bytes = b"hello", delay: float = 0.0) -> Iterator[Application]:
    made = Application(body, delay)
    with _served(_Connection, made) as made.port:
        yield made


@dataclass
class Relay:
    """Between a gateway and the verifier: hands on the bytes of both, and remembers the questions."""

    verifier: int
    asked: list[Message] = field(default_factory=list)
    #: Whether to close a kept connection when the next question comes, as if the verifier had just closed it.
    closes_next: bool = False
    #: How many it closed so, and how many the verifier did.
    closed: int = 0
    ended: int = 0
    port: int = 0


class _Relayed(socketserver.BaseRequestHandler):
    server: "_Server[Relay]"
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.server.owner.verifier)) as verifier:
            self._between(self.request, verifier)

    def _between(self, gateway: socket.socket, verifier: socket.socket) -> None:
        us, questions, unread = self.server.owner, 0, b""
        with selectors.DefaultSelector() as ready:
            ready.register(gateway, selectors.EVENT_READ)
            ready.register(verifier, selectors.EVENT_READ)
            while True:
                if verifier in (said := [key.fileobj for key, _ in ready.select()]):
                    if not (received := verifier.recv(65536)):
                        us.ended += 1
                        return
                    gateway.sendall(received)
                if gateway in said:
                    if not (received := gateway.recv(65536)):
                        return
                    if us.closes_next and questions:
                        us.closed += 1
                        us.closes_next = False
                        return
                    *heads, unread = (unread + received).split(b"\r\n\r\n")  # questions have no body
                    us.asked += [parse(head) for head in heads]
                    questions += len(heads)
                    verifier.sendall(received)


@contextmanager
def relay(verifier: int) -> Iterator[Relay]:
    made = Relay(verifier)
    with _served(_Relayed, made) as made.port:
        yield made


@contextmanager
def grpc_relay(verifier: int) -> Iterator[Relay]:
    """The same for Envoy's ``Check``; its connections are gRPC's affair."""
    made = Relay(verifier)
    with grpc.insecure_channel(f"127.0.0.1:{verifier}") as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)

        def check(raw: bytes, context: "grpc.ServicerContext") -> bytes:
            made.asked.append(_question(raw))
            try:
                return ask(raw, timeout=context.time_remaining())
            except grpc.RpcError as error:
                context.abort(error.code(), "")

        server = grpc.server(ThreadPoolExecutor(8))
        service, _, method = CHECK.removeprefix("/").partition("/")
        handler = grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(check)})
        server.add_generic_rpc_handlers((handler,))
        made.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield made
        finally:
            server.stop(0).wait()


def _question(raw: bytes) -> Message:
    """What a ``CheckRequest`` tells, as the request that it is about, with the body that came along."""
    http = CheckRequest.FromString(raw).attributes.request.http
    headers = [("Host", http.host), ("Content-Length", str(len(http.raw_body)))]
    headers += [
        (one.key, one.raw_value.decode("latin-1"))
        for one in http.header_map.headers
        if one.key != "content-length" and not one.key.startswith(":")
    ]
    return Message((http.method, http.path), headers, http.raw_body)


class Verifier:
    """``verifier serve`` with the table's configuration, as a process that can be stopped and killed.

    ``introspection`` is where it asks about ``slow`` tokens, and ``changes`` are to its configuration.
    """

    def __init__(self, folder: Path, introspection: int, **changes: Any) -> None:
        self._config = folder / "verifier.yaml"
        self._output = folder / "verifier.output"
        self._process: subprocess.Popen[bytes] | None = None
        keys, secret = folder / "keys.json", folder / "secret"
        keys.write_text(json.dumps({"keys": [public_jwk(key) for key in ISSUER.keys]}))
        secret.write_text(secrets.token_hex())
        made = configuration({"name": "main", "issuer": ISSUER.url, "audiences": [AUD], "jwks_file": str(keys)})
        endpoint = f"http://127.0.0.1:{introspection}"
        slow = opaque_issuer("slow", endpoint, secret, token_prefix=OPAQUE, deadline="10s")
        self.port, self.grpc_port = free_port(), free_port()
        settings = {
            **made,
            "issuers": [*made["issuers"], slow],
            "listen": f"127.0.0.1:{self.port}",
            "ops": {"listen": "127.0.0.1:0"},
            "grpc": {"listen": f"127.0.0.1:{self.grpc_port}"},
            "limits": {"keepalive_timeout": "500ms"},
            "log": {"format": "json"},
            **changes,
        }
        self._config.write_text(json.dumps(settings))  # JSON is YAML

    def start(self) -> None:
        """Start; after ``kill``, on the same port."""
        program = Path(sys.executable).parent / "verifier"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [program, "serve", "--config", self._config],
                stdout=output,
                stderr=output,
                env=_nothing_of_the_machine(),
            )
        deadline = time.monotonic() + 20
        while b'"serving"' not in self._output.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the verifier does not start:\n{self._output.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

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

    def judges(self, got: Message) -> Message:
        """What it says, asked by us, about a request as the application got it."""
        told = zip(("Method", "Uri", "Host"), (*got.first[:2], got.values("Host")[0]), strict=True)
        left_out = {
            "host",
            "connection",
            "upgrade",
            "http2-settings",
            "content-length",
            "transfer-encoding",
            "te",
            "expect",
        }
        left_out |= {name.lower() for name in IDENTITY}
        others = [
            f"{name}: {value}"
            for name, value in got.headers
            if name.lower() not in left_out and not name.lower().startswith("x-forwarded-")
        ]
        return exchange(
            self.port, request("/forward-auth", *(f"X-Forwarded-{name}: {value}" for name, value in told), *others)
        )


def _nothing_of_the_machine() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("VERIFIER_")}


@contextmanager
def verifier(folder: Path, introspection: int, **changes: Any) -> Iterator[Verifier]:
    made = Verifier(folder, introspection, **changes)
    made.start()
    try:
        yield made
    finally:
        made.kill()
