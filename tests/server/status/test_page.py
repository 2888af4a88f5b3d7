"""The page as a value of what it shows."""

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.html import Page
from tests.server.status.samples import AT, DENIAL, KEYS, WELL, with_issuer
from verifier.core.explanation import Outcome, Step
from verifier.core.reasons import Reason
from verifier.server.status import page
from verifier.server.status.explaining import Explained
from verifier.server.status.model import Introspection, Keys, Redis, Standing, Status, Trial
from verifier.surfaces.surface import Answer

EVIL = "\"'><script>alert(1)</script><img src=x onerror=y>&amp;"


def html(found: Status = WELL, *, explains: bool = True) -> Page:
    return Page(page.status_page(found, explains=explains).body.decode())


def explained(*steps: Step, allowed: bool | None = False, reason: str | None = None) -> Page:
    return Page(page.explain_page(Explained(allowed, reason, steps)).body.decode())


def test_it_says_how_the_service_fares() -> None:
    text = html().text
    for said in (
        "ready",
        "1.2.3",
        "2 h 1 min",
        "2 workers",
        "1,230",
        "1,200 allowed",
        "30 denied",
        "90%",
        "500 of 1,000",
    ):
        assert said in text


def test_every_element_is_closed() -> None:
    assert html().open == []
    assert explained(Step("size", Outcome.HOLDS, "", "")).open == []


@pytest.mark.parametrize(
    ("standing", "keys", "said"),
    [
        (Standing.FRESH, KEYS, "fresh"),
        (Standing.FAILING, replace(KEYS, last_error="refused"), "last look failed"),
        (Standing.STALE, replace(KEYS, age_seconds=900.0, last_error="refused"), "stale"),
        (Standing.WITHOUT_KEYS, replace(KEYS, usable=0, age_seconds=None, fetched_at=None), "no usable keys"),
        (Standing.ASKED, None, "asked"),
        (Standing.SILENT, None, "silent"),
    ],
)
def test_an_issuers_standing_is_a_word_and_a_shape_besides_a_colour(
    standing: Standing, keys: Keys | None, said: str
) -> None:
    found = html(with_issuer(standing=standing, keys=keys))
    card = found.texts[found.texts.index("Issuers") :]
    assert said in card
    assert page.STANDINGS[standing].word == said
    assert len({shown.mark for shown in page.STANDINGS.values()}) == 3


def test_every_standing_can_be_shown() -> None:
    assert page.STANDINGS.keys() == set(Standing)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (WELL, "ready"),
        (replace(WELL, service=replace(WELL.service, ready=False)), "not ready"),
        (replace(WELL, service=replace(WELL.service, draining=True)), "draining"),
        (with_issuer(standing=Standing.STALE), "ready, with trouble"),
        (with_issuer(introspection=Introspection(breaker_open=True, answered=0, failed=3)), "ready, with trouble"),
        (replace(WELL, redis=Redis(False, AT - 5, "TimeoutError", AT - 1, 9)), "ready, with trouble"),
        (replace(WELL, service=replace(WELL.service, config_reload_refused=True)), "ready, with trouble"),
    ],
)
def test_the_headline_is_the_worst_of_all(found: Status, said: str) -> None:
    made = html(found)
    assert made.texts[0] == f"Verifier: {said}"
    assert made.texts[made.texts.index("Token verifier") + 1] == said


def test_trouble_is_named() -> None:
    found = replace(
        with_issuer(standing=Standing.STALE, introspection=Introspection(breaker_open=True, answered=0, failed=3)),
        redis=Redis(False, AT - 5, "TimeoutError", AT - 1, 9),
        service=replace(WELL.service, config_reload_refused=True),
    )
    assert (
        "Look at main (stale), introspection at main, Redis, the configuration, whose last reload was refused"
        in html(found).texts
    )


def test_what_is_not_known_is_left_out() -> None:
    bare = replace(WELL, redis=None, caches=(), refusals=(), recent=())
    text = html(bare).text
    assert "not used" in text
    assert "Nothing yet." in text
    assert "Configuration" not in text
    assert "None" not in text


def test_the_configuration_in_use_is_shown() -> None:
    service = replace(WELL.service, config_hash="00ab12cd34ef", config_read_at=AT - 3_600)
    text = html(replace(WELL, service=service)).text
    assert "00ab12cd34ef" in text
    assert ", read 1 h ago" in text


def test_redis_that_is_away_says_since_when_and_of_what() -> None:
    text = html(replace(WELL, redis=Redis(False, AT - 125, "TimeoutError", AT - 1, 9))).text
    assert "not asked It does not answer since 2 min 5 s (TimeoutError)." in text


def test_a_refusal_has_its_count_its_last_time_and_its_hint() -> None:
    text = html().text
    assert "wrong_audience 30 main · last 1 min 30 s ago" in text
    assert "expected 'https://api.example'" in text
    assert DENIAL.trace_id is not None
    assert DENIAL.trace_id in text


def test_what_rules_on_trial_would_deny_has_a_part_of_its_own() -> None:
    trials = (Trial("main", "issuer", "wrong_audience", 9), Trial("", "route", "insufficient_scope", 2))
    text = html(replace(WELL, would_deny=trials)).text
    assert (
        "wrong_audience 9 main, by the rule of its issuer insufficient_scope 2 no issuer, by the rule of a route"
        in text
    )
    assert "would not be allowed" not in html().text


def test_whatever_comes_from_outside_is_escaped() -> None:
    evil = DENIAL._replace(detail=EVIL, hint=EVIL, issuer=EVIL, request_id=EVIL, surface=EVIL, trace_id=EVIL)
    found = replace(
        with_issuer(
            name=EVIL,
            identifiers=(EVIL,),
            standing=Standing.STALE,
            keys=replace(KEYS, last_error=EVIL, dropped={EVIL: 1}),
        ),
        refusals=(replace(WELL.refusals[0], issuer=EVIL, reason=EVIL, last=evil),),
        recent=(evil,),
        redis=Redis(False, AT, EVIL, AT, 1),
        service=replace(WELL.service, version=EVIL, config_hash=EVIL),
    )
    made = html(found)
    assert [tag for tag, _ in made.elements if tag in {"script", "img"}] == []
    assert made.text.count("<script>alert(1)</script>") >= 10
    steps = (Step(EVIL, Outcome.FAILS, EVIL, EVIL, Reason.EXPIRED, EVIL),)
    assert [tag for tag, _ in explained(*steps, reason=EVIL).elements if tag in {"script", "img"}] == []


PAGES = [page.status_page(WELL, explains=True), page.status_page(WELL, explains=False), page.explain_page()]


@pytest.mark.parametrize("answer", PAGES, ids=["status", "without a form", "explain"])
def test_a_page_has_nothing_that_runs_and_fetches_nothing(answer: Answer) -> None:
    made = Page(answer.body.decode())
    assert {tag for tag, _ in made.elements} & {"script", "iframe", "object", "embed", "base", "img"} == set()
    assert [name for _, found in made.elements for name in found if name == "style" or name.startswith("on")] == []
    assert [one["href"] for one in made.of("link") if not one["href"].startswith("data:")] == []
    assert all(one["href"].startswith("/") for one in made.of("a"))
    assert [one for one in made.of("meta") if "http-equiv" in one] == []


@pytest.mark.parametrize("answer", PAGES, ids=["status", "without a form", "explain"])
def test_its_policy_permits_its_own_style_alone(answer: Answer) -> None:
    headers = dict(answer.headers)
    style = re.search(r"<style>(.*?)</style>", answer.body.decode(), re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert headers["Content-Security-Policy"].split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "img-src data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_the_form_sends_what_is_typed_in_the_body_and_asks_for_nothing_to_be_remembered() -> None:
    made = html()
    (form,) = made.of("form")
    assert (form["method"], form["action"], form["autocomplete"]) == ("post", "/status/explain", "off")
    fields = [*made.of("input"), *made.of("textarea")]
    assert {one["name"] for one in fields} == {"token", "method", "host", "path", "admin"}
    assert {one["autocomplete"] for one in fields} == {"off"}
    assert [one["type"] for one in fields if one["name"] == "admin"] == ["password"]
    assert {one["for"] for one in made.of("label")} == {one["id"] for one in fields}
    assert [one for one in fields if "value" in one] == []


def test_without_an_admin_token_it_says_how_to_get_the_form() -> None:
    made = html(explains=False)
    assert made.of("form") == []
    assert "ops.admin_token_file" in made.text


@pytest.mark.parametrize(
    ("allowed", "said"), [(True, "allowed"), (False, "refused"), (None, "only the issuer can tell")]
)
def test_an_explanation_begins_with_its_outcome(allowed: bool | None, said: str) -> None:
    made = explained(Step("size", Outcome.HOLDS, "at most 9 bytes", "3 bytes"), allowed=allowed)
    assert made.texts[0] == f"Verifier: {said}"
    assert f"{said} Every check, in its order size holds expected at most 9 bytes found 3 bytes" in made.text


def test_a_check_that_fails_is_told_before_all_of_them() -> None:
    step = Step("expiry", Outcome.FAILS, "exp in the future", "1, 9 seconds ago", Reason.EXPIRED, "it expired")
    text = explained(step, reason="expired").text
    assert text.index("expired it expired") < text.index("Every check")


@pytest.mark.parametrize(
    ("age", "share"), [(0.0, 0.0), (300.0, 0.25), (600.0, 0.5), (43_500.0, 0.75), (86_400.0, 1.0), (1e9, 1.0)]
)
def test_half_of_the_scale_is_until_a_look_is_due(age: float, share: float) -> None:
    assert page.age_share(replace(KEYS, age_seconds=age)) == pytest.approx(share)


def test_keys_that_end_when_they_are_due_fill_the_scale_then() -> None:
    assert page.age_share(replace(KEYS, age_seconds=700.0, max_stale_seconds=600.0)) == 1.0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "any time"),
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (5_400, "1 h 30 min"),
        (90_000, "1 d 1 h"),
        (86_400, "1 d"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float | None, said: str) -> None:
    assert page.duration(seconds) == said


@pytest.mark.parametrize(
    ("share", "said"), [(0, "0%"), (0.00001, "0.1%"), (0.5, "50%"), (0.123, "12.3%"), (0.99999, "99.9%"), (1, "100%")]
)
def test_a_share_is_neither_all_nor_nothing_where_it_is_not(share: float, said: str) -> None:
    assert page.per_cent(share) == said


def test_a_time_is_told_in_utc() -> None:
    assert page.clock(0) == "1970-01-01 00:00:00 UTC"


def test_only_those_who_look_at_a_page_pay_for_its_templates() -> None:
    code = "import sys, verifier.app, verifier.cli; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
