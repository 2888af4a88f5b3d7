"""The only meeting of the pure steps and I/O.

Rules of this module:

* One line builds ``Allowed``: the last of ``_conclude``. Whatever else happens, of whatever class, ends in
  ``Denied``.
* ``decide_now`` and ``decide`` are the same decision. The first answers None where I/O is needed; the second
  waits for it and asks again.
* What is cached is the verified identity, bound to the issuer's configuration and to the key that verified it.
  Standing (time, required claims) and the demands of the request are asked again on every hit.
* An outbound request is caused by nothing but "refresh the keys of a configured issuer", and the key source
  says how often.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from verifier.core import bearer, claims, policy, signature, token
from verifier.core.issuer import Issuer, Issuers
from verifier.core.keys import Key, KeySet
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Allowed, Denied, Principal, Verdict


class SourceUnavailable(Exception):  # noqa: N818 - reads as what it says
    """Something outside that a decision needs cannot be had now. ``retry_after`` is in seconds."""

    def __init__(self, detail: str, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, repr=False)
class Question:
    """What a surface asks: the credentials as they came, and what the request demands.

    ``authorization`` holds every value of that header; ``token`` is a bare token from a body.
    """

    authorization: tuple[str, ...] = ()
    token: str | None = None
    requirement: policy.Requirement = policy.NOTHING

    def __repr__(self) -> str:
        return "Question(…)"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the signature and the lasting claims of one token came to, and what that rests on."""

    issuer_name: str
    fingerprint: str
    key: Key
    outcome: Principal | Denied


class KeySource(Protocol):
    """The keys of one issuer."""

    def current(self) -> KeySet | None:
        """The set to trust now, or None."""

    def may_refresh(self) -> bool:
        """Whether ``refresh`` would do anything: a fetch is under way, or one is permitted."""

    async def refresh(self) -> None:
        """Join the one shared fetch. Raises ``SourceUnavailable``."""

    def shortfall(self) -> SourceUnavailable | None:
        """Why the set in hand, if any, cannot be called complete; None when it can."""


class IdentityCache(Protocol):
    """Identities by the digest of their token."""

    def get(self, digest: bytes) -> Identity | None: ...

    def put(self, digest: bytes, identity: Identity, *, good: bool) -> None: ...


class EngineObserver(Protocol):
    """Told what the engine sees; decides nothing."""

    def cache_lookup(self, *, hit: bool) -> None: ...

    def defect(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """``token_bytes``: the longest token looked at. ``waiting``: decisions that may wait for one issuer at once."""

    token_bytes: int = 16_384
    waiting: int = 1_024


class Engine:
    """Decides questions about tokens. ``clock`` gives seconds since 1970."""

    def __init__(
        self,
        *,
        issuers: Issuers,
        sources: Mapping[str, KeySource],
        cache: IdentityCache,
        observer: EngineObserver,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._issuers = issuers
        self._sources = sources
        self._cache = cache
        self._observer = observer
        self._limits = limits
        self._clock = clock
        self._waiting: Counter[str] = Counter()  # by issuer, so that one that is slow takes no room from another

    def decide_now(self, question: Question) -> Verdict | None:
        """The verdict, or None where it takes I/O. Never raises."""
        try:
            return self._guarded(question, may_wait=True)
        except _Wait:
            return None

    async def decide(self, question: Question) -> Verdict:
        """The verdict, waiting for keys where that helps. Raises nothing but ``CancelledError``."""
        try:
            return self._guarded(question, may_wait=True)
        except _Wait as wait:
            issuer = wait.issuer
        if self._waiting[issuer.name] >= self._limits.waiting:
            return Denied(Reason.OVERLOADED, "too many decisions are waiting", issuer.name, retry_after=1)
        self._waiting[issuer.name] += 1
        try:
            await self._sources[issuer.name].refresh()
        except SourceUnavailable:
            pass  # the source keeps it as its shortfall, which the second attempt reports where it matters
        except Exception as error:  # noqa: BLE001 - rule: every exception ends in a denial or a 503
            self._observer.defect(error)
        finally:
            self._waiting[issuer.name] -= 1
        return self._guarded(question, may_wait=False)

    def _guarded(self, question: Question, *, may_wait: bool) -> Verdict:
        try:
            return self._attempt(question, may_wait=may_wait)
        except Rejected as refusal:
            return Denied(refusal.reason, refusal.detail)
        except _Wait:
            raise
        except Exception as error:  # noqa: BLE001 - rule: a defect denies; a 5xx could be taken for an allow
            self._observer.defect(error)
            return Denied(Reason.MALFORMED_TOKEN, "the token could not be evaluated")

    def _attempt(self, question: Question, *, may_wait: bool) -> Verdict:
        text = _credential(question)
        token.check_size(text, self._limits.token_bytes)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        recalled = self._recall(digest)
        self._observer.cache_lookup(hit=recalled is not None)
        if recalled is not None:
            issuer, outcome = recalled
            return self._conclude(outcome, issuer, question.requirement)
        parsed = token.parse(text)
        issuer = self._issuers.match(parsed)
        try:
            identity = self._verify(parsed, issuer, may_wait=may_wait)
        except Rejected as refusal:
            return Denied(refusal.reason, refusal.detail, issuer.name)
        except SourceUnavailable as outage:
            return _unavailable(outage, issuer)
        self._cache.put(digest, identity, good=self._stands(identity.outcome, issuer))
        return self._conclude(identity.outcome, issuer, question.requirement)

    def _recall(self, digest: bytes) -> tuple[Issuer, Principal | Denied] | None:
        """A cached identity, if everything that it rests on still holds."""
        identity = self._cache.get(digest)
        if identity is None:
            return None
        issuer = self._issuers.by_name.get(identity.issuer_name)
        if issuer is None or issuer.fingerprint != identity.fingerprint:
            return None
        keys = self._sources[issuer.name].current()
        if keys is None or identity.key not in keys.held:
            return None
        return issuer, identity.outcome

    def _verify(self, parsed: token.Token, issuer: Issuer, *, may_wait: bool) -> Identity:
        """The steps that a cache hit saves. Refusals before the key is known are cheap and not cached."""
        signature.check_algorithm(parsed, issuer)
        key = self._choose(parsed, issuer, may_wait=may_wait)
        outcome: Principal | Denied
        try:
            signature.check_signature(parsed, key)
            outcome = claims.identify(parsed, issuer)
        except Rejected as refusal:
            outcome = Denied(refusal.reason, refusal.detail, issuer.name)
        return Identity(issuer.name, issuer.fingerprint, key, outcome)

    def _choose(self, parsed: token.Token, issuer: Issuer, *, may_wait: bool) -> Key:
        """The key that fits the token. Raises ``_Wait`` where fresh keys may bring it, and
        ``SourceUnavailable`` rather than ``unknown_key`` where the set in hand is known to be out of date."""
        source = self._sources[issuer.name]
        keys = source.current()
        try:
            if keys is None:
                raise SourceUnavailable("the issuer's keys are not known yet")
            return keys.choose(parsed.algorithm, parsed.key_id, parsed.unverified_claims["iss"])
        except (Rejected, SourceUnavailable):
            if may_wait and source.may_refresh():
                raise _Wait(issuer) from None
            outdated = source.shortfall()
            if outdated is not None:
                raise outdated from None
            raise

    def _stands(self, outcome: Principal | Denied, issuer: Issuer) -> bool:
        """Whether the identity goes among the good ones: the token is fine, whatever this request demands."""
        if isinstance(outcome, Denied):
            return False
        try:
            claims.check_standing(outcome, issuer, self._clock())
        except Rejected:
            return False
        return True

    def _conclude(self, outcome: Principal | Denied, issuer: Issuer, demands: policy.Requirement) -> Verdict:
        """What depends on the time and on the request."""
        if isinstance(outcome, Denied):
            return outcome
        try:
            claims.check_standing(outcome, issuer, self._clock())
            policy.check(demands, outcome)
        except Rejected as refusal:
            return Denied(refusal.reason, refusal.detail, issuer.name, demands.scopes)
        return Allowed(outcome)


class _Wait(Exception):  # noqa: N818 - not an error: fresh keys of ``issuer`` may change the answer
    def __init__(self, issuer: Issuer) -> None:
        super().__init__(issuer.name)
        self.issuer = issuer


def _credential(question: Question) -> str:
    if question.token is None:
        return bearer.token_text(question.authorization)
    if question.authorization:
        raise Rejected(
            Reason.MULTIPLE_CREDENTIALS,
            "send the token in the body or in the Authorization header, not in both",
        )
    return question.token


def _unavailable(outage: SourceUnavailable, issuer: Issuer) -> Denied:
    """The cause stays in the log: an address of ours is not the client's business."""
    detail = "the keys of the token's issuer cannot be had now"
    return Denied(Reason.KEYS_UNAVAILABLE, detail, issuer.name, retry_after=max(1, round(outage.retry_after)))
