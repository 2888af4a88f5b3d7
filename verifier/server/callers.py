"""Who may ask on the data port and on that of gRPC: callers that show a secret of the configuration."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence

from verifier.config.values import UNKNOWN_CALLER
from verifier.observability.observer import Observer
from verifier.server.held import Held

Admit = Callable[[str, Sequence[str]], bool]
"""Whether the caller at a peer's address, empty for that of a Unix socket, may ask, by the values that it shows."""

HEADER = "x-verifier-secret"
NOT_KNOWN = "the caller is not known: it must show its secret in the header X-Verifier-Secret, once"


def digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def named(digests: Mapping[str, bytes], shown: Sequence[str]) -> str | None:
    """The name of the one whose secret is ``shown``, once; None where it is nobody's.

    Digests are compared, each of them: the time tells neither which one is nearly right, nor how long it is. A header
    may hold any bytes; those that are no text stand in it as surrogates.
    """
    if len(shown) != 1:
        return None
    given = digest(shown[0].encode("utf-8", "surrogateescape"))
    fitting = [name for name, known in digests.items() if hmac.compare_digest(given, known)]
    return fitting[0] if fitting else None


class Callers:
    """``digests`` are those of the secrets, by caller. ``is_exempt`` says of a peer's address, empty for that of a Unix
    socket, whether it needs none."""

    def __init__(
        self, digests: Mapping[str, Held[bytes]], is_exempt: Callable[[str], bool], observer: Observer
    ) -> None:
        self._digests = digests
        self._is_exempt = is_exempt
        self._observer = observer
        observer.expect_callers([*digests, UNKNOWN_CALLER])

    def admit(self, peer: str, shown: Sequence[str]) -> bool:
        """Whether the caller at the address ``peer``, who shows these values of the header, may ask. It is counted."""
        if self._is_exempt(peer):
            return True
        name = named({name: one.made for name, one in self._digests.items()}, shown)
        if name is None:
            self._observer.caller_refused(UNKNOWN_CALLER, peer)
            return False
        self._observer.caller_admitted(name)
        return True
