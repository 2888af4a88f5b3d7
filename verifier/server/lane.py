"""The fast lane in front of aiohttp: requests that come whole, carry no body and can be answered at once.

Rules of this module:

* It answers what can be read in one way only (``head.py``), and refuses nothing. Whatever is not plain, or takes I/O,
  is left to aiohttp, untouched and from its first byte.
* It knows nothing of tokens and routes: it asks what it was given, and writes the bytes that aiohttp would.
"""

import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import NamedTuple

from verifier.server.callers import HEADER, Callers
from verifier.server.head import Head
from verifier.server.wire import written
from verifier.surfaces.surface import Answer, Request

LONGEST = 8_190
"""Bytes of the longest request. No line of it is then beyond a limit on lines, of which aiohttp's least is this."""

MOST_PIPELINED = 32
"""Requests answered at a time. Whoever sends more at once waits for aiohttp, and others do not wait for them."""

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # HEAD has answers of its own form
_END = b"\r\n\r\n"


class Peer(NamedTuple):
    """Who is connected: an address, empty for a Unix socket, and whether it may speak for others."""

    address: str
    is_trusted: bool


AtOnce = Callable[[Request], Answer | None]
"""The answer to a request, or None where it takes I/O."""

Shortcut = Callable[[Head, bytes], bytes | None]
"""From what was read, and the date, to the whole answer; None where it takes I/O, or the usual way."""


class Lane:
    """``shortcuts`` are by request line; ``find`` gives what serves a method and a path. ``longest``: bytes of a header
    field. ``defect`` is told of what should not happen. ``clock`` gives seconds since 1970."""

    def __init__(
        self,
        shortcuts: Mapping[bytes, Shortcut],
        find: Callable[[str, str], AtOnce | None],
        callers: Callers | None,
        longest: int,
        defect: Callable[[Exception], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shortcuts = shortcuts
        self._find = find
        self._callers = callers
        self._longest = min(LONGEST, longest)
        self._defect = defect
        self._clock = clock
        self._head = Head()
        self._second = -1
        self._date = b""

    def answer(self, data: bytes, peer: Peer) -> bytes | None:
        """The answer to ``data``, where that is one request for here. Never raises."""
        try:
            if not self._reads(data):
                return None
            if self._callers is None:
                return self._by_shortcut() or self._by_route(peer)
            return self._for_caller(self._callers, peer)
        except ValueError:  # in another form than is usual: aiohttp's to judge
            return None
        except Exception as error:  # noqa: BLE001 - rule: what goes wrong here costs speed and no answer
            self._defect(error)
            return None

    def answer_first(self, data: bytes, peer: Peer) -> tuple[bytes, bytes]:
        """The answers to the first of several requests, and the rest of ``data``, which begins with one for aiohttp.

        None is answered unless all can be read: where aiohttp cannot read one, it answers none that came with it.
        """
        asked = [head + _END for head in data.split(_END, MOST_PIPELINED)]
        # One alone was not answered before, and is not now.
        if asked.pop() != _END or len(asked) < 2 or not all(map(self._reads, asked)):
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

    def _reads(self, head: bytes) -> bool:
        return len(head) <= self._longest and self._head.read(head)

    def _for_caller(self, callers: Callers, peer: Peer) -> bytes | None:
        caller = callers.recognise(peer.address, self._shown())
        answer = None if caller is None else self._by_shortcut() or self._by_route(peer)
        if answer is not None and caller:
            callers.count(caller)
        return answer

    def _by_shortcut(self) -> bytes | None:
        shortcut = self._shortcuts.get(self._head.line)
        return None if shortcut is None else shortcut(self._head, self._today())

    def _by_route(self, peer: Peer) -> bytes | None:
        method, target = self._head.target()
        if method not in METHODS or "#" in target:
            return None
        path = target.partition("?")[0]
        at_once = self._find(method, path)
        if at_once is None:
            return None
        headers = self._head.values_by_name()
        headers.pop(HEADER, None)  # between the caller and us, and of no surface
        answered = at_once(Request(method, path, headers, b"", peer.is_trusted))
        return None if answered is None else written(answered, b"Date: " + self._today())

    def _shown(self) -> tuple[str, ...]:
        return (self._head.value(HEADER).decode("ascii"),) if HEADER in self._head.shape.places else ()

    def _today(self) -> bytes:
        now = int(self._clock())
        if now != self._second:
            self._second, self._date = now, formatdate(now, usegmt=True).encode("ascii")
        return self._date
