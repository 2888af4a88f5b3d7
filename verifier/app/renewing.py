"""The configuration of a running service, read again when somebody asks for it or its file changes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from verifier.background import beside
from verifier.config import ConfigError, Settings, renewal
from verifier.observability.observer import Observer
from verifier.remote.http import in_file_thread
from verifier.remote.origins import FILE_INTERVAL

TRY_AGAIN = 15
"""Looks at the file after which a configuration that was refused is tried again."""


class Configuration:
    """``load`` gives the settings, or raises ``ConfigError``; ``file`` is the one that they are in, if there is one.

    Make it before you load for the first time: what the file becomes from then on is another configuration.
    """

    def __init__(self, load: Callable[[], Settings], file: Path | None = None) -> None:
        self.load = load
        self.file = file
        self.content = None if file is None else content_of(file)


class Renewing:
    """Has ``apply`` put the settings of ``configuration`` in the place of those of now, which are ``settings`` first.

    All of them or none: where they cannot be used, or ``apply`` raises, those of now stay.
    """

    def __init__(
        self,
        configuration: Configuration,
        settings: Settings,
        apply: Callable[[Settings], Awaitable[None]],
        observer: Observer,
    ) -> None:
        self._configuration = configuration
        self._now = settings
        self._apply = apply
        self._observer = observer
        self._turn = asyncio.Lock()
        self._is_refused = False
        observer.config_in_use(renewal.digest(settings))

    async def renew(self) -> None:
        """Never raises; the observer is told what came of it."""
        async with self._turn:
            try:
                new = await in_file_thread(self._configuration.load)
                if new == self._now:
                    self._is_refused = False
                    self._observer.config_unchanged()
                    return
                await in_file_thread(renewal.check, self._now, new)
                await self._apply(new)
            except ConfigError as error:
                self._refused(map(str, error.problems))
            except Exception as error:  # noqa: BLE001 - whatever it was, the service goes on as it is
                self._observer.defect(error)
                self._refused([type(error).__name__])
            else:
                changed = renewal.changes(self._now, new)
                self._now, self._is_refused = new, False
                self._observer.config_applied(renewal.digest(new), changed)

    def _refused(self, problems: Iterable[str]) -> None:
        self._is_refused = True
        self._observer.config_refused(tuple(problems))

    @asynccontextmanager
    async def following(self, interval: float = FILE_INTERVAL) -> AsyncIterator[None]:
        """Looks at the file every ``interval`` seconds, until the end of the ``async with``."""
        if self._configuration.file is None:
            yield
            return
        async with beside(self._look(self._configuration.file, interval)):
            yield

    async def _look(self, file: Path, interval: float) -> None:
        """What was refused is tried again now and then: it may be another file that was not there yet."""
        known, tried = self._configuration.content, monotonic()
        while True:
            await asyncio.sleep(interval)
            content = await in_file_thread(content_of, file)
            if content != known or (self._is_refused and monotonic() - tried > TRY_AGAIN * interval):
                known, tried = content, monotonic()
                await self.renew()


def content_of(file: Path) -> bytes | None:
    """None where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError:
        return None
