"""Tokens that are refused although everything about them holds: which ones, and whether this is one.

A revocation names its issuer by ``iss``, so that renaming an issuer in the configuration lifts nothing.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from verifier.core import claims, strict_json
from verifier.core.issuer import Issuer
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Principal


class Kind(StrEnum):
    """What a revocation goes by."""

    TOKEN_ID = "jti"  # noqa: S105 - a claim's name
    SUBJECT = "sub"
    SESSION = "sid"
    CLIENT = "client_id"
    CONTENT = "token"  # the digest of one token, for those without jti
    ISSUED_BEFORE = "issued_before"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry of the list. Times are in seconds since 1970.

    ``value`` is the claim's, the digest in hexadecimal, or the time before which tokens were issued.
    ``expires_at`` is when no token that it concerns can be alive any more.
    """

    id: str
    issuers: tuple[str, ...]
    kind: Kind
    value: str | float
    made_at: float
    expires_at: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Lift:
    """The revocation of this id is no more. ``expires_at`` is when it would have ended by itself."""

    id: str
    expires_at: float


class Revocations:
    """The list, indexed by what a token shows. ``state`` is another object after each entry that is added: a token that
    was not revoked is not as long as it is the same."""

    def __init__(self, held: Iterable[Revocation] = ()) -> None:
        self.state = object()
        self._held: dict[str, Revocation] = {}
        self._index: dict[tuple[Kind, str], set[str]] = {}
        self._issued_before: dict[str, float] = {}
        for revocation in held:
            self.add(revocation)

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(self._held.values())

    def get(self, revocation_id: str) -> Revocation | None:
        return self._held.get(revocation_id)

    def __contains__(self, revocation_id: str) -> bool:
        return revocation_id in self._held

    def add(self, revocation: Revocation) -> None:
        """Take in ``revocation``; one that is held already is replaced."""
        self.remove(revocation.id)
        self.state = object()
        self._held[revocation.id] = revocation
        if isinstance(revocation.value, str):
            self._index.setdefault((revocation.kind, revocation.value), set()).add(revocation.id)
        else:
            self._issued_before[revocation.id] = revocation.value

    def remove(self, revocation_id: str) -> bool:
        """Forget it. Returns whether it was held."""
        revocation = self._held.pop(revocation_id, None)
        if revocation is None:
            return False
        if isinstance(revocation.value, str):
            place = (revocation.kind, revocation.value)
            self._index[place].discard(revocation_id)
            if not self._index[place]:
                del self._index[place]
        else:
            del self._issued_before[revocation_id]
        return True

    def remove_ended(self, now: float) -> None:
        """Forget those that are over at ``now``."""
        for revocation in [held for held in self._held.values() if now >= held.expires_at]:
            self.remove(revocation.id)

    def check(self, principal: Principal, content: bytes, issuer: Issuer, now: float) -> None:
        """Raises ``Rejected``: ``revoked``. ``content`` is the digest of the token (``token.content_digest``)."""
        if not self._held:
            return
        for kind, value in _shown(principal, content, issuer):
            if any(self._concerns(found, issuer, now) for found in self._index.get((kind, value), ())):
                raise Rejected(Reason.REVOKED, "the token, its subject, its session or its client was revoked")
        for found, before in self._issued_before.items():
            # Without iat nobody can say that the token is not one of those meant.
            if (principal.issued_at is None or principal.issued_at < before) and self._concerns(found, issuer, now):
                raise Rejected(Reason.REVOKED, "tokens of this age were revoked; a new one is needed")

    def _concerns(self, revocation_id: str, issuer: Issuer, now: float) -> bool:
        """Also where the issuer goes by another name by now, as long as it still has one of those it had."""
        revocation = self._held[revocation_id]
        return now < revocation.expires_at and not issuer.identifiers.isdisjoint(revocation.issuers)


def pack(entry: Revocation | Lift) -> bytes:
    """For another replica to ``unpack``."""
    if isinstance(entry, Lift):
        return json.dumps({"lift": entry.id, "expires_at": entry.expires_at}, separators=(",", ":")).encode()
    return json.dumps({**asdict(entry), "issuers": list(entry.issuers)}, separators=(",", ":")).encode()


def unpack(entry: bytes) -> Revocation | Lift:
    """What was packed. Raises ``ValueError`` for anything else."""
    packed = strict_json.parse_object(entry)
    if "lift" in packed:
        return Lift(_text(packed["lift"]), _time(packed.get("expires_at")))
    kind = Kind(_text(packed.get("kind")))
    issuers = packed.get("issuers")
    if not isinstance(issuers, list) or not issuers:
        raise ValueError("not a revocation: it has no issuers")
    return Revocation(
        id=_text(packed.get("id")),
        issuers=tuple(dict.fromkeys(_text(iss) for iss in issuers)),
        kind=kind,
        value=_time(packed.get("value")) if kind is Kind.ISSUED_BEFORE else _text(packed.get("value")),
        made_at=_time(packed.get("made_at")),
        expires_at=_time(packed.get("expires_at")),
        reason=None if packed.get("reason") is None else _text(packed["reason"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a revocation: a text was expected")
    return value


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= claims.LATEST:
        raise ValueError("not a revocation: a time was expected")
    return float(value)


def _shown(principal: Principal, content: bytes, issuer: Issuer) -> Iterator[tuple[Kind, str]]:
    yield Kind.CONTENT, content.hex()
    if principal.token_id is not None:
        yield Kind.TOKEN_ID, principal.token_id
    if principal.subject is not None:
        yield Kind.SUBJECT, principal.subject
    session = principal.claims.get("sid")
    if isinstance(session, str):
        yield Kind.SESSION, session
    for client in claims.clients(principal.claims, issuer):
        yield Kind.CLIENT, client
