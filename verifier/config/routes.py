"""From the settings of routes to the values that the core works with."""

import json
from collections.abc import Iterable

from verifier.config.route_settings import RouteSettings
from verifier.config.settings import Settings
from verifier.core import claim_path
from verifier.core.issuer import RequiredClaim
from verifier.core.policy import NOTHING, Requirement
from verifier.core.routes import Access, Route, Routes, parse


def core_routes(settings: Settings) -> Routes:
    """All routes, as the decision sees them."""
    return Routes(
        _routes(settings.routes),
        default=Access.DENIED if settings.default_route == "deny" else Access.AUTHENTICATED,
        permitted=frozenset(settings.path_forms),
        answers_preflights=settings.preflights == "allow",
    )


def _routes(settings: Iterable[RouteSettings]) -> Iterable[Route]:
    for place, route in enumerate(settings):
        access = Access.DENIED if route.deny else Access.ANONYMOUS if route.anonymous else Access.AUTHENTICATED
        yield Route(
            name=route.name or f"routes[{place}]",
            pattern=parse(route.path),
            methods=frozenset(route.methods or ()),
            hosts=frozenset(route.hosts or ()),
            access=access,
            requirement=_requirement(route),
            condition="" if route.aws_condition is None else json.dumps(route.aws_condition, sort_keys=True),
            report_only=route.report_only,
        )


def _requirement(route: RouteSettings) -> Requirement:
    made = Requirement(
        scopes=route.scopes or (),
        audiences=route.audiences or (),
        any_scopes=route.any_scopes or (),
        claims=tuple(RequiredClaim(claim_path.parse(text), values) for text, values in route.claims.items()),
        issuers=route.issuers or (),
        client_ids=route.client_ids or (),
        max_auth_age=route.max_auth_age,
    )
    return NOTHING if made == NOTHING else made
