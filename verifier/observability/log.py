"""Log lines that cannot hold a token.

By construction, not by care: a line is built from the fields listed here and nothing else, texts are cut short
and stripped of anything in the shape of a token, errors are logged by class and place without their message, and
of what libraries log only the place is kept (aiohttp quotes the offending header line, ``Authorization``
included).
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog

FIELDS = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "address",
        "changed",
        "detail",
        "dropped",
        "error",
        "issuer",
        "keys",
        "library",
        "ops",
        "reason",
        "request_id",
        "status",
        "surface",
        "version",
        "where",
    }
)
"""Every field that a line may have. Adding one is a decision about what may be written down."""

LONGEST = 300
# A JWS (its header begins with an encoded brace and quotation mark), two long segments, or one very long one.
_TOKEN_SHAPED = re.compile(r"eyJ[\w.=-]*|[\w-]{16,}\.[\w-]{16,}[\w.-]*|[\w+/=-]{60,}", re.ASCII)

Logger = structlog.stdlib.BoundLogger


def open_log(form: str, level: str, stream: TextIO | None = None) -> Logger:
    """The service's logger; ``form`` is ``json``, ``console`` or ``auto`` (by whether ``stream`` is a terminal).

    Also takes over what libraries log.
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    renderer = structlog.dev.ConsoleRenderer(colors=out.isatty()) if console else structlog.processors.JSONRenderer()
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(out),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_known_fields,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
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
