"""The head of a request, read where it can be read in one way only.

httptools parses. What it makes of unusual heads is never asked: what it read, written down in the one usual way, must
be what came.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import httptools

MOST_HEADERS = 64
MOST_SHAPES = 128
LONGEST_SHAPE = 2_048
"""Names that are longer than this together, in bytes, are read and not kept."""

_LINE = b"\r\n"

# Names that say how a message is framed, or what becomes of the connection, or that aiohttp refuses.
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

    __slots__ = ("_names", "_parser", "_shapes", "line", "shape", "values")

    def __init__(self) -> None:
        self._shapes: dict[tuple[bytes, ...], Shape] = {}
        self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._names.append(name)
        self.values.append(value)

    def read(self, data: bytes) -> bool:
        """Whether ``data`` is one whole request, plain in every respect."""
        self._names: list[bytes] = []
        self.values: list[bytes] = []
        shape = self._shape(tuple(self._names)) if self._parses(data) and self._is_usual(data) else None
        if shape is not None and (not shape.harmless or self._is_harmless(shape)):
            self.shape = shape
            return True
        self._renew()  # it may be in the middle of something, and the next request is somebody else's
        return False

    def _parses(self, data: bytes) -> bool:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return False
        return True

    def _is_usual(self, data: bytes) -> bool:
        """Whether what was read, written down in the one usual way, is what came: nothing before, behind, between or
        folded. Blanks behind a value are none of it (RFC 9110 §5.5), and httptools leaves them."""
        self.line = data[: data.find(_LINE)]
        fields = map(b": ".join, zip(self._names, self.values, strict=False))  # as many of these as of those
        rewritten = _LINE.join([self.line, *fields, b"", b""])
        return rewritten == data and [value.rstrip() for value in self.values] == self.values

    def _shape(self, names: tuple[bytes, ...]) -> Shape | None:
        shape = self._shapes.get(names)
        if shape is None:
            shape = shape_of(names)
            if shape is not None and len(b"".join(names)) <= LONGEST_SHAPE:
                if len(self._shapes) >= MOST_SHAPES:
                    self._shapes.clear()
                self._shapes[names] = shape
        return shape

    def _is_harmless(self, shape: Shape) -> bool:
        return all(self.values[place].lower() == only for place, only in shape.harmless)

    def value(self, name: str) -> bytes:
        """Of the header ``name`` (lower case); empty where there is none."""
        place = self.shape.places.get(name)
        return b"" if place is None else self.values[place]

    def values_by_name(self) -> dict[str, list[str]]:
        """Raises ``ValueError`` for what is not ASCII."""
        return {name: [value.decode("ascii")] for name, value in zip(self.shape.names, self.values, strict=True)}

    def target(self) -> tuple[str, str]:
        """The method and the target (RFC 9112 §3). Raises ``ValueError`` where the line has another form."""
        method, target, version = self.line.decode("ascii").split(" ")
        if version != "HTTP/1.1":
            raise ValueError("another version of HTTP")
        return method, target
