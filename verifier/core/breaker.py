"""When to stop asking somebody who does not answer, and when to try again. Time is passed in, in seconds."""

FAILURES = 3
"""Failures in a row after which nobody is asked any more."""

PAUSE = 1.0
"""Seconds to the next attempt."""


class Breaker:
    """Closed: ask. Open: do not, but for one attempt after each pause."""

    def __init__(self, failures: int = FAILURES, pause: float = PAUSE) -> None:
        self._limit = failures
        self._pause = pause
        self._failures = 0
        self._next_attempt = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

    def may_ask(self, now: float) -> bool:
        """Whether to ask at ``now``. Where it is open, the first to ask after a pause is the attempt."""
        if not self.is_open:
            return True
        if now < self._next_attempt:
            return False
        self._next_attempt = now + self._pause
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, now: float) -> None:
        self._failures += 1
        self._next_attempt = now + self._pause
