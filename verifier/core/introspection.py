"""From an issuer's answer about a token (RFC 7662 §2.2) to the same ``Principal`` that a signature leads to."""

from collections.abc import Mapping, Set
from typing import Any

from verifier.core import claims
from verifier.core.issuer import Issuer
from verifier.core.reasons import Reason, Rejected
from verifier.core.verdict import Denied, Principal

_BEARER = "bearer"


def identify(answer: Mapping[str, Any], issuer: Issuer, signed: Principal | None = None) -> Principal:
    """The principal of a token that ``issuer`` calls active.

    With ``signed``, the principal that the token's own signature vouches for, both must speak of the same token;
    what the answer says then counts over what the token says, but for times that would make it live longer.

    Raises ``Rejected``: ``inactive``, ``wrong_token_type``, and as ``claims.principal`` does.
    """
    if answer.get("active") is not True:  # neither 1 nor "true": the boolean (RFC 7662 §2.2)
        raise Rejected(Reason.INACTIVE, "the issuer says that the token is not active")
    check_type(answer, issuer)
    told = {name: value for name, value in answer.items() if name != "active"}
    if signed is None:
        if len(issuer.identifiers) == 1:  # whoever was asked is the issuer, unless it names itself otherwise
            told.setdefault("iss", next(iter(issuer.identifiers)))
        return claims.principal(told, issuer)
    for name in ("iss", "sub", "jti", "sid", *issuer.client_id_claims):
        if name in told and told[name] != signed.claims.get(name, told[name]):
            raise Rejected(Reason.INACTIVE, f"the issuer's answer names another {name} than the token")
    both = {**_but_for_scopes(signed, told, issuer), **told}
    return claims.principal({**both, **_shorter_life(claims.principal(both, issuer), signed)}, issuer)


def _shorter_life(one: Principal, other: Principal) -> dict[str, float]:
    """The times of a token that lives only while both do."""
    issued = [time for time in (one.issued_at, other.issued_at) if time is not None]
    valid = [time for time in (one.not_before, other.not_before) if time is not None]
    times = {"exp": min(one.expires_at, other.expires_at)}
    return times | ({"iat": min(issued)} if issued else {}) | ({"nbf": max(valid)} if valid else {})


def _but_for_scopes(signed: Principal, told: Mapping[str, Any], issuer: Issuer) -> Mapping[str, Any]:
    """What the token says, without its scopes where the answer has some: they may be fewer by now, and under
    another name."""
    scopes = {path[0] for path in issuer.scope_claims}
    if scopes.isdisjoint(told):
        return signed.claims
    return {name: value for name, value in signed.claims.items() if name not in scopes}


def counts_until(outcome: Principal | Denied, issuer: Issuer, now: float) -> float:
    """How long the answer may be kept, in seconds since 1970: never past the token's own end, a refusal shorter."""
    policy = issuer.introspection
    if policy is None:
        return now
    if isinstance(outcome, Denied) or now >= outcome.expires_at + issuer.leeway:
        return now + policy.denial_ttl
    return min(now + policy.ttl, outcome.expires_at)


def check_type(answer: Mapping[str, Any], issuer: Issuer) -> None:
    """An access token, to be used as a bearer token: issuers answer about refresh tokens and ID tokens too.

    ``token_type`` is that of RFC 6749 §7.1 and so never ``DPoP`` here; ``typ`` and ``token_use`` are what some
    issuers add.

    Raises ``Rejected``: ``wrong_token_type``.
    """
    allowed: tuple[tuple[str, Set[str]], ...] = (
        ("token_type", {_BEARER}),
        ("typ", {_BEARER, *issuer.token_types}),
        ("token_use", {"access", "access_token"}),
    )
    for name, accepted in allowed:
        value = answer.get(name)
        if name in answer and (not isinstance(value, str) or claims.media_type(value) not in accepted):
            raise Rejected(Reason.WRONG_TOKEN_TYPE, f"the issuer's answer has a {name} that bearer tokens do not have")
