"""The values that travel between a server and a surface."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from verifier.core.verdict import Denied, Verdict
from verifier.engine import Question

_OTHER = re.compile(r"[^a-z0-9-]")


class Request(NamedTuple):
    """One HTTP request. ``headers`` are by lower-case name, with every value in the order sent. ``is_trusted``: it
    comes from a proxy that may say what was asked of it."""

    method: str
    path: str
    headers: Mapping[str, Sequence[str]]
    body: bytes = b""
    is_trusted: bool = True

    def __repr__(self) -> str:
        return f"Request({self.method} …)"

    def values(self, name: str) -> tuple[str, ...]:
        """All values of the header ``name`` (lower case)."""
        return tuple(self.headers.get(name, ()))


def taken_for(names: Iterable[str]) -> Iterator[str]:
    """The names with dashes that an application (CGI, WSGI) takes ``names`` (lower case) for, where they have other
    characters."""
    return (_OTHER.sub("-", name) for name in names if _OTHER.search(name))


class Answer(NamedTuple):
    """One HTTP answer. The server adds the date, the length and the request's id."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


ANY = ("*",)
"""Every method."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A verdict, and how it is told. ``policy`` is the kind of policy that was given, if any."""

    verdict: Verdict
    answer: Answer
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question, or its refusal, where more than the verdict goes into the answer. ``settle`` takes the verdict and
    the time (seconds since 1970); it may turn an allow that cannot be told into a denial, and nothing into an allow.
    ``request_id`` is what whoever asks calls the request, where the body tells it."""

    question: Question | Denied
    settle: Callable[[Verdict, float], Settled]
    request_id: str = ""


Asked = Sequence[Question | Denied] | Exchange | Denied
"""Questions, some of which may have failed already; or a refusal of the request as a whole."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path. ``content_type`` is that of the body it takes, None where it takes none.

    ``path`` stands for all that begin with it where it ends with a slash, and ``methods`` is ``ANY`` where every one
    is taken. ``write`` gets one verdict for each question that ``read`` asked, in order, and is None where that is
    always an ``Exchange``, which writes its own; ``refuse`` gets what ``read`` refused. ``for_gateways``: an allow
    carries the identity headers. ``openapi`` describes one method (OpenAPI 3.1, Operation Object), None where it would
    say nothing. ``holdable`` names the headers that an allow depends on, where a gateway may hold it (if that is
    configured); none where it may not. ``unreadable`` is the status for a request to here that HTTP itself refuses,
    where the usual ones would be an error to the gateway. ``asks_token_only``:
    ``read`` asks about the token of the ``Authorization`` header and nothing else, and ``write`` is
    ``answer.decision``; the fast lane then calls neither.
    """

    path: str
    methods: tuple[str, ...]
    content_type: str | None
    read: Callable[[Request], Asked]
    openapi: Mapping[str, Any]
    write: Callable[[Sequence[Verdict]], Answer] | None = None
    refuse: Callable[[Denied], Answer] | None = None
    for_gateways: bool = False
    holdable: Callable[[Request], tuple[str, ...]] = lambda _: ()
    unreadable: int | None = None
    asks_token_only: bool = False


@dataclass(frozen=True, slots=True)
class Surface:
    """``name`` is its label in metrics and logs."""

    name: str
    endpoints: tuple[Endpoint, ...]
