"""What is made of files, and made anew when they change, without a look at them for each request."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

from verifier.background import beside
from verifier.observability.observer import Observer
from verifier.remote.http import in_file_thread
from verifier.remote.origins import FILE_INTERVAL

Value = TypeVar("Value")


class Reloaded(Generic[Value]):
    """``value`` is what ``make`` made of the contents of ``files``. While they are not ``usable``, the last one stays.

    ``name`` is what the log calls it. The constructor reads, and raises ``OSError`` and what ``make`` raises.
    """

    def __init__(self, name: str, files: Iterable[Path], make: Callable[[Sequence[bytes]], Value]) -> None:
        self.name = name
        self._files = tuple(files)
        self._make = make
        self._contents = self._read()
        self.value = make(self._contents)
        self.usable = True

    @classmethod
    async def of(cls, name: str, files: Iterable[Path], make: Callable[[Sequence[bytes]], Value]) -> "Reloaded[Value]":
        """Value apart from the loop."""
        return await in_file_thread(cls, name, files, make)

    def reload(self) -> bool:
        """Look at the files; whether they were new. Raises as the constructor does, and is then as before."""
        try:
            contents = self._read()
            is_new = contents != self._contents
            if is_new:
                self.value = self._make(contents)
                self._contents = contents
        except (OSError, ValueError):
            self.usable = False
            raise
        self.usable = True
        return is_new

    def _read(self) -> tuple[bytes, ...]:
        return tuple(file.read_bytes() for file in self._files)


def reloading(
    watched: Sequence[Reloaded[Any]], observer: Observer, interval: float = FILE_INTERVAL
) -> AbstractAsyncContextManager[None]:
    """Looks at the files of what is ``watched`` every ``interval`` seconds, until the end of the ``async with``."""
    return beside(_look(watched, observer, interval), "files")


async def _look(watched: Sequence[Reloaded[Any]], observer: Observer, interval: float) -> None:
    """That a file cannot be used is told once, until it can again."""
    while True:
        await asyncio.sleep(interval)
        for one in watched:
            was_usable = one.usable
            try:
                if await in_file_thread(one.reload):
                    observer.file_renewed(one.name)
            except (OSError, ValueError) as error:
                if was_usable:
                    observer.file_unusable(one.name, str(error))
