"""Lines that there could be too many of."""

from collections.abc import Callable


class Pace:
    """Admits ``most`` in each second of ``clock``."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._second = -1
        self._admitted = 0
        self._left_out = 0

    def admit(self) -> int | None:
        """How many were left out before this one; None where this one is, too."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._admitted = second, 0
        if self._admitted >= self._most:
            self._left_out += 1
            return None
        self._admitted += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
