import ast
import errno
import io
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support import claims, sign
from verifier.observability.log import FIELDS, BackgroundStream, open_log, place, safe


def written(**fields: Any) -> dict[str, Any]:
    stream = io.StringIO()
    open_log("json", "info", stream).info("event", **fields)
    return json.loads(stream.getvalue())  # type: ignore[no-any-return]


def test_a_field_that_is_not_listed_is_not_written() -> None:
    assert "token" not in written(token="x", reason="expired")
    assert "token" not in FIELDS


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_a_token_in_a_text_is_removed(algorithm: str) -> None:
    token = sign(claims(), algorithm=algorithm)
    line = written(detail=f"cannot use {token} here")
    assert not any(part in json.dumps(line) for part in token.split("."))


def test_what_an_operator_needs_to_read_is_left_alone() -> None:
    text = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration: answered 503"
    assert safe(text) == text


def test_a_text_is_one_line_and_not_long() -> None:
    assert "\n" not in safe("a\nb\x1b[31m")
    assert len(safe("a b " * 1000)) == 300


def test_what_a_library_logs_keeps_its_place_and_loses_its_text() -> None:
    stream = io.StringIO()
    open_log("json", "info", stream)
    try:
        raise ValueError("Bearer s3cret")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("bad line %r", "Bearer s3cret")
    logging.getLogger("aiohttp.server").warning("Bearer s3cret")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["library"], first["error"]) == ("aiohttp.server", "ValueError")
    assert second["where"].startswith("test_log:")
    assert "s3cret" not in stream.getvalue()


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    log = open_log("json", "error", stream)
    log.warning("x")
    logging.getLogger("any").warning("x")
    assert stream.getvalue() == ""


def test_a_terminal_gets_text_and_anything_else_json() -> None:
    stream = io.StringIO()
    open_log("auto", "info", stream).info("event", reason="expired")
    assert json.loads(stream.getvalue())["reason"] == "expired"
    console = io.StringIO()
    open_log("console", "info", console).info("event", reason="expired")
    assert "reason=expired" in console.getvalue()


class Stalled(io.StringIO):
    """A reader that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def write(self, text: str) -> int:
        self.gate.wait(5)
        return super().write(text)


def test_a_reader_that_stalls_holds_nobody_up_and_what_is_lost_is_counted() -> None:
    reader = Stalled()
    stream = BackgroundStream(reader, lines=10)
    for number in range(100):
        stream.write(f"{number}\n")
    assert 85 <= stream.dropped <= 90
    reader.gate.set()
    stream.close()
    assert reader.getvalue().startswith("0\n1\n")


class Full(io.StringIO):
    """A file on a disk without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "no space left")


def test_lines_that_cannot_be_written_are_counted() -> None:
    stream = BackgroundStream(Full())
    stream.write("one\n")
    stream.write("two\n")
    stream.close()
    assert stream.dropped == 2


def test_what_is_queued_is_written_before_the_end() -> None:
    reader = io.StringIO()
    stream = BackgroundStream(reader)
    open_log("json", "info", stream).info("last words")
    stream.close()
    assert "last words" in reader.getvalue()


def test_a_place_is_files_and_lines() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        _ = 1 / 0
    assert place(raised.tb).startswith("test_log.py:")
    assert place(None) == ""


def _written_fields() -> set[str]:
    """Every name that a line is written with, anywhere in the service."""
    found: set[str] = set()
    for file in (Path(__file__).parents[2] / "verifier").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            is_log = getattr(owner, "attr", getattr(owner, "id", "")) == "log"
            if is_log and node.func.attr in ("debug", "info", "warning", "error"):
                found |= {keyword.arg for keyword in node.keywords if keyword.arg}
    return found


def test_every_field_that_is_written_may_be_written_down() -> None:
    assert _written_fields() - FIELDS == set()
