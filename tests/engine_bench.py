"""An engine in a test's hand: real keys, a real cache, and the world outside as plain values."""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from tests.support import NOW, claims, issuer, private_key, public_jwk, sign
from verifier.core import keys
from verifier.core.issuer import Issuer, Issuers
from verifier.core.keys import KeySet
from verifier.core.policy import Requirement
from verifier.core.reasons import Reason
from verifier.core.revocation import Revocations
from verifier.core.routes import Routes
from verifier.core.verdict import Denied, Verdict
from verifier.engine import ANY_ROUTE, Engine, Question
from verifier.ports import Limits, Sources, SourceUnavailable
from verifier.store.memory import MemoryCache


def key_set(*algorithms: str, which: int = 0, **members: str) -> KeySet:
    made = [public_jwk(private_key(a, which=which), **members) for a in algorithms or ("EdDSA",)]
    return keys.load_jwks({"keys": made})


@dataclass
class Source:
    """A key source whose state is plain to see. ``upcoming`` are the outcomes of the next refreshes."""

    keys: KeySet | None = field(default_factory=key_set)
    upcoming: list[KeySet | Exception] = field(default_factory=list)
    outage: SourceUnavailable | None = None
    refreshes: int = 0

    def current(self) -> KeySet | None:
        return self.keys

    def may_refresh(self) -> bool:
        return bool(self.upcoming)

    async def refresh(self) -> None:
        self.refreshes += 1
        await asyncio.sleep(0)
        outcome = self.upcoming.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        self.keys = outcome

    def shortfall(self) -> SourceUnavailable | None:
        return self.outage


@dataclass
class Seen:
    hits: list[bool] = field(default_factory=list)
    shared_hits: list[bool] = field(default_factory=list)
    introspections: list[tuple[str, str]] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)
    defects: list[Exception] = field(default_factory=list)

    def cache_lookup(self, tier: str, *, hit: bool) -> None:
        (self.hits if tier == "memory" else self.shared_hits).append(hit)

    def introspected(self, issuer: str, result: str, seconds: float) -> None:
        self.introspections.append((issuer, result))

    def introspection_failed(self, issuer: str, detail: str) -> None:
        self.outages.append(detail)

    def waiting(self, what: str, issuer: str, digest: bytes) -> AbstractContextManager[None]:
        return nullcontext()

    def defect(self, error: Exception) -> None:
        self.defects.append(error)


@dataclass
class Answering:
    """An introspection endpoint: by token, or ``always`` the same. ``gate`` holds its answers back."""

    answers: dict[str, Any] = field(default_factory=dict)
    always: Any = None
    asked: list[str] = field(default_factory=list)
    deadline: float = 1.0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def ask(self, token: str) -> Any:
        self.asked.append(token)
        await self.gate.wait()
        answer = self.always if self.always is not None else self.answers.get(token, {"active": False})
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class OtherReplicas:
    """What is shared: entries by digest. ``claimed`` are those that this replica took on itself."""

    entries: dict[bytes, bytes] = field(default_factory=dict)
    is_shared: bool = True
    claimed: list[bytes] = field(default_factory=list)
    released: list[bytes] = field(default_factory=list)
    recalls: int = 0

    async def recall(self, digest: bytes) -> bytes | None:
        self.recalls += 1
        return self.entries.get(digest)

    async def recall_or_claim(self, digest: bytes, seconds: float) -> bytes | None:
        if digest not in self.entries:
            self.claimed.append(digest)
        return await self.recall(digest)

    def keep(self, digest: bytes, entry: bytes, seconds: float) -> None:
        if seconds > 0:
            self.entries[digest] = entry

    def release(self, digest: bytes) -> None:
        self.released.append(digest)


@dataclass
class Revoked:
    held: Revocations = field(default_factory=Revocations)
    unread: SourceUnavailable | None = None

    def outage(self) -> SourceUnavailable | None:
        return self.unread


@dataclass
class Bench:
    """An engine and everything around it. ``now`` is the time, in seconds since 1970."""

    issuers: tuple[Issuer, ...] = field(default_factory=lambda: (issuer(),))
    source: Source = field(default_factory=Source)
    seen: Seen = field(default_factory=Seen)
    cache: MemoryCache = field(default_factory=lambda: MemoryCache(100, 300.0, lambda: 0.0))
    now: float = NOW
    waiting: int = 10
    introspectors: dict[str, Answering] = field(default_factory=dict)
    others: OtherReplicas = field(default_factory=OtherReplicas)
    revoked: Revoked = field(default_factory=Revoked)
    shared_algorithms: frozenset[str] = frozenset()
    routes: Routes = ANY_ROUTE

    @property
    def engine(self) -> Engine:
        return self.engine_with({i.name: self.source for i in self.issuers})

    def engine_with(self, keys: dict[str, Source]) -> Engine:
        return Engine(
            issuers=Issuers(self.issuers),
            sources=Sources(keys, self.introspectors, self.others, self.revoked),
            cache=self.cache,
            observer=self.seen,
            limits=Limits(4096, self.waiting, self.shared_algorithms),
            clock=lambda: self.now,
            routes=self.routes,
        )

    def ask(self, text: str, **demands: Any) -> Verdict | None:
        return self.engine.decide_now(Question(token=text, requirement=Requirement(**demands)))


def token(**changes: Any) -> str:
    return sign(claims(**changes), algorithm="EdDSA")


def reason(verdict: Verdict | None) -> Reason | None:
    return verdict.reason if isinstance(verdict, Denied) else None
