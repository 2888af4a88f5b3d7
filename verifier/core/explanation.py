"""Every check of a decision, in its order, with what was expected and what was found.

For the owner of a token, not for the wire: it shows the token's claims, and goes on after a refusal. The checks
are the engine's own functions; a test holds that the first one to fail gives the engine's reason.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from verifier.core import claim_path, claims, near_miss, policy, signature
from verifier.core import token as tokens
from verifier.core.issuer import Issuer, Issuers, RequiredClaim
from verifier.core.keys import Key, KeySet
from verifier.core.reasons import Reason, Rejected
from verifier.core.revocation import Revocations
from verifier.core.routes import Rule, check_access
from verifier.core.token import Token
from verifier.core.verdict import Principal


class Outcome(StrEnum):
    HOLDS = "holds"
    FAILS = "fails"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Step:
    """One check. ``hint`` says what to do, where something near was meant."""

    check: str
    outcome: Outcome
    expected: str
    found: str
    reason: Reason | None = None
    hint: str | None = None


KeysOf = Callable[[Issuer], KeySet | str]
"""An issuer's keys, or why they cannot be had."""

Besides = Callable[[Principal, Token, Issuer], Iterable[Step]]
"""Checks that only a running service can make, before what the request demands."""


def explain(
    text: str,
    issuers: Issuers,
    keys_of: KeysOf,
    now: float,
    *,
    max_bytes: int,
    demands: policy.Requirement,
    besides: Besides = lambda *_: (),
) -> tuple[Step, ...]:
    """The steps of the decision about ``text`` at ``now`` (seconds since 1970)."""
    size = _step("size", f"at most {max_bytes} bytes", f"{len(text)} bytes", lambda: tokens.check_size(text, max_bytes))
    form = _step("form", "header.payload.signature in base64url, strict JSON", "", lambda: tokens.parse(text))
    if form.outcome is Outcome.FAILS:
        return size, form
    token = tokens.parse(text)
    form = replace(form, found=f"alg {token.algorithm!r}, kid {token.key_id!r}, typ {token.type!r}")
    issuer_step = _issuer_step(token, issuers)
    if issuer_step.outcome is Outcome.FAILS:
        return size, form, issuer_step
    issuer = issuers.match(token)
    return (
        size,
        form,
        issuer_step,
        *_key_steps(token, issuer, keys_of),
        *_identity_steps(token, issuer),
        *_standing_steps(token, issuer, now, demands, besides),
    )


def revocation_step(held: Revocations, now: float) -> Besides:
    """Whether it was revoked."""

    def steps(principal: Principal, token: Token, issuer: Issuer) -> Iterator[Step]:
        found = f"{len(held)} revocations are in force, none of which concerns it"
        step = _step("revocation", "not revoked", found, lambda: held.check(principal, token.content, issuer, now))
        yield step if step.outcome is Outcome.HOLDS else replace(step, found="it is revoked")

    return steps


def route_step(rule: Rule) -> Besides:
    """What the route says, whoever asks."""
    route = "no route matches" if rule.route is None else f"{rule.route.name}: {rule.route.pattern}"

    def steps(_principal: Principal, _token: Token, _issuer: Issuer) -> Iterator[Step]:
        yield _step("route", "one that somebody may take", route, lambda: check_access(rule))

    return steps


def demand_steps(demands: policy.Requirement, now: float) -> Besides:
    """What the request demands besides its route."""
    return lambda principal, _token, issuer: _demand_steps(principal, demands, issuer, now)


def only_asked(text: str, issuers: Issuers) -> tuple[Issuer, ...]:
    """The issuers whose word alone says whether the token is good (RFC 7662); none where its signature does."""
    named = issuers.of_opaque(text)
    if named:
        return named
    try:
        issuer = issuers.match(tokens.parse(text))
    except Rejected:
        return ()
    return () if issuer.has_keys else (issuer,)


def refused_by(steps: tuple[Step, ...]) -> Reason | None:
    """The reason of the decision: that of the first check that fails."""
    return next((step.reason for step in steps if step.outcome is Outcome.FAILS), None)


def _issuer_step(token: Token, issuers: Issuers) -> Step:
    known = sorted(identifier for issuer in issuers for identifier in issuer.identifiers)
    found = token.unverified_claims.get("iss")
    step = _step("issuer", _any_of(known), repr(found), lambda: issuers.match(token))
    if step.outcome is Outcome.FAILS and isinstance(found, str):
        return replace(step, hint=near_miss.explain(known, found))
    return step


def _key_steps(token: Token, issuer: Issuer, keys_of: KeysOf) -> tuple[Step, ...]:
    algorithm = _step(
        "algorithm",
        _any_of(sorted(issuer.algorithms)),
        repr(token.algorithm),
        lambda: signature.check_algorithm(token, issuer),
    )
    keys = keys_of(issuer)
    if isinstance(keys, str):
        unavailable = Step("key", Outcome.FAILS, "the issuer's keys", keys, Reason.KEYS_UNAVAILABLE)
        return algorithm, unavailable, _not_reached("signature", "needs the key")
    chosen: list[Key] = []
    kid = f"one that fits kid {token.key_id!r} and {token.algorithm}"
    iss = token.unverified_claims["iss"]
    key = _step("key", kid, _describe(keys), lambda: chosen.append(keys.choose(token.algorithm, token.key_id, iss)))
    if not chosen or algorithm.outcome is Outcome.FAILS:
        return algorithm, key, _not_reached("signature", "needs the key")
    checked = _step("signature", "made with that key", "", lambda: signature.check_signature(token, chosen[0]))
    found = "it is" if checked.outcome is Outcome.HOLDS else "made with another, or the token was changed"
    return algorithm, key, replace(checked, found=found)


def _describe(keys: KeySet) -> str:
    held = ", ".join(f"{key.kid!r} ({key.algorithm or key.type.curve or key.type.kty})" for key in keys.keys)
    return held or "no usable key"


_Claims = Mapping[str, Any]
_Describe = Callable[[_Claims, Issuer], str]


def _claim(name: str) -> _Describe:
    return lambda found, _issuer: f"{name} {found.get(name)!r}"


def _claims(found: _Claims, names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {found.get(name)!r}" for name in names) or "nothing"


IDENTITY_TEXTS: Mapping[Callable[[_Claims, Issuer], object], tuple[str, _Describe, _Describe]] = {
    claims.check_issuer: (
        "signed issuer",
        lambda _found, issuer: _any_of(sorted(issuer.identifiers)),
        _claim("iss"),
    ),
    claims.check_dates: (
        "dates",
        lambda *_: "exp, and nbf and iat where present, in seconds since 1970",
        lambda found, _issuer: _claims(found, ("exp", "nbf", "iat")),
    ),
    claims.check_texts: (
        "names",
        lambda *_: "sub and jti are strings where present",
        lambda found, _issuer: _claims(found, ("sub", "jti")),
    ),
    claims.check_audience: (
        "audience",
        lambda _found, issuer: "any" if issuer.audiences is None else _any_of(sorted(issuer.audiences)),
        _claim("aud"),
    ),
    claims.check_client: (
        "client",
        lambda _found, issuer: _any_of(sorted(issuer.client_ids)) if issuer.client_ids else "any",
        lambda found, issuer: _claims(found, issuer.client_id_claims),
    ),
    claims.check_scopes: (
        "scopes",
        lambda _found, issuer: f"strings under {', '.join(map(claim_path.render, issuer.scope_claims))}",
        lambda found, issuer: ", ".join(repr(claim_path.find(found, path)) for path in issuer.scope_claims),
    ),
}
"""A name, and what is expected and found, for each check of ``claims.IDENTITY``."""


def _identity_steps(token: Token, issuer: Issuer) -> tuple[Step, ...]:
    type_step = _step(
        "type", _any_of(sorted(issuer.token_types)), f"typ {token.type!r}", lambda: claims.check_type(token, issuer)
    )
    found = token.unverified_claims
    return type_step, *(_identity_step(check, found, issuer) for check in claims.IDENTITY)


def _identity_step(check: Callable[[_Claims, Issuer], object], found: _Claims, issuer: Issuer) -> Step:
    name, expected, shown = IDENTITY_TEXTS[check]
    step = _step(name, expected(found, issuer), shown(found, issuer), lambda: check(found, issuer))
    if step.reason is Reason.WRONG_AUDIENCE:
        named = (claims.audiences(found) or ())[: near_miss.MOST]
        hints = (near_miss.explain(sorted(issuer.audiences or ()), audience) for audience in named)
        return replace(step, hint=next((hint for hint in hints if hint), None))
    return step


_StandingText = Callable[[Principal, Issuer, float], str]

STANDING_TEXTS: Mapping[Callable[[Principal, Issuer, float], None], tuple[str, _StandingText, _StandingText]] = {
    claims.check_expiry: (
        "expiry",
        lambda _principal, issuer, _now: f"exp in the future (leeway {issuer.leeway:g} s)",
        lambda principal, _issuer, now: _distance(principal.expires_at, now),
    ),
    claims.check_not_before: (
        "not before",
        lambda _principal, issuer, _now: f"nbf in the past, or absent (leeway {issuer.leeway:g} s)",
        lambda principal, _issuer, now: _distance(principal.not_before, now),
    ),
    claims.check_issued_at: (
        "issued at",
        lambda _principal, issuer, _now: f"iat in the past, or absent (leeway {issuer.leeway:g} s)",
        lambda principal, _issuer, now: _distance(principal.issued_at, now),
    ),
    claims.check_age: (
        "age",
        lambda _principal, issuer, _now: "any" if issuer.max_age is None else f"at most {issuer.max_age:g} s since iat",
        lambda principal, _issuer, now: _distance(principal.issued_at, now),
    ),
    claims.check_required_claims: (
        "required claims",
        lambda _principal, issuer, _now: (
            "; ".join(
                f"{claim_path.render(required.path)} is {_any_of([str(v) for v in required.values])}"
                for required in issuer.required_claims
            )
            or "none"
        ),
        lambda principal, issuer, _now: "; ".join(
            f"{claim_path.render(required.path)} {claim_path.find(principal.claims, required.path)!r}"
            for required in issuer.required_claims
        ),
    ),
}
"""A name, and what is expected and found, for each check of ``claims.STANDING``."""


def _standing_steps(
    token: Token, issuer: Issuer, now: float, demands: policy.Requirement, besides: Besides
) -> tuple[Step, ...]:
    # To go on after a wrong audience or client, ask an issuer that does not mind them.
    easy = replace(
        issuer,
        audiences=None,
        client_ids=frozenset(),
    )
    try:
        principal = claims.principal(token.unverified_claims, easy)
    except Rejected:
        names = [*(text[0] for text in STANDING_TEXTS.values()), *DEMANDS]
        return tuple(_not_reached(name, "a claim above cannot be read") for name in names)
    standing = tuple(
        _step(
            name,
            expected(principal, issuer, now),
            found(principal, issuer, now),
            _bind(check, principal, issuer, now),
        )
        for check, (name, expected, found) in ((check, STANDING_TEXTS[check]) for check in claims.STANDING)
    )
    return (*standing, *besides(principal, token, issuer), *_demand_steps(principal, demands, issuer, now))


DEMANDS = ("demanded audience", "demanded scopes")


def _demand_steps(principal: Principal, demands: policy.Requirement, issuer: Issuer, now: float) -> tuple[Step, ...]:
    """In the order of ``policy.check``. What only routes demand is left out where it is not demanded."""
    audience = _step(
        DEMANDS[0],
        _any_of(demands.audiences) if demands.audiences else "any",
        ", ".join(principal.audiences),
        lambda: policy.check_audience(demands, principal),
    )
    scopes = _step(
        DEMANDS[1],
        " ".join([*demands.scopes, *([f"one of {', '.join(demands.any_scopes)}"] if demands.any_scopes else [])])
        or "none",
        " ".join(principal.scopes),
        lambda: policy.check_scopes(demands, principal),
    )
    return audience, *_route_steps(principal, demands, issuer, now), scopes


def _route_steps(principal: Principal, demands: policy.Requirement, issuer: Issuer, now: float) -> Iterator[Step]:
    if demands.max_auth_age is not None:
        yield _step(
            "demanded sign-in",
            f"at most {demands.max_auth_age:g} s ago",
            f"auth_time {principal.claims.get('auth_time', 'is missing')}",
            lambda: policy.check_authentication(demands, principal, issuer.leeway, now),
        )
    if demands.issuers or demands.client_ids:
        yield _step(
            "demanded origin",
            _any_of((*demands.issuers, *demands.client_ids)),
            f"{principal.issuer_name}, {principal.client_id}",
            lambda: policy.check_origin(demands, principal),
        )
    for required in demands.claims:
        yield _step(
            f"demanded claim {claim_path.render(required.path)}",
            _any_of([str(value) for value in required.values]),
            str(claim_path.find(principal.claims, required.path)),
            _demanded(required, principal),
        )


def _demanded(required: RequiredClaim, principal: Principal) -> Callable[[], None]:
    return lambda: policy.check_claims(policy.Requirement(claims=(required,)), principal)


def _bind(
    check: Callable[[Principal, Issuer, float], None], principal: Principal, issuer: Issuer, now: float
) -> Callable[[], None]:
    return lambda: check(principal, issuer, now)


def _step(name: str, expected: str, found: str, run: Callable[[], Any]) -> Step:
    try:
        run()
    except Rejected as refusal:
        return Step(name, Outcome.FAILS, expected, found or refusal.detail, refusal.reason, refusal.detail)
    return Step(name, Outcome.HOLDS, expected, found)


def _not_reached(name: str, cause: str) -> Step:
    return Step(name, Outcome.NOT_REACHED, cause, "")


def _any_of(texts: list[str] | tuple[str, ...]) -> str:
    return " or ".join(repr(text) for text in texts)


def _distance(date: float | None, now: float) -> str:
    if date is None:
        return "absent"
    seconds = date - now
    return f"{date:.0f}, {abs(seconds):.0f} seconds {'ahead' if seconds >= 0 else 'ago'}"
