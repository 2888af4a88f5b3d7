"""Log lines that cannot hold a token.

By construction, not by care: a line is built from the fields listed here and nothing else, texts are cut short
and stripped of anything in the shape of a token, errors are logged by class and place without their message, and
of what libraries log only the place is kept (aiohttp quotes the offending header line, ``Authorization``
included).
"""

import logging
import queue
import re
import sys
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO, cast

import structlog

FIELDS = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "address",
        "changed",
        "command",
        "detail",
        "dropped",
        "entries",
        "error",
        "grpc",
        "id",
        "issuer",
        "keys",
        "kind",
        "library",
        "ops",
        "pattern",
        "pid",
        "reason",
        "request_id",
        "route",
        "rule",
        "status",
        "surface",
        "trace_id",
        "version",
        "where",
        "worker",
    }
)
"""Every field that a line may have. Adding one is a decision about what may be written down."""

LONGEST = 300
# A JWS (its header begins with an encoded brace and quotation mark), two long segments, or one very long one.
_TOKEN_SHAPED = re.compile(r"eyJ[\w.=-]*|[\w-]{16,}\.[\w-]{16,}[\w.-]*|[\w+/=-]{60,}", re.ASCII)

Logger = structlog.stdlib.BoundLogger


class BackgroundStream:
    """A stream whose reader cannot hold up whoever writes: lines wait in a bounded queue for a thread.

    When the reader stalls and the queue is full, or a line cannot be written, lines are dropped and counted in
    ``dropped``; deciding about tokens goes on. ``close`` waits for what is queued, but not for ever.
    """

    def __init__(self, stream: TextIO, lines: int = 10_000) -> None:
        self._overflowed = 0
        self._unwritten = 0  # apart, as the thread counts them
        self._stream = stream
        self._queue: queue.Queue[str | None] = queue.Queue(lines)
        self._thread = threading.Thread(target=self._drain, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._overflowed + self._unwritten

    def write(self, text: str) -> None:
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            self._overflowed += 1

    def flush(self) -> None:
        """Nothing: the thread flushes what it writes."""

    def isatty(self) -> bool:
        return self._stream.isatty()

    def close(self, within: float = 1.0) -> None:
        with suppress(queue.Full):
            self._queue.put(None, timeout=within)
        self._thread.join(within)

    def _drain(self) -> None:
        while (text := self._queue.get()) is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # a reader that is gone, or a full disk, must not end the thread
                self._unwritten += 1


def open_log(
    form: str, level: str, stream: TextIO | BackgroundStream | None = None, worker: int | None = None
) -> Logger:
    """The service's logger; ``form`` is ``json``, ``console`` or ``auto`` (by whether ``stream`` is a terminal).
    ``worker``: the number that each line bears.

    Also takes over what libraries log.
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    renderer = structlog.dev.ConsoleRenderer(colors=out.isatty()) if console else structlog.processors.JSONRenderer()
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", out)),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_known_fields,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    if worker is not None:
        logger = logger.bind(worker=worker)
    _take_over_libraries(logger, level)
    return logger


def safe(text: str) -> str:
    """``text`` without anything that could be a token, on one line, cut to ``LONGEST`` characters."""
    cleaned = _TOKEN_SHAPED.sub("[removed]", text[: 4 * LONGEST])
    return "".join(char if char.isprintable() else " " for char in cleaned)[:LONGEST]


def place(traceback: TracebackType | None) -> str:
    """Where an error came from, innermost last, without any value: ``engine.py:120 claims.py:31``."""
    steps = []
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
        steps.append(f"{name}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return " ".join(steps[-6:])


def _only_known_fields(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: safe(value) if isinstance(value, str) else value for name, value in line.items() if name in FIELDS}


class _LibraryHandler(logging.Handler):
    """Passes on that a library logged, and from where; its message may quote a request."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._logger.log(
            record.levelno,
            "library",
            library=record.name,
            where=place(error.__traceback__) if error else f"{record.module}:{record.lineno}",
            error=type(error).__name__ if error else None,
        )


def _take_over_libraries(logger: Logger, level: str) -> None:
    root = logging.getLogger()
    root.handlers = [_LibraryHandler(logger)]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
