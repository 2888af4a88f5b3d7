"""aiohttp's protocol with the bounds that it lacks, and without its habit of quoting requests.

What is added: a limit on the time a request may take to arrive, a cap on connections, problem documents for
everything that the parser refuses, and silence about the offending bytes, which may be an ``Authorization``
line. Private parts of aiohttp's ``RequestHandler`` are read for the first two, so the dependency is pinned to
the minor version that this was written against.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from aiohttp import ClientError, StreamReader, http_exceptions, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from verifier.observability.observer import Observer
from verifier.server import callers
from verifier.server.callers import Callers
from verifier.server.handshake import Handshakes
from verifier.server.lane import METHODS, AtOnce, Lane, Peer, Plain
from verifier.server.wire import SERVER, written
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer, Request

OTHER_HEADERS_BYTES = 32_768
"""Room for all the header fields of a request but the longest."""

Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """What serves one method of one path. ``content_type`` is that of the body it takes, if any.

    For the fast lane, ``at_once`` is ``handle`` where that does not wait, and ``plain`` is a shorter way to the same.
    """

    handle: Handler
    content_type: str | None = None
    at_once: AtOnce | None = None
    plain: Plain | None = None


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
    requests by the ``fast_lane``, if there is one."""

    callers: Callers | None = None
    tls: Callable[[], ssl.SSLContext] | None = None
    fast_lane: bool = False


class HttpServer(web.Server):
    """Serves ``routes`` within ``bounds``; started by an ``aiohttp.web.ServerRunner``."""

    def __init__(
        self,
        routes: Routes,
        bounds: Bounds,
        observer: Observer,
        is_trusted: Callable[[str], bool] = lambda _: True,
        unreadable: Mapping[str, int] | None = None,
        door: Door = Door(),
    ) -> None:
        """``is_trusted`` says of a peer's address, empty for that of a Unix socket, whether it may speak for others.
        ``unreadable``: path → status for requests that HTTP itself refuses, where it is not the usual one."""
        super().__init__(self._respond)
        self.bounds = bounds
        self._is_trusted = is_trusted
        self._routes = routes
        self._unreadable = dict(unreadable or {})
        self._prefixes = tuple(path for path in routes if path.endswith("/"))
        self._observer = observer
        self._callers = door.callers
        self.handshakes = None if door.tls is None else self._handshakes(door.tls)
        self.lane = self._lane() if door.fast_lane else None

    def __call__(self) -> RequestHandler:
        return _Connection(self, self._loop)

    def peer(self, transport: asyncio.BaseTransport | None) -> Peer:
        address = _address(transport)
        return Peer(address, self._is_trusted(address))

    @property
    def open(self) -> int:
        """How many connections there are, those whose handshake is under way among them."""
        return len(self._connections) + (0 if self.handshakes is None else len(self.handshakes.running))

    @property
    def full(self) -> bool:
        return len(self._connections) >= self.bounds.connections

    def _lane(self) -> Lane:
        plain = {
            f"{method} {path} HTTP/1.1".encode(): route.plain
            for path, methods in self._routes.items()
            for method, route in methods.items()
            if route.plain is not None and method in METHODS
        }

        def find(method: str, path: str) -> AtOnce | None:
            methods = self._methods(path)
            route = None if methods is None else methods.get(method) or methods.get("*")
            return None if route is None or route.content_type is not None else route.at_once

        return Lane(plain, find, self._callers, self.bounds.header_bytes)

    def _methods(self, path: str) -> Mapping[str, Route] | None:
        return self._routes.get(path) or next((self._routes[p] for p in self._prefixes if path.startswith(p)), None)

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
        statuses = self._unreadable.items()
        return next((status for path, status in statuses if beginning.startswith(f"GET {path} ".encode())), None)

    def refused_connection(self) -> None:
        self._observer.metrics.connections_refused.inc()

    def error(self, status: int, detail: str, *headers: tuple[str, str]) -> Answer:
        """An error of HTTP itself, counted."""
        self._observer.http_error(status)
        return answer.http_error(status, detail, *headers)

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        try:
            # After a request to upgrade, aiohttp would take what follows for another protocol.
            return _response(await self._answer(request), close="Upgrade" in request.headers)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - rule: what a client sends never ends in a 5xx
            self._observer.defect(error)
            status = self._unreadable.get(_path(request.raw_path), 400)
            return _response(self.error(status, "the request could not be processed"), close=True)

    async def _answer(self, request: web.BaseRequest) -> Answer:
        path, peer = _path(request.raw_path), self.peer(request.transport)
        shown = request.headers.getall(callers.HEADER, ())
        if self._callers is not None and not self._callers.admit(peer.address, shown):
            return self.error(403, callers.NOT_KNOWN)
        methods = self._methods(path)
        if methods is None:
            return self.error(404, "nothing is served at this path")
        route = methods.get(request.method) or methods.get("*")
        if route is None:
            return self.error(405, "this path does not take the method", ("Allow", ", ".join(methods)))
        body = b""
        if route.content_type is not None:
            taken = await self._body(request, route.content_type)
            if isinstance(taken, Answer):
                return taken
            body = taken
        return await route.handle(Request(request.method, path, _headers(request), body, peer.is_trusted))

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
        return self.error(self._unreadable.get(_path(request.raw_path), status), detail)


class _Connection(RequestHandler):
    """One connection."""

    __slots__ = (
        *("_arrival", "_between", "_body", "_lane", "_peer", "_pending_bytes", "_reading", "_server", "_unreadable"),
    )

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        bounds = server.bounds
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=bounds.keepalive_timeout,
            access_log=_NO_ACCESS_LOG,
            max_field_size=bounds.header_bytes,
            auto_decompress=False,
            lingering_time=min(2.0, bounds.read_timeout),
        )
        self._server = server
        self._lane = server.lane
        self._peer: Peer | None = None
        self._between = True  # requests: aiohttp's parser is in the middle of none
        self._arrival: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None
        self._pending_bytes = 0
        self._unreadable: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.handshakes is not None:
            self._server.handshakes.forget(self)
        if self._server.full:
            self._server.refused_connection()
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._arrived()
        self._was_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        # aiohttp waits for the first byte of a request, and the client for nothing.
        if self._lane is not None and self._between and waiter is not None and not (waiter.done() or self._paused):
            data = self._through_lane(self._lane, data)
            if not data:
                return
        # So ends a head, and never half of one. Where a body does, aiohttp knows whether there is more of it.
        self._between = data.endswith(b"\r\n\r\n")
        # Also before aiohttp says that it has a request, and after an answer that did not wait for the body.
        in_body = self._body is not None and not self._body.is_eof()
        if self._current_request is None and not self._pending_bytes and not in_body:
            self._unreadable = self._server.unreadable(data)
        if self._current_request is None:
            super().data_received(data)
        else:  # when the server stops, aiohttp would drop the rest of the very body that it waits for
            closing = self._close, self._force_close
            self._close = self._force_close = False
            super().data_received(data)
            self._close, self._force_close = closing
            if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
                # aiohttp queues the error behind the request whose body it spoils, which would wait for the rest
                self._current_request.content.set_exception(ValueError("broken framing"))
        if self._messages:
            self._body = self._messages[-1][1]
        if in_body or self._messages or self._current_request is not None:
            self._arrived()
            return
        self._pending_bytes += len(data)
        if self._pending_bytes > self._server.bounds.header_bytes + OTHER_HEADERS_BYTES:
            self._refuse(431, "the header fields are beyond the limit")
        elif data and self._arrival is None:
            self._arrival = self._loop.call_later(
                self._server.bounds.read_timeout, self._refuse, 408, "the request did not arrive in time"
            )

    def _through_lane(self, lane: Lane, data: bytes) -> bytes:
        """Answer what the lane can; what is left is for aiohttp."""
        peer = self._peer
        if peer is None:
            peer = self._peer = self._server.peer(self.transport)
        answers, rest = lane.answer(data, peer), b""
        if answers is None:
            answers, rest = lane.answer_first(data, peer)
        if answers and self.transport is not None:
            self.transport.write(answers)
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return rest

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the request
    ) -> web.StreamResponse:
        """What the parser refused. Neither answered nor logged with the offending bytes."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        status, detail = _parser_error(exc) if status < 500 else (400, "the request could not be processed")
        return _response(self._server.error(self._unreadable or status, detail), close=True)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Nothing: aiohttp's texts quote the request."""

    def pause_writing(self) -> None:
        """Nobody reads the answers. Without an end, those who never do would take all connections."""
        super().pause_writing()
        self._was_read()
        self._reading = self._loop.call_later(self._server.bounds.read_timeout, self._abort)

    def resume_writing(self) -> None:
        self._was_read()
        super().resume_writing()

    def _was_read(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _arrived(self) -> None:
        """A request is whole: its time and size are counted anew for the next."""
        self._pending_bytes = 0
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _refuse(self, status: int, detail: str) -> None:
        """Answer a request that is not whole yet, and end the connection."""
        self._arrived()
        if self.transport is not None and not self._messages and self._current_request is None:
            self.transport.write(written(self._server.error(self._unreadable or status, detail), b"Connection: close"))
            self.force_close()


def _parser_error(error: BaseException | None) -> tuple[int, str]:
    if isinstance(error, LineTooLong) or "too many headers" in str(error).lower():
        return 431, "a line or the number of header fields is beyond the limit"
    if isinstance(error, HttpProcessingError) and 400 <= error.code < 500:
        return error.code, "the request is not HTTP/1.1 as RFC 9112 has it"
    return 400, "the request is not HTTP/1.1 as RFC 9112 has it"


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


def _response(answered: Answer, *, close: bool = False) -> web.Response:
    response = web.Response(status=answered.status, headers=[*answered.headers, SERVER], body=answered.body)
    if close:
        response.force_close()
    return response


_NO_ACCESS_LOG = logging.getLogger("verifier.access")
_NO_ACCESS_LOG.disabled = True
