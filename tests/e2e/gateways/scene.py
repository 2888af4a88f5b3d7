"""A gateway between a verifier and an application, and what all three saw of one request."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.gateways.gateways import Gateway, running
from tests.e2e.gateways.peers import (
    Application,
    Message,
    Relay,
    Verifier,
    application,
    exchange,
    grpc_relay,
    relay,
    request,
    verifier,
)
from tests.gateway_table import IDENTITY
from tests.support import claims
from verifier.core.paths import Form

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

#: For the verifier, so that it lets pass what gateways may change on the way.
EVERY_FORM = tuple(Form)


@dataclass(frozen=True)
class Seen:
    """``seconds`` is how long the answer took."""

    answer: Message
    asked: Sequence[Message]
    got: Sequence[Message]
    seconds: float


@dataclass(frozen=True)
class Scene:
    """``relay`` is what the gateway asks, and hands the question on; it has no part where the gateway asks directly."""

    gateway: Gateway
    verifier: Verifier
    relay: Relay
    application: Application

    def send(self, sent: bytes) -> Seen:
        self.relay.asked.clear()
        self.application.got.clear()
        began = time.monotonic()
        answer = exchange(self.gateway.port, sent)
        seconds = time.monotonic() - began
        return Seen(answer, list(self.relay.asked), list(self.application.got), seconds)

    def let_pass_rightly(self, seen: Seen) -> bool:
        """Whether the application got one request, the verifier allows that very one, and the identity is its."""
        if len(seen.got) != 1:
            return False
        [got] = seen.got
        body = b"" if got.first[0] == "HEAD" else self.application.body
        judged = self.verifier.judges(got)
        return (seen.answer.status, seen.answer.body, judged.status) == (200, body, 200) and identity(got) == identity(
            judged
        )

    def findings(self) -> Iterator[str]:
        """A table of what the verifier was told and what the application got, for each of ``TARGETS``."""
        yield "| Sent | Answer | The verifier is told | The application gets |"
        yield "|---|---|---|---|"
        for target in TARGETS:
            seen = self.send(request(target, token="writer"))
            told = ", ".join(code(f"{self.gateway.told(one)} of {self.gateway.told_host(one)}") for one in seen.asked)
            got = ", ".join(code(f"{one.target} of {one.values('Host')[0]}") for one in seen.got)
            yield f"| {code(target)} | {seen.answer.status} | {told} | {got} |"


def code(text: str) -> str:
    return "`" + text.encode("latin-1").decode("ascii", "backslashreplace").replace("|", "\\|") + "`"


def nobody_passed(seen: Seen, status: int) -> bool:
    return (seen.answer.status, len(seen.got)) == (status, 0)


def identity(message: Message) -> dict[str, list[str]]:
    """The identity headers as an application sees them that takes dashes and underscores for the same."""
    found: dict[str, list[str]] = {name: [] for name in IDENTITY}
    names = {name.lower(): name for name in IDENTITY}
    for name, value in message.headers:
        known = names.get(name.lower().replace("_", "-"))
        if known is not None and value:  # nginx takes an empty header away
            found[known].append(value)
    return found


def _relay(kind: type[Gateway], asked: Verifier) -> AbstractContextManager[Relay]:
    return grpc_relay(asked.grpc_port) if kind.over_grpc else relay(asked.port)


@contextmanager
def scene(kind: type[Gateway], folder: Path, *, relayed: bool = True, **changes: Any) -> Iterator[Scene]:
    """``changes`` are to the verifier's configuration. Unless ``relayed``, the gateway asks it without a relay."""
    active = json.dumps({"active": True, **claims(time.time(), iss="https://slow.example")}).encode()
    with (
        application() as app,
        application(active, delay=3.0) as introspection,
        verifier(folder, introspection.port, **changes) as asked,
        _relay(kind, asked) as between,
        running(kind(folder, between.port if relayed else between.verifier, app.port)) as gateway,
    ):
        yield Scene(gateway, asked, between, app)
