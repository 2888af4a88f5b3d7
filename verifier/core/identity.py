"""What the signature and the lasting claims of one token came to: what is cached, here and between replicas.

An entry that comes back from elsewhere is claims and what they rest on. The principal is made of them anew, by
the same checks, so an entry cannot say more than a token of that issuer could.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from verifier.core import claims, strict_json
from verifier.core.issuer import Issuer
from verifier.core.keys import Key
from verifier.core.reasons import Reason, Rejected
from verifier.core.token import Header
from verifier.core.verdict import Denied, Principal


class Identity(NamedTuple):
    """``key`` verified it; None where the issuer's word alone did. ``content`` is the token's digest, by which it
    can be revoked. ``until``, in seconds since 1970, is when the issuer must be asked again; None where it was not
    asked. ``header`` is the token's, None where it is no JWT or the issuer's word counts alone: for rules on trial.
    """

    issuer_name: str
    fingerprint: str
    key: Key | None
    content: bytes
    outcome: Principal | Denied
    until: float | None = None
    header: Header | None = None


HeldKeys = Callable[[Issuer], frozenset[Key]]
"""The keys that an issuer's tokens are trusted by now."""


def holds(identity: Identity, issuer: Issuer | None, held: HeldKeys, now: float) -> bool:
    """Whether everything that ``identity`` rests on is still so: configuration, key, and the issuer's answer."""
    return (
        issuer is not None
        and issuer.fingerprint == identity.fingerprint
        and (identity.until is None or now < identity.until)
        and (identity.key in held(issuer) if identity.key is not None else issuer.introspection is not None)
    )


def pack(identity: Identity) -> bytes:
    """For another replica to ``unpack``."""
    key, outcome = identity.key, identity.outcome
    return json.dumps(
        {
            "issuer": identity.issuer_name,
            "fingerprint": identity.fingerprint,
            "key": None if key is None else [key.kid, key.algorithm, key.issuer, key.thumbprint],
            "content": identity.content.hex(),
            "claims": outcome.claims if isinstance(outcome, Principal) else None,
            "denied": [outcome.reason, outcome.detail] if isinstance(outcome, Denied) else None,
            "until": identity.until,
            "header": identity.header,
        },
        separators=(",", ":"),
    ).encode()


def unpack(entry: bytes, candidates: Iterable[Issuer], held: HeldKeys, now: float) -> Identity | None:
    """The identity that was packed, if all that it rests on holds here and now; None otherwise, or for nonsense."""
    try:
        packed = strict_json.parse_object(entry)
        issuer = {candidate.name: candidate for candidate in candidates}[packed["issuer"]]
        identity = Identity(
            issuer_name=issuer.name,
            fingerprint=packed["fingerprint"],
            key=_key(packed["key"], held(issuer)),
            content=bytes.fromhex(packed["content"]),
            outcome=_outcome(packed, issuer),
            until=packed["until"],
            header=_header(packed["header"]),
        )
        return identity if holds(identity, issuer, held, now) else None
    except (LookupError, TypeError, ValueError, Rejected):
        return None


def _key(packed: list[str | None] | None, held: frozenset[Key]) -> Key | None:
    if packed is None:
        return None
    for key in held:
        if [key.kid, key.algorithm, key.issuer, key.thumbprint] == packed:
            return key
    raise LookupError("the key is not trusted here")  # never None, which would mean that no key was needed


def _header(packed: list[str | None] | None) -> Header | None:
    if packed is None:
        return None
    algorithm, key_id, kind = packed
    if not isinstance(algorithm, str) or not all(isinstance(one, str | None) for one in (key_id, kind)):
        raise TypeError("a header has texts")
    return Header(algorithm, key_id, kind)


def _outcome(packed: dict[str, Any], issuer: Issuer) -> Principal | Denied:
    if packed["denied"] is not None:
        reason, detail = packed["denied"]
        return Denied(Reason(reason), detail, issuer.name)
    if not isinstance(packed["claims"], dict):
        raise TypeError("claims are an object")
    return claims.principal(packed["claims"], issuer)
