"""The fast lane in front of aiohttp: requests that come whole, carry no body and can be answered at once.

Rules of this module:

* It answers what can be read in one way only, and refuses nothing. Whatever is not plain, or takes I/O, is left to
  aiohttp, untouched and from its first byte.
* It knows nothing of tokens and routes: what is answered is what a ``Route`` says, in the bytes that aiohttp would
  write.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from typing import NamedTuple

import httptools

from verifier.server.callers import HEADER, Callers
from verifier.server.wire import written
from verifier.surfaces.surface import Answer, Request

LONGEST = 8_190
"""Bytes of a request. No limit on one line can then be met, aiohttp's least one included."""

MOST_HEADERS = 64
MOST_SHAPES = 128
LONGEST_SHAPE = 2_048
"""Bytes of the names of one that is kept."""

MOST_PIPELINED = 32
"""Requests answered at a time. Whoever sends more at once waits for aiohttp, and others do not wait for them."""

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # HEAD has answers of its own form
_LINE = b"\r\n"
_END = b"\r\n\r\n"

# Names that say how a message is framed, or what becomes of the connection.
_UNUSUAL = frozenset(
    {
        "connection",
        "content-length",
        "content-encoding",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "sec-websocket-key1",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_HARMLESS = {"connection": b"keep-alive", "content-length": b"0"}
"""Unusual names whose one value changes nothing."""


class Peer(NamedTuple):
    """Who is connected: an address, empty for a Unix socket, and whether it may speak for others."""

    address: str
    is_trusted: bool


AtOnce = Callable[[Request], Answer | None]
"""The answer to a request, or None where it takes I/O."""


class Shape(NamedTuple):
    """What the names of a request's header fields say. Clients send few different ones."""

    names: tuple[str, ...]  # in lower case, in their order
    places: Mapping[str, int]
    harmless: tuple[tuple[int, bytes], ...]  # where, and the only value that may stand there


def shape_of(names: Sequence[bytes]) -> Shape | None:
    """None for what is not plain: a name twice, no host, or one that changes how the message is read."""
    known = tuple(name.decode("ascii").lower() for name in names)
    if len(known) > MOST_HEADERS or len(set(known)) != len(known) or "host" not in known:
        return None
    places = {name: place for place, name in enumerate(known)}
    unusual = [name for name in known if name in _UNUSUAL]
    if not _HARMLESS.keys() >= set(unusual):
        return None
    harmless = tuple((places[name], _HARMLESS[name]) for name in unusual)
    return Shape(known, places, harmless)


class Head:
    """Reads the head of one request, with httptools. What it read stays until the next."""

    __slots__ = ("_names", "_parser", "_shapes", "_whole", "line", "shape", "values")

    def __init__(self) -> None:
        self._shapes: dict[tuple[bytes, ...], Shape] = {}
        self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._names.append(name)
        self.values.append(value)

    def on_message_complete(self) -> None:
        self._whole += 1

    def read(self, data: bytes) -> bool:
        """Whether ``data`` is one whole request, plain in every respect."""
        self._names: list[bytes] = []
        self.values: list[bytes] = []
        self._whole = 0
        shape = self._shape(tuple(self._names)) if self._parses(data) else None
        if shape is not None and all(self.values[place].lower() == only for place, only in shape.harmless):
            self.shape = shape
            return True
        self._renew()  # it may be in the middle of something, and the next request is somebody else's
        return False

    def _parses(self, data: bytes) -> bool:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return False
        self.line = line = data[: data.find(_LINE)]
        # What was read, written down in the one usual way, is what came: nothing before, behind, between or folded.
        rewritten = _LINE.join([line, *map(b": ".join, zip(self._names, self.values, strict=True)), b"", b""])
        return self._whole == 1 and rewritten == data and b" \r\n" not in data and b"\t\r\n" not in data

    def _shape(self, names: tuple[bytes, ...]) -> Shape | None:
        shape = self._shapes.get(names)
        if shape is None:
            shape = shape_of(names)
            if shape is not None and len(b"".join(names)) <= LONGEST_SHAPE:
                if len(self._shapes) >= MOST_SHAPES:
                    self._shapes.clear()
                self._shapes[names] = shape
        return shape

    def value(self, name: str) -> bytes:
        """Of the header ``name`` (lower case); empty where there is none."""
        place = self.shape.places.get(name)
        return b"" if place is None else self.values[place]

    def asked(self) -> tuple[str, str]:
        """The method and the target of what was read. Raises ``ValueError`` where the line is not plain."""
        method, target, version = self.line.decode("ascii").split(" ")
        if version != "HTTP/1.1":
            raise ValueError("another version of HTTP")
        return method, target


Plain = Callable[[Head, bytes], bytes | None]
"""From what was read, and the date, to the whole answer; None where it takes I/O, or another way."""


class Lane:
    """``plain`` are by request line; ``find`` gives what serves a method and a path. ``longest``: bytes of a header
    field. ``clock`` gives seconds since 1970."""

    def __init__(
        self,
        plain: Mapping[bytes, Plain],
        find: Callable[[str, str], AtOnce | None],
        callers: Callers | None,
        longest: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._plain = plain
        self._find = find
        self._callers = callers
        self._longest = min(LONGEST, longest)
        self._clock = clock
        self._head = Head()
        self._second = -1
        self._date = b""

    def answer(self, data: bytes, peer: Peer) -> bytes | None:
        """The answer to ``data``, where that is one request for here. Never raises."""
        try:
            if not self._is_plain(data):
                return None
            return (
                self._asked_plainly() or self._asked(peer)
                if self._callers is None
                else self._admitted(self._callers, peer)
            )
        except Exception:  # noqa: BLE001 - rule: aiohttp's way says what is wrong, and counts it
            return None

    def _admitted(self, callers: Callers, peer: Peer) -> bytes | None:
        caller = callers.recognise(peer.address, self._shown())
        if caller is None:
            return None
        answer = self._asked_plainly() or self._asked(peer)
        if answer is not None and caller:
            callers.admitted(caller)
        return answer

    def answer_first(self, data: bytes, peer: Peer) -> tuple[bytes, bytes]:
        """The answers to the first of several requests, and the rest of ``data``, which begins with one for aiohttp.

        None is answered unless all can be read: where aiohttp cannot read one, it answers none that came with it.
        """
        asked = [head + _END for head in data.split(_END, MOST_PIPELINED)]
        if asked.pop() != _END or not all(map(self._is_plain, asked)):
            return b"", data
        answers: list[bytes] = []
        done = 0
        for head in asked:
            answer = self.answer(head, peer)
            if answer is None:
                break
            answers.append(answer)
            done += len(head)
        return b"".join(answers), data[done:]

    def _is_plain(self, head: bytes) -> bool:
        return len(head) <= self._longest and self._head.read(head)

    def _asked_plainly(self) -> bytes | None:
        plain = self._plain.get(self._head.line)
        return None if plain is None else plain(self._head, self._today())

    def _asked(self, peer: Peer) -> bytes | None:
        method, target = self._head.asked()
        path = target.partition("?")[0]
        at_once = (
            self._find(method, path) if method in METHODS and target.startswith("/") and "#" not in target else None
        )
        if at_once is None:
            return None
        headers = {
            name: [value.decode("ascii")]
            for name, value in zip(self._head.shape.names, self._head.values, strict=True)
            if name != HEADER  # between the caller and us, and of no surface
        }
        answered = at_once(Request(method, path, headers, b"", peer.is_trusted))
        return None if answered is None else written(answered, b"Date: " + self._today())

    def _shown(self) -> tuple[str, ...]:
        return (self._head.value(HEADER).decode("ascii"),) if HEADER in self._head.shape.places else ()

    def _today(self) -> bytes:
        now = int(self._clock())
        if now != self._second:
            self._second, self._date = now, formatdate(now, usegmt=True).encode("ascii")
        return self._date
