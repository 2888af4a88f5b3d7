"""From a token whose signature holds to a ``Principal`` (RFC 7519 §4.1, RFC 9068 §4).

After ``check_type``, two tables in the order in which they are asked. ``IDENTITY`` is what a token says once and
for all: its outcome is cached with the identity. ``STANDING`` depends on the time and is asked on every decision,
cached or not. Each check is a function of its own, so that ``explain`` can run the very same ones; those of
``IDENTITY`` return what they read, so that each claim is read once.

Nothing in this module may run before ``core/signature.py`` agreed, or the issuer was asked.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, cast

from verifier.core import claim_path, near_miss
from verifier.core.issuer import ClaimValue, Issuer
from verifier.core.reasons import Reason, Rejected
from verifier.core.token import Header, Token
from verifier.core.verdict import Principal

LATEST = 253_402_300_799
"""The last second of the year 9999. A date beyond is a mistake of unit or an attack on arithmetic."""


def identify(token: Token, issuer: Issuer) -> Principal:
    """The principal of a token that ``issuer`` signed. Its standing is still to be checked.

    Raises ``Rejected``: ``wrong_token_type``, and as ``principal`` does.
    """
    check_type(token, issuer)
    return principal(token.unverified_claims, issuer)


def principal(claims: Mapping[str, Any], issuer: Issuer) -> Principal:
    """The principal of claims that ``issuer`` vouches for: by its signature, or by having been asked.

    Raises ``Rejected``: ``untrusted_issuer``, ``malformed_claim``, ``missing_claim``, ``wrong_audience``,
    ``wrong_client``.
    """
    claims = _with_shared_texts(claims)
    iss = check_issuer(claims, issuer)  # in the order of ``IDENTITY``
    expires_at, not_before, issued_at = check_dates(claims, issuer)
    subject, token_id = check_texts(claims, issuer)
    named = check_audience(claims, issuer)
    found = check_client(claims, issuer)
    return Principal(
        issuer=iss,
        issuer_name=issuer.name,
        subject=subject,
        client_id=found[0] if found else None,
        scopes=check_scopes(claims, issuer),
        audiences=named,
        expires_at=expires_at,
        not_before=not_before,
        issued_at=issued_at,
        token_id=token_id,
        claims=claims,
    )


def check_standing(principal: Principal, issuer: Issuer, now: float) -> None:
    """Whether the principal stands at ``now`` (seconds since 1970).

    Raises ``Rejected``: ``expired``, ``not_yet_valid``, ``missing_claim``, ``too_old``, ``claim_not_satisfied``.
    """
    for check in STANDING:
        check(principal, issuer, now)


def stands_until(principal: Principal, issuer: Issuer) -> float:
    """When a principal that stands does so no more (seconds since 1970), clocks that differ aside."""
    if issuer.max_age is None or principal.issued_at is None:
        return principal.expires_at
    return min(principal.expires_at, principal.issued_at + issuer.max_age)


def check_type(token: Token | Header, issuer: Issuer) -> None:
    """``typ`` (RFC 8725 §3.11). A token without one is a plain ``JWT`` (RFC 7519 §5.1)."""
    if media_type("JWT" if token.type is None else token.type) not in issuer.token_types:
        raise Rejected(
            Reason.WRONG_TOKEN_TYPE, f"the typ of the token must be {' or '.join(sorted(issuer.token_types))}"
        )


def media_type(typ: str) -> str:
    """``application/at+jwt`` and ``AT+JWT`` are ``at+jwt`` (RFC 7515 §4.1.9)."""
    return typ.lower().removeprefix("application/")


def check_issuer(claims: Mapping[str, Any], issuer: Issuer) -> str:
    """``iss`` once more, now that it is signed: a key must never speak for another issuer."""
    claimed = claims.get("iss")
    if not isinstance(claimed, str) or claimed not in issuer.identifiers:
        raise Rejected(Reason.UNTRUSTED_ISSUER, "the iss of the token is not that of its key")
    return claimed


def check_dates(claims: Mapping[str, Any], _issuer: Issuer) -> tuple[float, float | None, float | None]:
    """``exp`` is there, and every date is a number that a clock can show (RFC 7519 §2). The other two are ``nbf`` and
    ``iat``."""
    expires_at, not_before, issued_at = _date(claims, "exp"), _date(claims, "nbf"), _date(claims, "iat")
    if expires_at is None:
        raise Rejected(Reason.MISSING_CLAIM, "the token has no exp; tokens that never expire are refused")
    return expires_at, not_before, issued_at


def check_texts(claims: Mapping[str, Any], _issuer: Issuer) -> tuple[str | None, str | None]:
    """``sub`` and ``jti`` are strings where present (RFC 7519 §4.1.2, §4.1.7)."""
    return _text(claims, "sub"), _text(claims, "jti")


def check_audience(claims: Mapping[str, Any], issuer: Issuer) -> tuple[str, ...]:
    """``aud`` names us. Without one, only a configured client (``check_client``) can stand in for it."""
    named = audiences(claims)
    if named is None:
        if issuer.audiences is not None and not issuer.client_ids:
            raise Rejected(Reason.MISSING_CLAIM, "the token has no aud")
    elif issuer.audiences is not None and issuer.audiences.isdisjoint(named):
        accepted = issuer.audiences
        hint = near_miss.slip(near_miss.folded(accepted), named) or near_miss.listed(accepted)
        raise Rejected(Reason.WRONG_AUDIENCE, "the aud of the token is none of those accepted here", hint)
    return named or ()


def check_client(claims: Mapping[str, Any], issuer: Issuer) -> tuple[str, ...]:
    """Every claim that names the client names one of the configured clients (RFC 9068 §2.2, OIDC Core §2)."""
    named = clients(claims, issuer)  # raises for one that is no string, whoever is accepted
    if not issuer.client_ids:
        return named
    if not named:
        raise Rejected(
            Reason.MISSING_CLAIM,
            f"the token names no client (expected {' or '.join(issuer.client_id_claims)})",
        )
    if not issuer.client_ids.issuperset(named):
        hint = near_miss.listed(issuer.client_ids)
        raise Rejected(Reason.WRONG_CLIENT, "the client of the token is none of those accepted here", hint)
    return named


def check_scopes(claims: Mapping[str, Any], issuer: Issuer) -> tuple[str, ...]:
    """Each configured scope claim is a string or an array of strings where present (RFC 8693 §4.2)."""
    return scopes(claims, issuer)


def check_expiry(principal: Principal, issuer: Issuer, now: float) -> None:
    """``exp`` (RFC 7519 §4.1.4): *on or after* it, the token is over."""
    if now >= principal.expires_at + issuer.leeway:
        raise Rejected(Reason.EXPIRED, f"the token expired {now - principal.expires_at:.0f} seconds ago")


def check_not_before(principal: Principal, issuer: Issuer, now: float) -> None:
    """``nbf`` (RFC 7519 §4.1.5)."""
    if principal.not_before is not None and now < principal.not_before - issuer.leeway:
        raise Rejected(Reason.NOT_YET_VALID, f"the token is valid in {principal.not_before - now:.0f} seconds (nbf)")


def check_issued_at(principal: Principal, issuer: Issuer, now: float) -> None:
    """``iat`` (RFC 7519 §4.1.6): a token from the future comes from a wrong clock or a forger."""
    if principal.issued_at is not None and now < principal.issued_at - issuer.leeway:
        raise Rejected(
            Reason.NOT_YET_VALID, f"the token will be issued in {principal.issued_at - now:.0f} seconds (iat)"
        )


def check_age(principal: Principal, issuer: Issuer, now: float) -> None:
    """The issuer's ``max_age``, counted from ``iat``."""
    if issuer.max_age is None:
        return
    if principal.issued_at is None:
        raise Rejected(Reason.MISSING_CLAIM, "the token has no iat, so its age is not known")
    if now - principal.issued_at > issuer.max_age + issuer.leeway:
        raise Rejected(
            Reason.TOO_OLD,
            f"the token was issued {now - principal.issued_at:.0f} seconds ago, allowed are {issuer.max_age:.0f}",
        )


def check_required_claims(principal: Principal, issuer: Issuer, _now: float) -> None:
    """Each of the issuer's ``required_claims``."""
    for required in issuer.required_claims:
        found = claim_path.find(principal.claims, required.path)
        if not satisfies(found, required.values):
            raise Rejected(
                Reason.CLAIM_NOT_SATISFIED,
                f"the claim {claim_path.render(required.path)} has none of the values demanded here",
            )


IDENTITY: tuple[Callable[[Mapping[str, Any], Issuer], object], ...] = (
    check_issuer,
    check_dates,
    check_texts,
    check_audience,
    check_client,
    check_scopes,
)

STANDING: tuple[Callable[[Principal, Issuer, float], None], ...] = (
    check_expiry,
    check_not_before,
    check_issued_at,
    check_age,
    # Last, as it is the only one that ends in 403: a token that is over is 401 whatever it claims.
    check_required_claims,
)


def satisfies(found: Any, values: tuple[ClaimValue, ...]) -> bool:
    """Whether ``found`` is one of ``values`` or an array that holds one. Python's ``1 == True`` does not count."""
    members = found if isinstance(found, list) else [found]
    return any(
        isinstance(member, bool) == isinstance(value, bool) and member == value
        for member in members
        for value in values
    )


def audiences(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    """``aud`` as a tuple; None where it is absent (RFC 7519 §4.1.3)."""
    if "aud" not in claims:
        return None
    value = claims["aud"]
    if isinstance(value, str):
        return _tuple_once(value) if len(value) <= _USUAL else (value,)
    if isinstance(value, list) and all(isinstance(member, str) for member in value):
        return tuple(value)
    raise Rejected(Reason.MALFORMED_CLAIM, "the aud of the token is neither a string nor an array of strings")


def clients(claims: Mapping[str, Any], issuer: Issuer) -> tuple[str, ...]:
    """Every client that the token names, in the order of the issuer's ``client_id_claims``."""
    named = [_text(claims, name) for name in issuer.client_id_claims]
    return tuple([client for client in named if client is not None])


def scopes(claims: Mapping[str, Any], issuer: Issuer) -> tuple[str, ...]:
    """The scopes of all configured claims, each once, in the order in which the token has them."""
    found: list[tuple[str, ...]] = []
    for path in issuer.scope_claims:
        value = claim_path.find(claims, path)
        if isinstance(value, str):
            found.append(_words(value) if len(value) <= _USUAL else _split(value))
        elif isinstance(value, list) and all(isinstance(member, str) for member in value):
            found.append(tuple(dict.fromkeys(value)))
        elif value is not None:
            raise Rejected(
                Reason.MALFORMED_CLAIM,
                f"the claim {claim_path.render(path)} is neither a string nor an array of strings",
            )
    return found[0] if len(found) == 1 else tuple(dict.fromkeys(chain.from_iterable(found)))


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, text.split(" "))))


def _with_shared_texts(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The same claims, with usual texts that many tokens have alike in memory once."""
    shared = {_NAMES.get(name, name): value for name, value in claims.items()}
    for name in _ALIKE:
        value = shared.get(name)
        if type(value) is str and len(value) <= _USUAL:
            shared[name] = _text_once(value)
    return shared


# Names of claims that are usual, which the parser makes anew for each token.
_USUAL_NAMES = (
    "iss sub aud exp nbf iat jti scope client_id azp sid auth_time acr amr nonce typ scp roles groups permissions "
    "entitlements gty ver tid oid appid cid uid token_use username preferred_username email email_verified name org_id "
    "given_name family_name realm_access resource_access session_state applicationId"
)
_NAMES = {name: name for name in _USUAL_NAMES.split()}
_ALIKE = ("iss", "aud", "azp", "client_id", "scope")
_USUAL = 256
_text_once = lru_cache(4_096)(str)
_tuple_once = lru_cache(1_024)(lambda text: (text,))
_words = lru_cache(1_024)(_split)


_NUMBERS = frozenset({int, float})


def _date(claims: Mapping[str, Any], name: str) -> float | None:
    value: Any = claims.get(name)
    if value is None and name not in claims:
        return None
    # Not ``isinstance``, to which True is an int.
    if type(value) not in _NUMBERS or not 0 <= value <= LATEST:
        raise Rejected(Reason.MALFORMED_CLAIM, f"the {name} of the token is not a number of seconds since 1970")
    return cast("float", value)


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if not isinstance(value, str) and name in claims:
        raise Rejected(Reason.MALFORMED_CLAIM, f"the {name} of the token is not a string")
    return value
