"""Between the supervisor and a worker: messages in frames, over a pair of sockets.

Messages are pickled. That is safe here, and here alone: the pair has no name, no third process holds an end of it, and
both ends are the same program of the same user, neither of which may do what the other may not.
"""

import asyncio
import pickle
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Metric

from verifier.config import ConfigError, Settings
from verifier.config.loading import Problem
from verifier.core.revocation import Lift, Revocation
from verifier.engine import Question
from verifier.observability.recent import Noted
from verifier.server.readiness import State
from verifier.server.status.explaining import Explained

_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker is to be, the first message to it: no file may say something else by now.

    ``sockets`` are the descriptors that it listens on. ``revocations`` are those in force where there is no Redis.
    """

    number: int
    settings: Settings
    sockets: tuple[int, ...]
    revocations: tuple[Revocation, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """For a report. Messages are taken in their order, so the answer also says that those before it were."""

    number: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """To decide by these settings: get ready for it, and say so with the same ``number``."""

    number: int
    settings: Settings


@dataclass(frozen=True, slots=True)
class Switch:
    """To what was prepared under this ``number``."""

    number: int


@dataclass(frozen=True, slots=True)
class Discard:
    """What was prepared: another worker cannot."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The service is about to end: send clients elsewhere."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Why the token of a question is good or not. No other order has a token."""

    number: int
    question: Question


@dataclass(frozen=True, slots=True)
class ExplainReply:
    """The answer to the ``Explain`` of that number, if there is one."""

    number: int
    explained: Explained | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker has counted and noted, and how it fares (None: it has not come that far). ``answers``: the last
    ``Ask``."""

    answers: int
    families: tuple[Metric, ...] = ()
    state: State | None = None
    noted: Noted = field(default_factory=Noted)


@dataclass(frozen=True, slots=True)
class Serving:
    """The worker takes connections."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The worker can ``Switch`` to this ``number``; or cannot, because of ``problems``."""

    number: int
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker cannot start: because of ``problems`` in the configuration, or of an ``error``."""

    problems: tuple[Problem, ...] = ()
    error: OSError | None = None

    def reason(self) -> Exception:
        return self.error or ConfigError(self.problems)


Order = Start | Ask | Explain | Revocation | Lift | Prepare | Switch | Discard | Drain
"""From the supervisor. A ``Revocation`` is one to keep from now on, a ``Lift`` one to forget."""

Said = Report | ExplainReply | Serving | Failed | Prepared
"""From a worker."""


def first(end: socket.socket) -> Start | None:
    """The message that a worker begins with, waited for without a loop; None if its supervisor is gone."""
    beginning = _exactly(end, _LENGTH.size)
    content = beginning and _exactly(end, *_LENGTH.unpack(beginning))
    start: Start | None = pickle.loads(content) if content else None  # noqa: S301 - see above
    return start


def _exactly(end: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = end.recv(min(size - len(content), 1 << 20))
        if not part:
            return b""
        content += part
    return bytes(content)


class Channel:
    """One end of the pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, end: socket.socket) -> "Channel":
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Order | Said) -> None:
        """Without waiting, so that messages go in the order of the calls. Nobody may be there to read it."""
        content = pickle.dumps(message)
        self._writer.write(_LENGTH.pack(len(content)) + content)

    async def receive(self) -> Any:
        """The next message; None where there will be none, as the other end is gone."""
        try:
            (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return pickle.loads(await self._reader.readexactly(size))  # noqa: S301 - see above
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def close(self) -> None:
        """After all that was sent."""
        self._writer.close()
        with suppress(OSError):  # there was nobody to read it
            await self._writer.wait_closed()
