"""What is made of files, and made anew when they change."""

import asyncio
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import eventually
from verifier.observability.log import open_log
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.server.reloading import Reloaded, reloading

OFTEN = 0.01


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "number"
    made.write_text("1")
    return made


def numbers(contents: Sequence[bytes]) -> tuple[int, ...]:
    return tuple(int(content) for content in contents)


def put(file: Path, content: str) -> None:
    """All at once."""
    new = file.with_suffix(".new")
    new.write_text(content)
    new.rename(file)


def events(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_what_cannot_be_made_at_first_is_told(tmp_path: Path, file: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Reloaded("one", [file, tmp_path / "absent"], numbers)
    file.write_text("x")
    with pytest.raises(ValueError, match="invalid literal"):
        Reloaded("one", [file], numbers)


def test_it_is_made_anew_only_when_a_file_changed(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("5")
    reloaded = Reloaded("one", [file, other], numbers)
    assert not reloaded.reload()
    other.write_text("6")
    assert reloaded.reload()
    assert not reloaded.reload()
    assert reloaded.value == (1, 6)


def test_it_stays_while_it_cannot_be_made(file: Path) -> None:
    reloaded = Reloaded("one", [file], numbers)
    file.write_text("")
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            reloaded.reload()
    assert reloaded.value == (1,)
    file.write_text("2")
    assert reloaded.reload()
    assert reloaded.value == (2,)


def test_it_is_usable_unless_its_files_are_not(file: Path) -> None:
    reloaded = Reloaded("one", [file], numbers)
    assert reloaded.usable
    for content, usable in (("", False), ("", False), ("1", True), ("x", False), ("2", True)):
        file.write_text(content)
        with suppress(ValueError):
            reloaded.reload()
        assert reloaded.usable is usable
    file.unlink()
    with pytest.raises(OSError, match="No such file"):
        reloaded.reload()
    assert not reloaded.usable


async def test_each_change_is_told_once_and_so_is_each_failure(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    put(other, "5")
    one, two = Reloaded("one", [file], numbers), Reloaded("two", [other], numbers)
    stream = io.StringIO()
    observer = Observer(Metrics(), open_log("json", "debug", stream), log_denials=False)
    async with reloading([one, two], observer, OFTEN):
        put(file, "")
        await eventually(lambda: events(stream))
        await asyncio.sleep(10 * OFTEN)
        put(other, "6")  # one file does not keep another one from being read
        await eventually(lambda: two.value == (6,))
        put(file, "2")
        await eventually(lambda: one.value == (2,))
        await asyncio.sleep(10 * OFTEN)
        assert events(stream) == ["file_unusable", "file_renewed", "file_renewed"]
        put(file, "x")
        await eventually(lambda: len(events(stream)) == 4)
    put(file, "3")
    await asyncio.sleep(10 * OFTEN)
    assert one.value == (2,)
