"""The status page and its form as HTML: values in, bytes out.

Everything is escaped by the template engine, an undefined value is an error, and nothing is fetched: the style stands
in the page, and the policy names its digest. The engine is imported by whoever is first to ask for a page.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from verifier.core.explanation import Outcome
from verifier.server.status.explaining import Explained
from verifier.server.status.model import Keys, Standing, Status
from verifier.surfaces.answer import NO_STORE
from verifier.surfaces.surface import Answer

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


class Shown(NamedTuple):
    """A mark and its word. ``means`` is for whoever does not know what the word does."""

    mark: str
    word: str
    means: str = ""


_WELL, _WATCH, _ILL, _NONE = "well", "watch", "ill", "none"
_ICONS = {_WELL: "2fa36b", _WATCH: "dc9a1b", _ILL: "dd4450", _NONE: "687386"}

STANDINGS: Mapping[Standing, Shown] = {
    Standing.FRESH: Shown(_WELL, "fresh"),
    Standing.FAILING: Shown(_WATCH, "last look failed", "Its keys are not overdue yet."),
    Standing.STALE: Shown(
        _WATCH, "stale", "Its last keys still count. A key that it withdrew since is not known here."
    ),
    Standing.WITHOUT_KEYS: Shown(
        _ILL, "no usable keys", "None of its tokens is allowed: 503, or 401 if it has keys and none can be used."
    ),
    Standing.ASKED: Shown(_WELL, "asked"),
    Standing.SILENT: Shown(_ILL, "silent"),
}

_OUTCOMES: Mapping[Outcome, Shown] = {
    Outcome.HOLDS: Shown(_WELL, "holds"),
    Outcome.FAILS: Shown(_ILL, "fails"),
    Outcome.NOT_REACHED: Shown(_NONE, "not reached"),
}


def status_page(found: Status, *, explains: bool) -> Answer:
    """``explains``: there is an admin token to demand, and so a form."""
    troubles = _troubles(found)
    shown = _headline(found, troubles)
    total = sum((found.decisions.allowed, found.decisions.denied, found.decisions.undecided)) or 1
    context = {
        "status": found,
        "headline": {"mark": shown.mark, "word": shown.word, "icon": _ICONS[shown.mark]},
        "troubles": troubles,
        "standings": STANDINGS,
        "explains": explains,
        "most": max((refused.count for refused in found.refusals), default=1),
        "decisions": [
            (_WELL, found.decisions.allowed / total),
            (_WATCH, found.decisions.denied / total),
            (_ILL, found.decisions.undecided / total),
        ],
    }
    return _html(200, "status.html", context, ("Vary", "Accept"))


def explain_page(
    explained: Explained | None = None,
    *,
    status: int = 200,
    message: str = "",
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """The form, and the answer to it: what was ``explained``, or the ``message`` that says why nothing was."""
    verdict = _verdict(explained)
    context = {
        "title": f"Verifier: {verdict.word}",
        "icon": _ICONS[verdict.mark],
        "message": message,
        "explained": explained,
        "verdict": verdict,
        "outcomes": _OUTCOMES,
    }
    return _html(status, "explain.html", context, *headers)


def _headline(found: Status, troubles: Sequence[str]) -> Shown:
    if found.service.draining:
        return Shown(_WATCH, "draining")
    if not found.service.ready:
        return Shown(_ILL, "not ready")
    return Shown(_WATCH, "ready, with trouble") if troubles else Shown(_WELL, "ready")


def _troubles(found: Status) -> list[str]:
    """What somebody should look at, in words."""
    return [
        *(
            f"{issuer.name} ({STANDINGS[issuer.standing].word})"
            for issuer in found.issuers
            if STANDINGS[issuer.standing].mark != _WELL
        ),
        *(
            f"introspection at {issuer.name}"
            for issuer in found.issuers
            if issuer.introspection is not None and issuer.introspection.breaker_open and issuer.keys is not None
        ),
        *(["Redis"] if found.redis is not None and not found.redis.available else []),
        *(["the configuration, whose last reload was refused"] if found.service.config_reload_refused else []),
    ]


def _verdict(explained: Explained | None) -> Shown:
    if explained is None:
        return Shown(_NONE, "explain a token")
    if explained.allowed is None:
        return Shown(_WATCH, "only the issuer can tell")
    return Shown(_WELL, "allowed") if explained.allowed else Shown(_ILL, "refused")


def _html(status: int, template: str, context: Mapping[str, Any], *headers: tuple[str, str]) -> Answer:
    body = _engine().get_template(template).render(context).encode()
    return Answer(status, (("Content-Type", "text/html; charset=utf-8"), NO_STORE, *_safety(), *headers), body)


@cache
def _style() -> str:
    return (_FOLDER / "status.css").read_text("utf-8")


@cache
def _safety() -> tuple[tuple[str, str], ...]:
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    policy = (
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "img-src data:",  # the icon of the tab
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
    return (
        ("Content-Security-Policy", "; ".join(policy)),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    )


@cache
def _engine() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - for those who look at a page

    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["style"] = _style()
    made.filters |= {
        "age_share": age_share,
        "clock": clock,
        "duration": duration,
        "number": number,
        "per_cent": per_cent,
    }
    return made


def age_share(keys: Keys) -> float:
    """Where the age of keys stands on a scale whose first half ends when a look is due, and its second when they count
    no more: the two are often a day apart."""
    age, due, end = keys.age_seconds or 0.0, keys.refresh_seconds or 0.0, keys.max_stale_seconds or 0.0
    if due and age <= due:
        return 0.5 * age / due
    return min(1.0, 0.5 + 0.5 * (age - due) / (end - due)) if end > due else 1.0


def clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float | None) -> str:
    """In its two largest units."""
    if seconds is None:
        return "any time"
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _joined(whole // _MINUTE, "min", whole % _MINUTE, "s")
    if whole < _DAY:
        return _joined(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "min")
    return _joined(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def _joined(large: int, its_unit: str, small: int, unit: str) -> str:
    return f"{large} {its_unit} {small} {unit}" if small else f"{large} {its_unit}"


def number(value: float) -> str:
    return f"{value:,.0f}"


def per_cent(share: float) -> str:
    """Never 100 % for what is a little less, nor 0 for a little more."""
    if 0 < share < 0.001:
        return "0.1%"
    if 0.999 < share < 1:
        return "99.9%"
    return f"{100 * share:.1f}".removesuffix(".0") + "%"
