"""What the issuers say about one token: asked once, however many wait, here and on the other replicas."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from verifier.core import introspection
from verifier.core.identity import HeldKeys, Identity, pack, unpack
from verifier.core.issuer import Issuer
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Denied, Principal
from verifier.ports import EngineObserver, NoAnswer, NotAsked, Sources, SourceUnavailable


@dataclass(frozen=True, slots=True, repr=False)
class Inquiry:
    """A token that ``candidates`` are asked about, in their order. ``content`` is what it can be revoked by, and
    ``signed`` what its signature came to, where it has one."""

    text: str
    digest: bytes
    content: bytes
    candidates: tuple[Issuer, ...]
    signed: Identity | None = None


class Inquiries:
    """Those under way. ``clock`` gives seconds since 1970."""

    def __init__(
        self,
        sources: Sources,
        observer: EngineObserver,
        held: HeldKeys,
        clock: Callable[[], float],
    ) -> None:
        self._sources = sources
        self._observer = observer
        self._held = held
        self._clock = clock
        self._under_way: dict[bytes, asyncio.Task[Identity | Denied]] = {}

    async def ask(self, inquiry: Inquiry) -> Identity | Denied:
        """What the candidates say about the token, or that it cannot be known now.

        Whoever waits may give up without ending it for the others.
        """
        task = self._under_way.get(inquiry.digest)
        if task is None:
            task = asyncio.create_task(self._inquire(inquiry), name="inquiry")
            self._under_way[inquiry.digest] = task
            task.add_done_callback(lambda _done: self._under_way.pop(inquiry.digest))
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """End those that nobody waits for any more."""
        for task in [*self._under_way.values()]:
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _inquire(self, inquiry: Inquiry) -> Identity | Denied:
        entry = await self._recall(inquiry)
        known = None if entry is None else unpack(entry, inquiry.candidates, self._held, self._clock())
        if self._sources.shared.is_shared:
            self._observer.cache_lookup("shared", hit=known is not None)
        if known is not None:
            return known
        found: Identity | Denied | None = None
        try:
            found = await self._ask_in_order(inquiry)
            return found
        finally:
            if isinstance(found, Identity) and found.until is not None:
                self._sources.shared.keep(inquiry.digest, pack(found), found.until - self._clock())
            self._sources.shared.release(inquiry.digest)

    async def _recall(self, inquiry: Inquiry) -> bytes | None:
        """What another replica found out; None where it is our turn to."""
        asked = [issuer.introspection for issuer in inquiry.candidates if issuer.introspection is not None]
        if any(policy.ttl <= 0 for policy in asked):  # nothing to wait for: each would only get its turn
            return await self._sources.shared.recall(inquiry.digest)
        deadlines = [self._sources.introspectors[issuer.name].deadline for issuer in inquiry.candidates]
        return await self._sources.shared.recall_or_claim(inquiry.digest, max(deadlines))

    async def _ask_in_order(self, inquiry: Inquiry) -> Identity | Denied:
        """The first issuer that calls the token active has decided. An outage is not a no."""
        outage: Denied | None = None
        inactive: Identity | Denied | None = None
        for issuer in inquiry.candidates:
            began = monotonic()
            try:
                answer = await self._sources.introspectors[issuer.name].ask(inquiry.text)
            except SourceUnavailable as error:
                outage = self._unavailable(error, issuer, monotonic() - began)
                continue
            except NoAnswer:
                self._observer.introspected(issuer.name, "inactive", monotonic() - began)
                inactive = inactive or Denied(Reason.INACTIVE, "the issuer cannot tell what the token is", issuer.name)
                continue
            identity = self._judge(answer, issuer, inquiry)
            is_active = not _is_inactive(identity)
            self._observer.introspected(issuer.name, "active" if is_active else "inactive", monotonic() - began)
            if is_active:
                return identity
            inactive = inactive or identity
        found = outage or inactive
        if found is None:
            raise LookupError("nobody was asked")
        return found

    def _unavailable(self, error: SourceUnavailable, issuer: Issuer, seconds: float) -> Denied:
        if isinstance(error, NotAsked):
            self._observer.introspected(issuer.name, "not_asked", seconds)
        else:
            self._observer.introspected(issuer.name, "error", seconds)
            self._observer.introspection_failed(issuer.name, error.detail)
        detail = "the issuer cannot be asked about the token now"
        retry_after = max(1, round(error.retry_after))
        return Denied(Reason.INTROSPECTION_UNAVAILABLE, detail, issuer.name, retry_after=retry_after)

    def _judge(self, answer: Mapping[str, Any], issuer: Issuer, inquiry: Inquiry) -> Identity:
        signed, now = inquiry.signed, self._clock()
        outcome: Principal | Denied
        own = signed.outcome if signed is not None and isinstance(signed.outcome, Principal) else None
        try:
            outcome = introspection.identify(answer, issuer, own)
        except Rejected as refusal:
            outcome = Denied(refusal.reason, refusal.detail, issuer.name, hint=refusal.hint)
        return Identity(
            issuer_name=issuer.name,
            fingerprint=issuer.fingerprint,
            key=None if signed is None else signed.key,
            content=inquiry.content,
            outcome=outcome,
            until=introspection.counts_until(outcome, issuer, now),
            header=None if signed is None else signed.header,
        )


def _is_inactive(identity: Identity) -> bool:
    return isinstance(identity.outcome, Denied) and identity.outcome.reason is Reason.INACTIVE
