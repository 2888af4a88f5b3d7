"""What is on trial, and what is wrong with it.

An issuer's values on trial are compared with its own, defaults included, so this is asked once all else is right.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic_core import InitErrorDetails

from verifier.config.rules import problem
from verifier.core.claims import media_type

if TYPE_CHECKING:
    from verifier.config.issuer_settings import IssuerSettings, TrialSettings
    from verifier.config.settings import Settings


def problems(issuer: "IssuerSettings", trial: "TrialSettings | None") -> list[InitErrorDetails]:
    """Values that would deny nothing."""
    if trial is None:
        return []
    written = [name for name, value in trial if value is not None]
    if not written:
        return [problem("give at least one value that is stricter than the issuer's own", "report_only")]
    return [
        problem("would deny nothing: it is no stricter than the issuer's own", "report_only", name)
        for name in written
        if _is_idle(name, getattr(issuer, name), getattr(trial, name))
    ]


def on_trial(settings: "Settings") -> list[str]:
    """What is only reported, by the paths of its keys."""
    routes = [f"routes[{place}]" for place, route in enumerate(settings.routes) if route.report_only]
    issuers = [
        f"issuers[{place}].report_only.{name}"
        for place, issuer in enumerate(settings.issuers)
        for name, value in issuer.report_only or ()
        if value is not None
    ]
    return issuers + routes


def _is_idle(name: str, own: Any, tried: Any) -> bool:
    """Whether ``tried`` accepts whatever ``own`` does."""
    if own in (None, "any", ()):
        return False
    if name in ("leeway", "max_age"):
        return bool(tried >= own)
    if name == "required_claims":
        return all(_accepts(tried[claim], own.get(claim)) for claim in tried)
    if name == "token_types":
        own, tried = map(media_type, own), map(media_type, tried)
    return _accepts(tried, own)


def _accepts(tried: Iterable[Any], own: Iterable[Any] | None) -> bool:
    return own is not None and set(tried).issuperset(own)
