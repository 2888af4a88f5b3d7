"""The admin token: who shows it may revoke tokens and have them explained."""

from pathlib import Path

from verifier.config.files import secret
from verifier.observability.observer import Observer
from verifier.remote.http import in_file_thread
from verifier.server import callers
from verifier.surfaces import answer
from verifier.surfaces.surface import Answer, Request

CHALLENGE = ("WWW-Authenticate", 'Bearer realm="admin"')


class AdminTokenUnreadable(Exception):  # noqa: N818 - reads as what it says
    """Nobody is served without a token to demand."""


class AdminToken:
    """``file`` is read each time, so that a new token is noticed. The ``observer`` is told of tokens that are none."""

    def __init__(self, file: Path, observer: Observer) -> None:
        self._file = file
        self._observer = observer

    async def is_shown(self, shown: str) -> bool:
        """Whether this is it. Raises ``AdminTokenUnreadable``."""
        try:
            expected = secret(await in_file_thread(self._file.read_bytes))
        except (OSError, ValueError):
            raise AdminTokenUnreadable from None
        is_ours = callers.is_secret(shown, callers.digest(expected))
        if not is_ours:
            self._observer.administrator_refused()
        return is_ours

    async def refusal(self, request: Request) -> Answer | None:
        """The answer to whoever does not show it in ``Authorization``; None for who does."""
        try:
            is_ours = await self.is_shown(_bearer(request))
        except AdminTokenUnreadable:
            return answer.http_error(503, "the admin token cannot be read")
        if is_ours:
            return None
        return answer.http_error(401, "send the admin token as: Authorization: Bearer TOKEN", CHALLENGE)


def _bearer(request: Request) -> str:
    """What the one ``Authorization`` header shows; empty where that is no bearer token."""
    values = request.values("authorization")
    scheme, _, given = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return given.strip() if scheme.lower() == "bearer" else ""
