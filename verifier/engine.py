"""The only meeting of the pure steps and I/O.

Rules of this module:

* One line builds ``Allowed``: the last of ``_conclude``. Whatever else happens, of whatever class, ends in
  ``Denied``. Rules that are only reported are asked about what is allowed, and say nothing that decides.
* ``decide_now`` and ``decide`` are the same decision. The first answers None where I/O is needed; the second
  waits for it and asks again.
* What is cached is the identity, bound to the issuer's configuration and to what vouches for it: the key that
  verified it, the issuer's answer until its time is over, or both. Standing, revocations and the demands of the
  request are asked again on every hit that is not repeated.
* ``repeat`` decides nothing. It gives an allow of ``decide_now`` about a token by itself again, as long as everything
  that it went by is the very same; in every other case the question is put again.
* A token causes an outbound request in two ways only: keys of a configured issuer are refreshed, as often as its
  key source permits; an issuer with introspection is asked about it, once for all who wait. Nothing in a token
  becomes an address.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from verifier.core import bearer, claims, policy, routes, signature, token, trial
from verifier.core.identity import Identity, holds, pack, unpack
from verifier.core.issuer import Issuer, Issuers
from verifier.core.keys import Key
from verifier.core.reasons import Reason, Rejected
from verifier.core.routes import Access, Routes, Rule, Target
from verifier.core.verdict import Allowed, Denied, Principal, Verdict, WouldDeny
from verifier.inquiry import Inquiries, Inquiry
from verifier.ports import EngineObserver, IdentityCache, Limits, Sources, SourceUnavailable
from verifier.remembered import Basis, Remembered

ANY_ROUTE = Routes((), default=Access.AUTHENTICATED)
"""Every good token may do everything."""


class Question(NamedTuple):
    """What a surface asks: the credentials as they came, and what the request demands.

    ``authorization`` holds every value of that header; ``token`` is a bare token from a body. ``target`` is what the
    request wants to do, None where only the token is asked about. ``wants_reach``: and what else would be allowed.
    ``tried`` is what rules on trial are asked about where ``target`` is None.
    """

    authorization: tuple[str, ...] = ()
    token: str | None = None
    requirement: policy.Requirement = policy.NOTHING
    target: Target | None = None
    wants_reach: bool = False
    tried: Target | None = None

    def __repr__(self) -> str:
        return "Question(…)"

    @property
    def is_bare(self) -> bool:
        """Whether nothing is asked but whether the token is good."""
        return self.target is None and self.requirement is policy.NOTHING and not self.wants_reach


class Engine:
    """Decides questions about tokens. ``clock`` gives seconds since 1970."""

    def __init__(
        self,
        *,
        issuers: Issuers,
        sources: Sources,
        cache: IdentityCache,
        observer: EngineObserver,
        limits: Limits,
        clock: Callable[[], float],
        routes: Routes = ANY_ROUTE,
    ) -> None:
        self._routes = routes
        self._issuers = issuers
        self._sources = sources
        self._cache = cache
        self._observer = observer
        self._limits = limits
        self._clock = clock
        self._waiting: Counter[str] = Counter()  # by issuer, so that one that is slow takes no room from another
        self._inquiries = Inquiries(sources, observer, self._held, clock)
        self._bases: dict[str, Basis] = {}
        self._has_trials = routes.trial is not None or any(issuer.trial is not None for issuer in issuers)

    def waiting(self, issuer_name: str) -> int:
        """How many decisions wait for something of the issuer now."""
        return self._waiting[issuer_name]

    async def stop(self) -> None:
        """End inquiries that nobody waits for any more."""
        await self._inquiries.stop()

    def decide_now(self, question: Question) -> Verdict | None:
        """The verdict, or None where it takes I/O. Never raises."""
        try:
            return self._guarded(question, _NOTHING_YET)
        except _Wait:
            return None

    def repeat(self, text: bytes) -> Remembered | None:
        """What is known of the token ``text``, with an ``allowed`` that still counts; None where the question must be
        put. Never raises."""
        try:
            known = self._cache.get(sha256(text).digest())
            if known is None or known.basis is None or not known.since <= self._clock() < known.ends:
                return None
            if known.basis is not self._basis(known.identity.issuer_name):
                return None
        except Exception as error:  # noqa: BLE001 - rule: the question is then put
            self._observer.defect(error)
            return None
        self._observer.cache_lookup("memory", hit=True)
        return known

    def _basis(self, issuer_name: str) -> Basis | None:
        """What allows of the issuer's tokens rest on, besides the token and the time; the same object as long as it is.
        None where there are no keys, or revocations cannot be followed."""
        source = self._sources.keys.get(issuer_name)
        keys = None if source is None else source.current()
        if keys is None or self._sources.revocations.outage() is not None:
            return None
        state = self._sources.revocations.held.state
        known = self._bases.get(issuer_name)
        if known is None or known.keys is not keys or known.revocations is not state:
            known = self._bases[issuer_name] = Basis(keys, state)
        return known

    async def decide(self, question: Question) -> Verdict:
        """The verdict, waiting for what it takes. Raises nothing but ``CancelledError``."""
        progress = _Progress()
        while True:  # once for each ``_Step`` at most, as ``progress.done`` keeps them from being taken again
            try:
                return self._guarded(question, progress)
            except _Wait as found:
                wait = found
            if not progress.done:
                self._observer.cache_lookup("memory", hit=False)
            progress.done.add(wait.step)
            name = wait.issuer.name
            if self._waiting[name] >= self._limits.waiting:
                return Denied(Reason.OVERLOADED, "too many decisions are waiting", name, retry_after=1)
            self._waiting[name] += 1
            try:
                with self._observer.waiting(wait.step, name, wait.digest):
                    await self._take(wait, progress)
            except Exception as error:  # noqa: BLE001 - rule: every exception ends in a denial or a 503
                self._observer.defect(error)
            finally:
                self._waiting[name] -= 1

    def _guarded(self, question: Question, progress: "_Progress") -> Verdict:
        try:
            return self._attempt(question, progress)
        except Rejected as refusal:
            return Denied(refusal.reason, refusal.detail, hint=refusal.hint)
        except _Wait:
            raise
        except Exception as error:  # noqa: BLE001 - rule: a defect denies; a 5xx could be taken for an allow
            self._observer.defect(error)
            return Denied(Reason.MALFORMED_TOKEN, "the token could not be evaluated")

    def _attempt(self, question: Question, progress: "_Progress") -> Verdict:
        rule = self._routes.rule(question.target)
        is_needed = rule.access is not Access.ANONYMOUS
        text = bearer.credential(question.authorization, question.token, needed=is_needed)
        if text is None:
            return self._conclude(None, None, question, rule)
        token.check_size(text, self._limits.token_bytes)
        known: Remembered | None = None
        identity = self._found(progress)
        if identity is None:
            digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
            known = self._known(digest)
            identity = self._evaluate(text, digest, progress) if known is None else known.identity
            if not progress.done:  # what must wait is out of here, and its miss counted by ``decide``
                self._observer.cache_lookup("memory", hit=known is not None)
        if isinstance(identity, Denied):
            return identity
        issuer = self._issuers.by_name[identity.issuer_name]
        verdict = self._conclude(identity, issuer, question, rule)
        # What is repeated is not tried again, so nothing is that rules on trial have a say in.
        if known is not None and isinstance(verdict, Allowed) and question.is_bare and issuer.trial is None:
            known.allow(verdict, self._clock(), self._basis(issuer.name))
        return verdict

    def _found(self, progress: "_Progress") -> Identity | Denied | None:
        """What was waited for, unless its key was taken back meanwhile."""
        found = progress.found
        if isinstance(found, Identity) and found.key is not None:
            issuer = self._issuers.by_name[found.issuer_name]
            return found if found.key in self._held(issuer) else None
        return found

    def _known(self, digest: bytes) -> Remembered | None:
        """What is known of a token, if everything that it rests on still holds."""
        known = self._cache.get(digest)
        if known is None:
            return None
        issuer = self._issuers.by_name.get(known.identity.issuer_name)
        return known if holds(known.identity, issuer, self._held, self._clock()) else None

    def _held(self, issuer: Issuer) -> frozenset[Key]:
        source = self._sources.keys.get(issuer.name)
        keys = None if source is None else source.current()
        return frozenset() if keys is None else keys.held

    def _evaluate(self, text: str, digest: bytes, progress: "_Progress") -> Identity | Denied:
        """The work that a cache hit saves. Raises ``_Wait`` where it takes I/O."""
        candidates = self._issuers.of_opaque(text)
        if candidates:
            content = token.content_digest(text, opaque=True)
            return self._ask(Inquiry(text, digest, content, candidates), progress)
        parsed = token.parse(text)
        issuer = self._issuers.match(parsed)
        content = parsed.content
        if not issuer.has_keys:
            return self._ask(Inquiry(text, digest, content, (issuer,)), progress)
        try:
            identity = self._verify(parsed, digest, content, issuer, progress)
        except Rejected as refusal:
            return Denied(refusal.reason, refusal.detail, issuer.name, hint=refusal.hint)
        except SourceUnavailable as outage:
            return _unavailable(Reason.KEYS_UNAVAILABLE, outage, issuer.name)
        if issuer.asked_about_jwts and isinstance(identity.outcome, Principal):
            return self._ask(Inquiry(text, digest, content, (issuer,), signed=identity), progress)
        good = self._stands(identity.outcome, issuer)
        self._cache.put(digest, identity, good=good)
        if good and self._shares(parsed.algorithm, issuer):
            self._sources.shared.keep(digest, pack(identity), self._limits.shared_for)
        return identity

    def _ask(self, inquiry: Inquiry, progress: "_Progress") -> Denied:
        """Raises ``_Wait``; an answer that did not come although it was waited for is a defect."""
        if _Step.ANSWER in progress.done:
            raise LookupError("the inquiry came to nothing")
        raise _Wait(_Step.ANSWER, inquiry.candidates[0], inquiry.digest, inquiry)

    def _verify(
        self, parsed: token.Token, digest: bytes, content: bytes, issuer: Issuer, progress: "_Progress"
    ) -> Identity:
        """Whether the issuer signed it. Refusals before the key is known are cheap and not cached."""
        signature.check_algorithm(parsed, issuer)
        if self._shares(parsed.algorithm, issuer) and _Step.RECALL not in progress.done:
            raise _Wait(_Step.RECALL, issuer, digest)
        key = self._choose(parsed, issuer, digest, progress)
        outcome: Principal | Denied
        try:
            signature.check_signature(parsed, key)
            outcome = claims.identify(parsed, issuer)
        except Rejected as refusal:
            outcome = Denied(refusal.reason, refusal.detail, issuer.name, hint=refusal.hint)
        return Identity(issuer.name, issuer.fingerprint, key, content, outcome, header=parsed.header)

    def _shares(self, algorithm: str, issuer: Issuer) -> bool:
        return algorithm in self._limits.shared_algorithms and not issuer.asked_about_jwts

    def _choose(self, parsed: token.Token, issuer: Issuer, digest: bytes, progress: "_Progress") -> Key:
        """The key that fits the token. Raises ``_Wait`` where fresh keys may bring it, and ``SourceUnavailable``
        rather than ``unknown_key`` where the set in hand is known to be out of date."""
        source = self._sources.keys[issuer.name]
        keys = source.current()
        try:
            if keys is None:
                raise SourceUnavailable("the issuer's keys are not known yet")
            return keys.choose(parsed.algorithm, parsed.key_id, parsed.unverified_claims["iss"])
        except (Rejected, SourceUnavailable):
            if _Step.KEYS not in progress.done and source.may_refresh():
                raise _Wait(_Step.KEYS, issuer, digest) from None
            outdated = source.shortfall()
            if outdated is not None:
                raise outdated from None
            raise

    async def _take(self, wait: "_Wait", progress: "_Progress") -> None:
        """Do what ``wait`` asks for, and note what came of it."""
        issuer = wait.issuer
        if wait.step is _Step.KEYS:
            with suppress(SourceUnavailable):  # kept by the source as its shortfall, reported where it matters
                await self._sources.keys[issuer.name].refresh()
        elif wait.step is _Step.RECALL:
            entry = await self._sources.shared.recall(wait.digest)
            found = None if entry is None else unpack(entry, (issuer,), self._held, self._clock())
            self._observer.cache_lookup("shared", hit=found is not None)
            if found is not None:
                self._cache.put(wait.digest, found, good=self._stands(found.outcome, issuer))
            progress.found = found
        elif wait.inquiry is not None:
            answer = await self._inquiries.ask(wait.inquiry)
            if isinstance(answer, Identity):
                self._cache.put(wait.digest, answer, good=self._stands(answer.outcome, issuer))
            progress.found = answer

    def _stands(self, outcome: Principal | Denied, issuer: Issuer) -> bool:
        """Whether the identity goes among the good ones: the token is fine, whatever this request demands."""
        if isinstance(outcome, Denied):
            return False
        try:
            claims.check_standing(outcome, issuer, self._clock())
        except Rejected:
            return False
        return True

    def _conclude(self, identity: Identity | None, issuer: Issuer | None, question: Question, rule: Rule) -> Verdict:
        """What depends on the time, on revocations and on the request. Nobody, without an identity, may only take
        what is for everybody, and meets no demand."""
        principal, good_until, reach, now = None, policy.NEVER, None, 0.0
        standing: Principal | None = None
        if identity is None or issuer is None:
            if rule.access is not Access.ANONYMOUS or question.requirement != policy.NOTHING:
                return Denied(Reason.MISSING_TOKEN, bearer.MISSING)
            reach = self._routes.reach(None, 0, 0) if question.wants_reach else None
        elif isinstance(identity.outcome, Denied):
            return identity.outcome
        else:
            principal, now = identity.outcome, self._clock()
            demands = (question.requirement, rule.requirement)
            try:
                claims.check_standing(principal, issuer, now)
                unfollowed = self._sources.revocations.outage()
                if unfollowed is not None:
                    return _unavailable(Reason.REVOCATIONS_UNAVAILABLE, unfollowed, issuer.name)
                self._sources.revocations.held.check(principal, identity.content, issuer, now)
                policy.check(question.requirement, principal, issuer.leeway, now)
                standing = principal
                reach = self._routes.reach(principal, issuer.leeway, now) if question.wants_reach else None
                routes.check_access(rule)
                policy.check(rule.requirement, principal, issuer.leeway, now)
                good_until = claims.stands_until(principal, issuer)
                if demands != _NO_DEMANDS:
                    good_until = min(good_until, *(policy.met_until(demand, principal) for demand in demands))
            except Rejected as refusal:
                demanded = (*question.requirement.scopes, *rule.requirement.scopes)
                return Denied(refusal.reason, refusal.detail, issuer.name, demanded, principal=standing, reach=reach)
        tried = self._tried(identity, issuer, question, now) if self._has_trials else ()
        return Allowed(principal, good_until, reach, tried)

    def _tried(
        self, identity: Identity | None, issuer: Issuer | None, question: Question, now: float
    ) -> tuple[WouldDeny, ...]:
        """What rules that are only reported say of what is allowed, and stays so whatever becomes of them."""
        try:
            target = question.target or question.tried
            return trial.would_deny(identity, issuer, self._routes, target, now)
        except Exception as error:  # noqa: BLE001 - rule: a trial changes no decision
            self._observer.defect(error)
            return ()


class _Step(StrEnum):
    """What a decision may wait for, once each."""

    RECALL = "shared"  # whether another replica verified the token
    KEYS = "keys"  # fresh ones
    ANSWER = "introspection"  # what the issuer says about the token


@dataclass(slots=True)
class _Progress:
    """What one decision has waited for already, and what it got: its identity, or that there is none."""

    done: set[_Step] = field(default_factory=set)
    found: Identity | Denied | None = None


_NOTHING_YET = _Progress()
"""Of a decision that does not wait. Nobody changes it."""


class _Wait(Exception):  # noqa: N818 - not an error: after ``step`` the answer may be another
    def __init__(self, step: _Step, issuer: Issuer, digest: bytes, inquiry: Inquiry | None = None) -> None:
        super().__init__(step.name)
        self.step = step
        self.issuer = issuer
        self.digest = digest
        self.inquiry = inquiry


def _unavailable(reason: Reason, outage: SourceUnavailable, issuer_name: str) -> Denied:
    """The cause stays in the log: an address of ours is not the client's business."""
    return Denied(reason, _UNAVAILABLE[reason], issuer_name, retry_after=max(1, round(outage.retry_after)))


_NO_DEMANDS = (policy.NOTHING, policy.NOTHING)

_UNAVAILABLE = {
    Reason.KEYS_UNAVAILABLE: "the keys of the token's issuer cannot be had now",
    Reason.REVOCATIONS_UNAVAILABLE: "the list of revoked tokens cannot be followed now",
}
