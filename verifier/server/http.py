"""Requests by HTTP: which route they are for, and what HTTP itself refuses. Their bytes are ``connection.py``'s."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientError, http_exceptions, web
from aiohttp.web_protocol import RequestHandler

from verifier.observability.observer import Observer
from verifier.server import callers
from verifier.server.callers import Callers
from verifier.server.connection import Connection, response
from verifier.server.flight import Flight
from verifier.server.handshake import Handshakes
from verifier.server.lane import METHODS, AtOnce, Lane, Peer, Shortcut
from verifier.server.reloading import Reloaded
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer, Request

Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """What serves one method of one path. ``content_type`` is that of the body it takes, if any.

    For the fast lane, ``at_once`` is ``handle`` where that does not wait, and ``shortcut`` a shorter way to the same.
    """

    handle: Handler
    content_type: str | None = None
    at_once: AtOnce | None = None
    shortcut: Shortcut | None = None


Routes = Mapping[str, Mapping[str, Route]]
"""Path → method → route. A path that ends with a slash stands for all that begin with it; others are exact."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times in seconds, sizes in bytes."""

    header_bytes: int
    body_bytes: int
    connections: int
    read_timeout: float
    keepalive_timeout: float


@dataclass(frozen=True, slots=True)
class Door:
    """Who comes in, and how: the ``callers``, over ``tls``, without which it is everybody, in the clear; and plain
    requests by the ``fast_lane``, if there is one. ``files`` are those that say so, and ``certificates`` tells which of
    them end when, in seconds since 1970."""

    callers: Callers | None = None
    tls: Callable[[], ssl.SSLContext] | None = None
    fast_lane: bool = False
    files: Sequence[Reloaded[Any]] = ()
    certificates: Callable[[], Mapping[str, float]] = dict


@dataclass(frozen=True, slots=True)
class Offer:
    """What is served, and to whom.

    ``is_trusted`` says of a peer's address, empty for that of a Unix socket, whether it may speak for others.
    ``unreadable``: path → status for requests that HTTP itself refuses, where it is not the usual one.
    """

    routes: Routes
    bounds: Bounds
    is_trusted: Callable[[str], bool] = lambda _: True
    unreadable: Mapping[str, int] = field(default_factory=dict)
    door: Door = Door()


class HttpServer(web.Server):
    """Serves an offer, or the next one to whatever request begins after ``offer``; started by a runner of aiohttp's."""

    def __init__(self, offered: Offer, observer: Observer) -> None:
        super().__init__(self._respond)
        self._observer = observer
        self.draining = False
        self._flight = Flight()
        self.bounds = offered.bounds
        self.handshakes = None if offered.door.tls is None else self._handshakes(offered.door.tls)
        self.offer(offered)

    def offer(self, offered: Offer) -> None:
        """Whether there is TLS stays as it was; its certificate may be another."""
        self._offered = offered
        self.bounds = offered.bounds
        if self.handshakes is not None and offered.door.tls is not None:
            self.handshakes.context = offered.door.tls
        self._prefixes = tuple(path for path in offered.routes if path.endswith("/"))
        self.lane = self._lane(offered) if offered.door.fast_lane and not self.draining else None

    def drain(self) -> None:
        """From now on, each connection ends with its next answer, so that clients find another server."""
        self.draining = True
        self.lane = None

    @property
    def in_flight(self) -> int:
        """How many requests were read and are not answered yet."""
        return self._flight.number

    async def finish(self, within: float) -> None:
        """Returns when the requests in flight are answered, or after so many seconds."""
        await self._flight.ended(within)

    def __call__(self) -> RequestHandler:
        return Connection(self, self._loop)

    def peer(self, transport: asyncio.BaseTransport | None) -> Peer:
        address = _address(transport)
        return Peer(address, self._offered.is_trusted(address))

    @property
    def open(self) -> int:
        """How many connections there are, those whose handshake is under way among them."""
        return len(self._connections) + (0 if self.handshakes is None else len(self.handshakes.running))

    @property
    def full(self) -> bool:
        return len(self._connections) >= self.bounds.connections

    def _lane(self, offered: Offer) -> Lane:
        shortcuts = {
            f"{method} {path} HTTP/1.1".encode(): route.shortcut
            for path, methods in offered.routes.items()
            for method, route in methods.items()
            if route.shortcut is not None and method in METHODS
        }

        def find(method: str, path: str) -> AtOnce | None:
            route = _of_method(self._methods(path) or {}, method)
            return None if route is None else route.at_once

        return Lane(shortcuts, find, offered.door.callers, offered.bounds.header_bytes, self._observer.defect)

    def _methods(self, path: str) -> Mapping[str, Route] | None:
        routes = self._offered.routes
        return routes.get(path) or next((routes[p] for p in self._prefixes if path.startswith(p)), None)

    def _handshakes(self, context: Callable[[], ssl.SSLContext]) -> Handshakes:
        return Handshakes(
            context,
            within=self.bounds.read_timeout,
            has_room=lambda: self.open < self.bounds.connections,
            refused=self.refused_connection,
            failed=self._observer.metrics.handshakes_failed.inc,
        )

    def unreadable(self, beginning: bytes) -> int | None:
        """The status for a request that begins so and cannot be read; None where it is the usual one."""
        statuses = self._offered.unreadable.items()
        return next((status for path, status in statuses if beginning.startswith(f"GET {path} ".encode())), None)

    def refused_connection(self) -> None:
        self._observer.metrics.connections_refused.inc()

    def error(self, status: int, detail: str, *headers: tuple[str, str]) -> Answer:
        """An error of HTTP itself, counted."""
        self._observer.http_error(status)
        return answer.http_error(status, detail, *headers)

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        try:
            with self._flight:
                answered = await self._answer(request)
            # After a request to upgrade, aiohttp would take what follows for another protocol.
            return response(answered, close=self.draining or "Upgrade" in request.headers)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - rule: what a client sends never ends in a 5xx
            self._observer.defect(error)
            status = self._offered.unreadable.get(_path(request.raw_path), 400)
            return response(self.error(status, "the request could not be processed"), close=True)

    async def _answer(self, request: web.BaseRequest) -> Answer:
        offered, route = self._offered, self._route(request)
        if isinstance(route, Answer):
            return route
        body = b""
        if route.content_type is not None:
            taken = await self._body(request, route.content_type)
            if isinstance(taken, Answer):
                return taken
            body = taken
            if self._offered is not offered:  # as if all of it came now
                route = self._route(request)
                if isinstance(route, Answer):
                    return route
        path, peer = _path(request.raw_path), self.peer(request.transport)
        return await route.handle(Request(request.method, path, _headers(request), body, peer.is_trusted))

    def _route(self, request: web.BaseRequest) -> Route | Answer:
        """What serves the request, or why nothing does."""
        shown, known = request.headers.getall(callers.HEADER, ()), self._offered.door.callers
        if known is not None and not known.admit(self.peer(request.transport).address, shown):
            return self.error(403, callers.NOT_KNOWN)
        methods = self._methods(_path(request.raw_path))
        if methods is None:
            return self.error(404, "nothing is served at this path")
        route = _of_method(methods, request.method)
        if route is None:
            return self.error(405, "this path does not take the method", ("Allow", ", ".join(methods)))
        return route

    async def _body(self, request: web.BaseRequest, content_type: str) -> bytes | Answer:
        """The body, if it is of the expected type and within the bounds of size and time."""
        too_long = f"the body is longer than {self.bounds.body_bytes} bytes"
        if request.headers.get("Content-Type", "").split(";")[0].strip().lower() != content_type:
            return self.error(415, f"expected a body of type {content_type}")
        if "Content-Encoding" in request.headers:
            return self.error(415, "compressed bodies are not taken")
        if (request.content_length or 0) > self.bounds.body_bytes:
            return self._refused_body(request, 413, too_long)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        try:
            async with asyncio.timeout(self.bounds.read_timeout):
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > self.bounds.body_bytes:
                        return self._refused_body(request, 413, too_long)
        except TimeoutError:
            return self.error(408, "the body did not arrive in time")
        except (ClientError, http_exceptions.HttpProcessingError, ValueError):
            return self._refused_body(request, 400, "the body is not framed as HTTP asks")
        return bytes(body)

    def _refused_body(self, request: web.BaseRequest, status: int, detail: str) -> Answer:
        return self.error(self._offered.unreadable.get(_path(request.raw_path), status), detail)


def _of_method(methods: Mapping[str, Route], method: str) -> Route | None:
    return methods.get(method) or methods.get("*")


def _path(target: str) -> str:
    """The path of a request target, in origin or absolute form (RFC 9112 §3.2), not decoded."""
    if not target.startswith("/"):
        try:
            target = urlsplit(target).path or "/"
        except ValueError:
            return ""
    return target.partition("?")[0]


def _address(transport: asyncio.BaseTransport | None) -> str:
    """Of whoever is connected; empty for a Unix socket, and one that is nobody's where it is not known."""
    peer = None if transport is None else transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return str(peer[0])
    connected = None if transport is None else transport.get_extra_info("socket")
    return "" if connected is not None and connected.family == socket.AF_UNIX else "0.0.0.0"  # noqa: S104 - nobody has it


def _headers(request: web.BaseRequest) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    headers.pop(callers.HEADER, None)  # between the caller and us, and of no surface
    return headers
