"""How long one turn of the event loop may go on with expensive work."""

import asyncio
from collections.abc import Callable
from time import thread_time

FOR_SIGNATURES = 0.05
"""Seconds of processor time: some five hundred signatures. Whoever asks about a token that is known waits no longer for
those who ask about new ones."""


class Turn:
    """Begins with the first question about it, and ends with the turn of the loop. ``clock`` gives seconds of this
    thread's processor time: what the machine does meanwhile does not count."""

    def __init__(self, seconds: float = FOR_SIGNATURES, clock: Callable[[], float] = thread_time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._began: float | None = None

    def has_time(self) -> bool:
        """Whether there is time for more of it. To be asked inside the loop."""
        now = self._clock()
        if self._began is None:
            self._began = now
            asyncio.get_running_loop().call_soon(self._end)
        return now - self._began < self._seconds

    def _end(self) -> None:
        self._began = None
