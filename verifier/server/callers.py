"""Who may ask on the data port and on that of gRPC: callers that show a secret of the configuration."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence

from verifier.config.values import UNKNOWN_CALLER
from verifier.observability.observer import Observer
from verifier.server.reloading import Reloaded

Admit = Callable[[str, Sequence[str]], bool]
"""Whether the caller at a peer's address, empty for that of a Unix socket, may ask, by the values that it shows."""

HEADER = "x-verifier-secret"
NOT_KNOWN = "the caller is not known: it must show its secret in the header X-Verifier-Secret, once"


def digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def is_secret(shown: str, known: bytes) -> bool:
    """Whether ``known`` is the digest of what is ``shown``. The time tells neither how much of it is right, nor how
    long it is. A header may hold any bytes; those that are no text stand in it as surrogates."""
    return hmac.compare_digest(digest(shown.encode("utf-8", "surrogateescape")), known)


class Callers:
    """``digests`` are those of the secrets, by caller. ``is_exempt`` says of a peer's address, empty for that of a Unix
    socket, whether it needs none."""

    def __init__(
        self, digests: Mapping[str, Reloaded[bytes]], is_exempt: Callable[[str], bool], observer: Observer
    ) -> None:
        self._digests = digests
        self._is_exempt = is_exempt
        self._observer = observer
        observer.expect_callers([*digests, UNKNOWN_CALLER])

    def admit(self, peer: str, shown: Sequence[str]) -> bool:
        """Whether the caller at the address ``peer``, who shows these values of the header, may ask. It is counted."""
        name = self.recognise(peer, shown)
        if name is None:
            self._observer.caller_refused(UNKNOWN_CALLER, peer)
            return False
        if name:
            self.count(name)
        return True

    def recognise(self, peer: str, shown: Sequence[str]) -> str | None:
        """The name of the caller at the address ``peer``: empty where it needs none, None where it may not ask."""
        if self._is_exempt(peer):
            return ""
        # Each of them is compared, so that the time does not tell which one it is.
        fitting = [name for name, one in self._digests.items() if is_secret(shown[0], one.value)] if shown else []
        return fitting[0] if len(shown) == 1 and fitting else None

    def count(self, name: str) -> None:
        """Count the caller ``name``."""
        self._observer.caller_admitted(name)
