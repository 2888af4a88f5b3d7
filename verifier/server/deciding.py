"""What every port does with a request: read it, decide, and tell the observer."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

from verifier.core import traceparent
from verifier.core.reasons import Reason
from verifier.core.traceparent import TraceParent
from verifier.core.verdict import Denied, Verdict
from verifier.engine import Engine, Question
from verifier.observability.observer import Observer
from verifier.remembered import Remembered
from verifier.server.flight import Flight
from verifier.surfaces.identity_headers import IdentityHeaders
from verifier.surfaces.surface import Answer, Asked, Exchange, Request

# What a request id may be made of. No dot and not long: a token cannot travel into the log as one.
_REQUEST_ID = re.compile(r"[A-Za-z0-9:_=-]{1,64}", re.ASCII)

_UNTRUSTED = Denied(Reason.UNTRUSTED_PROXY, "this address is none of trusted_proxies, so it may not ask for others")
_OUT_OF_TIME = Denied(
    Reason.DEADLINE_EXCEEDED, "no decision was made in the time that the gateway waits", retry_after=1
)
_POSING = Denied(Reason.MALFORMED_REQUEST, "the gateway must drop headers with underscores that stand for ours")


AboutToken = Callable[[bytes, str, Callable[[str], bytes]], Remembered | Verdict | None]
"""From ``Authorization``, the request's id and its headers to what is known of the token, with its ``allowed``, or to a
verdict; None where it takes I/O. Raises ``ValueError``."""


class Decided(NamedTuple):
    """What came of a request: a verdict for each question, or that it was refused as a whole; and the answer, where
    it is written already."""

    verdicts: Sequence[Verdict]
    refused: Denied | None
    request_id: str
    answer: Answer | None = None


class Decisions:
    """Decides what surfaces read. ``clock`` gives seconds since 1970."""

    def __init__(
        self, engine: Engine, observer: Observer, identity: IdentityHeaders, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._observer = observer
        self.identity = identity
        self.clock = clock
        self._deciding: set[asyncio.Task[Verdict]] = set()
        self._waiting = Flight()

    def waiting(self, issuer_name: str) -> int:
        """How many decisions wait for something of the issuer now."""
        return self._engine.waiting(issuer_name)

    async def finished(self) -> None:
        """Returns when no decision waits for I/O."""
        await self._waiting.ended()

    async def stop(self) -> None:
        """End what nobody waits for any more."""
        for deciding in self._deciding:
            deciding.cancel()
        if self._deciding:
            await asyncio.wait(self._deciding)

    def decide_now(
        self, request: Request, read: Callable[[Request], Asked], *, surface: str, for_gateways: bool
    ) -> Decided | None:
        """What ``decide`` says, or None where it takes I/O or more than verdicts. Raises what ``read`` raises."""
        began = time.perf_counter()
        asked = self._asked(request, read, for_gateways=for_gateways)
        if isinstance(asked, Denied):
            return self._told(surface, request, (asked,), began, refused=asked)
        verdicts = None if isinstance(asked, Exchange) else _complete(self._now(asked))
        return None if verdicts is None else self._told(surface, request, verdicts, began)

    async def decide(
        self,
        request: Request,
        read: Callable[[Request], Asked],
        *,
        surface: str,
        for_gateways: bool,
        within: float | None = None,
    ) -> Decided:
        """A decision takes ``within`` seconds at most, where that is given.

        Raises nothing but ``CancelledError`` and what ``read`` raises.
        """
        began = time.perf_counter()
        asked = self._asked(request, read, for_gateways=for_gateways)
        if isinstance(asked, Denied):
            return self._told(surface, request, (asked,), began, refused=asked)
        if not isinstance(asked, Exchange):
            return self._told(surface, request, await self._all(asked, within), began)
        settled = asked.settle((await self._all((asked.question,), within))[0], self.clock())
        if settled.policy is not None:
            self._observer.policy_given(settled.policy)
        return self._told(surface, request, (settled.verdict,), began, name=asked.request_id, answer=settled.answer)

    def shortcut(self, surface: str) -> AboutToken:
        """For questions of ``surface`` that are about the token of an ``Authorization`` header alone. Does what
        ``decide_now`` does, without a ``Request``."""
        engine, observer = self._engine, self._observer
        durations = observer.durations(surface)
        allows = cache(partial(observer.allows, surface))

        def ask(authorization: bytes, request_id: str, header: Callable[[str], bytes]) -> Remembered | Verdict | None:
            if authorization[:7] != b"Bearer ":  # as it is usually spelled
                return None
            began = time.perf_counter()
            known = engine.repeat(authorization[7:])
            if known is not None:
                allows(known.identity.issuer_name).value += 1
                durations.add(time.perf_counter() - began)
                return known
            verdict = engine.decide_now(Question((authorization.decode("ascii"),)))
            if verdict is not None:
                parent = parent_of(header("traceparent").decode("latin-1"))  # any byte, once it is decided
                trace_id, kept = (None, None) if parent is None else (parent.trace_id, parent.sampled_trace_id)
                observer.decided(surface, verdict, request_id, trace_id)
                observer.took(surface, time.perf_counter() - began, kept)
            return verdict

        return ask

    def _asked(self, request: Request, read: Callable[[Request], Asked], *, for_gateways: bool) -> Asked:
        return (self._refused(request) if for_gateways else None) or read(request)

    def _told(
        self,
        surface: str,
        request: Request,
        verdicts: Sequence[Verdict],
        began: float,
        *,
        refused: Denied | None = None,
        name: str = "",
        answer: Answer | None = None,
    ) -> Decided:
        """Tell the observer. ``name`` is what whoever asks calls the request, where its body says so."""
        request_id, parent = _request_id(request, name), parent_in(request)
        trace_id, kept = (None, None) if parent is None else (parent.trace_id, parent.sampled_trace_id)
        for verdict in verdicts:
            self._observer.decided(surface, verdict, request_id, trace_id)
        self._observer.took(surface, time.perf_counter() - began, kept)
        return Decided(verdicts, refused, request_id, answer)

    def _refused(self, request: Request) -> Denied | None:
        """Why a gateway's question is not even read."""
        if not request.is_trusted:
            return _UNTRUSTED
        return _POSING if self.identity.is_posed_as(request.headers) else None

    def _now(self, asked: Sequence[Question | Denied]) -> list[Verdict | None]:
        return [question if isinstance(question, Denied) else self._engine.decide_now(question) for question in asked]

    async def _all(self, asked: Sequence[Question | Denied], within: float | None) -> Sequence[Verdict]:
        """The verdicts in order; those that take I/O wait side by side."""
        now = self._now(asked)
        made = _complete(now)
        if made is not None:
            return made
        with self._waiting:
            return await asyncio.gather(
                *(self._later(question, verdict, within) for question, verdict in zip(asked, now, strict=True))
            )

    async def _later(self, question: Question | Denied, verdict: Verdict | None, within: float | None) -> Verdict:
        if verdict is not None:
            return verdict
        if isinstance(question, Denied):
            return question
        if within is None:
            return await self._engine.decide(question)
        # What it brings is kept for the next time, so it goes on.
        deciding = asyncio.create_task(self._engine.decide(question))
        self._deciding.add(deciding)
        deciding.add_done_callback(self._deciding.discard)
        done, _ = await asyncio.wait({deciding}, timeout=max(0.0, within))
        return deciding.result() if done else _OUT_OF_TIME


def _complete(verdicts: Sequence[Verdict | None]) -> Sequence[Verdict] | None:
    """None where one is missing."""
    made = [verdict for verdict in verdicts if verdict is not None]
    return made if len(made) == len(verdicts) else None


def _request_id(request: Request, told: str) -> str:
    values = (told,) if told else request.values("x-request-id")
    return usable_id(values[0] if len(values) == 1 else "")


def usable_id(told: str) -> str:
    """What the client calls the request, if that can be told to others, or a new name."""
    return told if told and _REQUEST_ID.fullmatch(told) else next(_NAMES)


def _names() -> Iterator[str]:
    """Of 128 random bits each."""
    while True:
        bits = os.urandom(4_096).hex()
        for begin in range(0, len(bits), 32):
            yield bits[begin : begin + 32]


_NAMES = _names()


def parent_in(request: Request) -> TraceParent | None:
    """Whose part the request is; nobody's where that is said more than once."""
    values = request.values("traceparent")
    return parent_of(values[0]) if len(values) == 1 else None


def parent_of(header: str) -> TraceParent | None:
    return traceparent.parse(header) if header else None
