"""From what an administrator asks for to a ``Revocation``."""

from collections.abc import Mapping
from typing import Any

from verifier.core import token as tokens
from verifier.core.claims import LATEST
from verifier.core.issuer import Issuer, Issuers
from verifier.core.reasons import Rejected
from verifier.core.revocation import Kind, Revocation

KINDS = tuple(str(kind) for kind in Kind)
_MEMBERS = frozenset({"issuer", *KINDS, "reason", "expires_at"})
_LONGEST_TEXT = 4_096
_LONGEST_TOKEN = 262_144
_SLACK = 2
"""Leeways that a token with ``max_age`` can gain: issued that much in the future, and accepted that much later."""

LONGEST_LEEWAY = 600.0
"""Seconds. Of whatever configuration comes after this one: a revocation must not end before its token does by that."""

End = tuple[Kind, str | float, float]
"""What to go by, its value, and when the last token that it concerns is over (seconds since 1970)."""


def revocation(asked: Mapping[str, Any], issuers: Issuers, *, new_id: str, now: float, keep: float) -> Revocation:
    """The revocation that ``asked`` describes: ``issuer`` (its name or its ``iss``), one of ``KINDS``, and, where
    wanted, ``reason`` and ``expires_at``.

    ``keep`` is how long it stays at least where the token does not say when it is over, in seconds. The issuer's
    ``max_age`` can only make it longer: another configuration may permit more.

    Raises ``ValueError``, saying what was expected.
    """
    unknown = sorted(set(asked) - _MEMBERS)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not known; there are {', '.join(sorted(_MEMBERS))}")
    given = [kind for kind in Kind if str(kind) in asked]
    if len(given) != 1:
        raise ValueError(f"give one of {', '.join(KINDS)}")
    value = asked[str(given[0])]
    issuer = _issuer(asked.get("issuer"), value if given[0] is Kind.CONTENT else None, issuers)
    longest = max(keep, 0.0 if issuer.max_age is None else issuer.max_age + _SLACK * LONGEST_LEEWAY + 1.0)
    if given[0] is Kind.CONTENT:
        kind, known_by, end = _one_token(_text(value, "token", _LONGEST_TOKEN), issuer, issuers, now + longest)
    else:
        kind, known_by, end = _many_tokens(given[0], value, issuer, now, longest)
    expires_at = _time(asked["expires_at"], "expires_at") if "expires_at" in asked else end
    if expires_at <= now:
        raise ValueError("the last token that this could concern is over already")
    reason = None if asked.get("reason") is None else _text(asked["reason"], "reason")
    return Revocation(new_id, tuple(sorted(issuer.identifiers)), kind, known_by, now, expires_at, reason)


def _issuer(named: object, text: object, issuers: Issuers) -> Issuer:
    if named is None and isinstance(text, str):
        candidates = issuers.of_opaque(text)
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            try:
                return issuers.match(tokens.parse(text))
            except Rejected as refusal:
                raise ValueError(f"token: {refusal.detail}") from None
    for issuer in issuers:
        if isinstance(named, str) and (named == issuer.name or named in issuer.identifiers):
            return issuer
    raise ValueError(f"issuer: expected {' or '.join(sorted(issuers.by_name))}, or its iss")


def _many_tokens(kind: Kind, value: object, issuer: Issuer, now: float, longest: float) -> End:
    if kind is Kind.ISSUED_BEFORE:
        before = _time(value, "issued_before")
        if before > now + issuer.leeway:
            raise ValueError("issued_before: lies in the future (it is in seconds since 1970)")
        return kind, before, before + longest
    return kind, _text(value, str(kind)), now + longest


def _one_token(text: str, issuer: Issuer, issuers: Issuers, end: float) -> End:
    """By ``jti`` where there is one; else by its content. Its signature is not asked about: revoking a token that
    nobody signed does no harm."""
    candidates = issuers.of_opaque(text)
    if candidates:
        if issuer not in candidates:
            names = " or ".join(candidate.name for candidate in candidates)
            raise ValueError(f"token: it is opaque, and {names} is asked about it; name that as issuer")
        return Kind.CONTENT, tokens.content_digest(text, opaque=True).hex(), end
    try:
        claims = tokens.parse(text).unverified_claims
    except Rejected as refusal:
        raise ValueError(f"token: {refusal.detail}") from None
    named = claims.get("iss")
    if not isinstance(named, str) or named not in issuer.identifiers:
        raise ValueError("token: its iss is not that of the issuer")
    content = tokens.content_digest(text, opaque=False).hex()
    if not issuer.has_keys:  # only its answers count, and they need not repeat what the token says
        return Kind.CONTENT, content, end
    if "exp" in claims:
        end = _time(claims["exp"], "the exp of the token") + LONGEST_LEEWAY
    if isinstance(claims.get("jti"), str):
        return Kind.TOKEN_ID, claims["jti"], end
    return Kind.CONTENT, content, end


def _text(value: object, name: str, longest: int = _LONGEST_TEXT) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise ValueError(f"{name}: expected a text of up to {longest} characters")
    return value


def _time(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise ValueError(f"{name}: expected a number of seconds since 1970")
    return float(value)
