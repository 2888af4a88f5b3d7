"""From an issuer's settings to the value that the core works with."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from verifier.config.issuer_settings import IssuerSettings, TrialSettings
from verifier.core import claim_path
from verifier.core.claims import media_type
from verifier.core.issuer import ClaimValue, Introspect, Introspection, Issuer, RequiredClaim


def core_issuer(settings: IssuerSettings) -> Issuer:
    """The issuer as the decision sees it. Any change of its settings changes the fingerprint, but for those on trial:
    no identity rests on them, so none is lost with them."""
    audiences = settings.audiences or ()
    made = Issuer(
        name=settings.name,
        identifiers=frozenset(settings.identifiers()),
        algorithms=frozenset(settings.algorithms),
        token_types=frozenset(media_type(typ) for typ in settings.token_types),
        audiences=None if audiences == "any" else frozenset(audiences),
        client_ids=frozenset(settings.client_ids or ()),
        client_id_claims=_and_answers(settings.client_id_claims, "client_id", settings),
        scope_claims=tuple(claim_path.parse(text) for text in _and_answers(settings.scope_claims, "scope", settings)),
        required_claims=_required(settings.required_claims),
        leeway=settings.leeway,
        max_age=settings.max_age,
        introspection=_introspection(settings),
        fingerprint=hashlib.sha256(settings.model_dump_json(exclude={"report_only"}).encode()).hexdigest(),
    )
    return made if settings.report_only is None else replace(made, trial=_trial(made, settings.report_only))


def _trial(issuer: Issuer, stricter: TrialSettings) -> Issuer:
    """The issuer as it would be."""
    changes: dict[str, Any] = {name: value for name, value in stricter if value is not None}
    for name in {"audiences", "client_ids", "algorithms"}.intersection(changes):
        changes[name] = frozenset(changes[name])
    if stricter.token_types is not None:
        changes["token_types"] = frozenset(map(media_type, stricter.token_types))
    if stricter.required_claims is not None:
        changes["required_claims"] = _required(stricter.required_claims)
    return replace(issuer, **changes)


def _required(claims: Mapping[str, tuple[ClaimValue, ...]]) -> tuple[RequiredClaim, ...]:
    return tuple(RequiredClaim(claim_path.parse(text), values) for text, values in claims.items())


def _and_answers(names: tuple[str, ...], name: str, settings: IssuerSettings) -> tuple[str, ...]:
    """``names``, and what answers to introspection call it, whatever the tokens do (RFC 7662 §2.2)."""
    return names if settings.introspection is None or name in names else (*names, name)


def _introspection(settings: IssuerSettings) -> Introspection | None:
    asked = settings.introspection
    if asked is None:
        return None
    return Introspection(Introspect(settings.introspect), asked.token_prefix, asked.ttl, asked.denial_ttl)
