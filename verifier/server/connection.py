"""aiohttp's protocol with the bounds that it lacks, without its habit of quoting requests, and with the fast lane.

What is added: a limit on the time a request may take to arrive, a cap on connections, problem documents for everything
that the parser refuses, silence about the offending bytes, which may be an ``Authorization`` line, and a look at
whether the fast lane has the answer. Private parts of aiohttp's ``RequestHandler`` are read for that, and a few are
written (``_next_keepalive_close_time``, ``_close``, ``_force_close``), so the dependency is pinned to the minor version
that this was written against.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from verifier.server.lane import Lane, Peer
from verifier.server.wire import SERVER, written
from verifier.surfaces.surface import Answer

if TYPE_CHECKING:
    from verifier.server.http import HttpServer

OTHER_HEADERS_BYTES = 32_768
"""Room for all the header fields of a request but the longest."""


class Connection(RequestHandler):
    """One connection."""

    __slots__ = (
        "_arrival",
        "_body",
        "_lane",
        "_may_begin",
        "_peer",
        "_pending_bytes",
        "_reading",
        "_server",
        "_unreadable",
    )

    def __init__(self, server: "HttpServer", loop: asyncio.AbstractEventLoop) -> None:
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
        self._lane: Lane | None = None  # the one that ``_peer`` is for
        self._peer: Peer | None = None
        self._may_begin = True  # what comes next begins a request: aiohttp's parser is in the middle of none
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
        lane = self._server.lane
        # aiohttp waits for a request, and the client reads what it gets.
        if lane is not None and self._may_begin and waiter is not None and not (waiter.done() or self._paused):
            data = self._through_lane(lane, data)
            if not data:
                return
        # A head ends so, and no first half of one does. A body may too: ``_waiter`` then tells that there is more.
        self._may_begin = data.endswith(b"\r\n\r\n")
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
        if peer is None or lane is not self._lane:  # the configuration is another, and so may be whom it trusts
            peer, self._lane = self._server.peer(self.transport), lane
            self._peer = peer
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
        return response(self._server.error(self._unreadable or status, detail), close=True)

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


def response(answered: Answer, *, close: bool = False) -> web.Response:
    response = web.Response(status=answered.status, headers=[*answered.headers, SERVER], body=answered.body)
    if close:
        response.force_close()
    return response


_NO_ACCESS_LOG = logging.getLogger("verifier.access")
_NO_ACCESS_LOG.disabled = True
