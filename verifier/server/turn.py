"""How much expensive work one turn of the event loop may take on."""

import asyncio

SIGNATURES = 512
"""Of one turn: some 40 ms. Whoever asks about a token that is known waits no longer for those with new ones."""


class Turn:
    """Begins with the first question about it, and ends with the turn of the loop."""

    def __init__(self, most: int = SIGNATURES) -> None:
        self._most = most
        self._taken = 0

    def has_room(self) -> bool:
        """Whether there is room for another, which then is taken. To be asked inside the loop."""
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._end)
        self._taken += 1
        return self._taken <= self._most

    def _end(self) -> None:
        self._taken = 0
