"""A gateway between a verifier and an application, and what all three saw of one request."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.gateways.gateways import Gateway, running
from tests.e2e.gateways.peers import Application, Message, Verifier, application, exchange, request, verifier

#: Spelled so that somebody on the way might understand them differently.
TARGETS = (
    "/pets?a=1&b=%20",
    "//x",
    "/./x",
    "/a/../x",
    "/../x",
    "/%2e%2e/x",
    "/a%2Fb",
    "/a%252Fb",
    "/a\\b",
    "/a%5Cb",
    "/a;b?c;d",
    "/%78",
    "/%7E~",
    "/a%00b",
    "/x#f",
    "/x?",
    "/\xe9",
    "http://api.example/x?y",
    "http://api.example",
    "http://api.example?x",
    "http://api.example/a/../x",
    "http://api.example@other.example/x",
    "http://api.example\\@other.example/x",
    "http://other.example/x",
    "*",
)


@dataclass(frozen=True)
class Seen:
    """``seconds`` is how long the answer took."""

    answer: Message
    asked: Sequence[Message]
    got: Sequence[Message]
    seconds: float


@dataclass(frozen=True)
class Scene:
    gateway: Gateway
    verifier: Verifier
    application: Application

    def send(self, sent: bytes) -> Seen:
        self.verifier.asked()
        answer, got, seconds = self.send_unasked(sent)
        return Seen(answer, self.verifier.asked(), got, seconds)

    def send_unasked(self, sent: bytes) -> tuple[Message, Sequence[Message], float]:
        """The same while the verifier cannot tell what it was asked."""
        self.application.got.clear()
        began = time.monotonic()
        answer = exchange(self.gateway.port, sent)
        return answer, list(self.application.got), time.monotonic() - began

    def findings(self) -> Iterator[str]:
        """A table of what the verifier was told and what the application got, for each of ``TARGETS``."""
        yield "| Sent | Answer | The verifier is told | The application gets |"
        yield "|---|---|---|---|"
        for target in TARGETS:
            seen = self.send(request(target, token="good"))
            told = ", ".join(code(f"{self.gateway.told(one)} of {self.gateway.told_host(one)}") for one in seen.asked)
            got = ", ".join(code(f"{one.target} of {one.values('Host')[0]}") for one in seen.got)
            yield f"| {code(target)} | {seen.answer.status} | {told} | {got} |"


def code(text: str) -> str:
    return "`" + text.encode("latin-1").decode("ascii", "backslashreplace").replace("|", "\\|") + "`"


@contextmanager
def scene(kind: type[Gateway], folder: Path) -> Iterator[Scene]:
    with application() as app, verifier() as asked, running(kind(folder, asked.port, app.port)) as gateway:
        yield Scene(gateway, asked, app)
