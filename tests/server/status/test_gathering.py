"""From measurements and notes to a status."""

import json
import math
from dataclasses import replace

import pytest
from prometheus_client.core import CounterMetricFamily

from tests.server.status.samples import AT, DENIAL
from tests.support import issuer
from verifier.core.issuer import Introspect, Introspection
from verifier.observability.metrics import Metrics
from verifier.observability.recent import Noted, RedisTrouble
from verifier.server import readiness
from verifier.server.status import model
from verifier.server.status.gathering import Facts, as_json, status
from verifier.server.status.model import Standing, Status

FRESH = readiness.Keys(2, 60.0, None, next_look=400.0, max_stale=86_400.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def gathered(metrics: Metrics, keys: readiness.Keys | None = FRESH, **changes: object) -> Status:
    facts = Facts(
        families=tuple(metrics.registry.collect()),
        state=readiness.State(ready=True, settled=True, issuers={} if keys is None else {"main": keys}, unread=0.25),
        noted=Noted(),
        issuers=(issuer(),),
        shared=False,
        started_at=AT - 100,
    )
    return status(replace(facts, **changes), AT)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "stale", "standing"),
    [
        (FRESH, 0, Standing.FRESH),
        (replace(FRESH, last_error="refused"), 0, Standing.FAILING),
        (replace(FRESH, age=601.0, last_error="refused"), 1, Standing.STALE),
        (replace(FRESH, age=601.0), 0, Standing.FRESH),  # the look is under way
        (replace(FRESH, usable=0, last_error="refused"), 0, Standing.WITHOUT_KEYS),
        (replace(FRESH, usable=0, last_error="refused"), 1, Standing.WITHOUT_KEYS),  # another worker's serve still
        (readiness.Keys(0, None, None), 0, Standing.WITHOUT_KEYS),
        (None, 0, Standing.WITHOUT_KEYS),  # no worker has come that far
    ],
)
def test_keys_stand_as_the_metrics_and_the_last_look_say(
    metrics: Metrics, keys: readiness.Keys | None, stale: int, standing: Standing
) -> None:
    metrics.key_set_stale.labels("another").set(1 - stale)
    metrics.key_set_stale.labels("main").set(stale)
    assert gathered(metrics, keys).issuers[0].standing is standing


def test_keys_are_shown_with_their_times(metrics: Metrics) -> None:
    metrics.key_refresh_interval.labels("main").set(600.0)
    metrics.keys_dropped.labels("main", "weak").set(2)
    metrics.keys_dropped.labels("main", "odd").set(0)
    assert gathered(metrics, replace(FRESH, last_error="eyJhbGciOi refused")).issuers[0].keys == model.Keys(
        usable=2,
        dropped={"weak": 2},
        age_seconds=60.0,
        refresh_seconds=600.0,
        max_stale_seconds=86_400.0,
        next_look_seconds=400.0,
        fetched_at=AT - 60,
        last_error="[removed] refused",
    )


@pytest.mark.parametrize(("breaker", "standing"), [(0, Standing.ASKED), (1, Standing.SILENT)])
def test_an_issuer_without_keys_stands_as_it_answers(metrics: Metrics, breaker: int, standing: Standing) -> None:
    metrics.introspection_breaker.labels("main").set(breaker)
    metrics.introspections.labels("main", "active").inc(3)
    metrics.introspections.labels("main", "inactive").inc()
    metrics.introspections.labels("main", "error").inc(2)
    asked = issuer(introspection=Introspection(Introspect.ONLY, None, 60.0, 5.0))
    found = gathered(metrics, None, issuers=(asked,)).issuers[0]
    assert (found.standing, found.keys) == (standing, None)
    assert found.introspection == model.Introspection(breaker_open=bool(breaker), answered=4, failed=2)


def test_decisions_are_counted_over_all_surfaces(metrics: Metrics) -> None:
    for surface in ("verify", "ext-authz"):
        metrics.decisions.of(surface, "main", "allow", "").value = 5
        metrics.decisions.of(surface, "main", "deny", "expired").value = 2
        metrics.decisions.of(surface, "", "undecided", "overloaded").value = 1
    found = gathered(metrics)
    assert found.decisions == model.Decisions(allowed=10, denied=4, undecided=2)
    assert [(one.issuer, one.outcome, one.reason, one.count) for one in found.refusals] == [
        ("main", "deny", "expired", 4),
        ("", "undecided", "overloaded", 2),
    ]


def test_a_refusal_shows_the_last_one_of_its_issuer_and_reason(metrics: Metrics) -> None:
    metrics.decisions.of("verify", "main", "deny", "wrong_audience").value = 1
    metrics.decisions.of("verify", "other", "deny", "wrong_audience").value = 1
    found = gathered(metrics, noted=Noted((DENIAL,), (DENIAL,)))
    assert {one.issuer: one.last for one in found.refusals} == {"main": DENIAL, "other": None}
    assert found.recent == (DENIAL,)


def test_a_request_id_that_could_be_a_token_is_not_shown(metrics: Metrics) -> None:
    named = DENIAL._replace(request_id="x" * 64)
    assert gathered(metrics, noted=Noted((named,))).recent[0].request_id == "[removed]"


def test_a_hit_ratio_is_that_since_the_start(metrics: Metrics) -> None:
    metrics.cache_lookups.of("identity", "memory", "hit").value = 3
    metrics.cache_lookups.of("identity", "memory", "miss").value = 1
    metrics.cache_entries.labels("identity", "memory").set(7)
    (found,) = gathered(metrics).caches
    assert (found.entries, found.hits, found.misses, found.hit_ratio) == (7, 3, 1, 0.75)


def test_a_cache_that_nobody_asks_and_nobody_counts_is_left_out(metrics: Metrics) -> None:
    metrics.cache_lookups.of("identity", "shared", "hit")
    metrics.cache_entries.labels("identity", "memory").set(0)
    assert [(one.tier, one.hit_ratio) for one in gathered(metrics).caches] == [("memory", None)]


@pytest.mark.parametrize(("shared", "there"), [(True, True), (False, False)])
def test_there_is_a_redis_where_revocations_are_shared(metrics: Metrics, shared: bool, there: bool) -> None:
    found = gathered(metrics, shared=shared)
    assert (found.redis is not None) == there
    assert found.revocations == model.Revocations(held=0, shared=shared, unread_seconds=0.25)


def test_redis_is_away_since_its_breaker_opened(metrics: Metrics) -> None:
    metrics.redis_breaker.set(1)
    metrics.redis_errors.labels("mget").inc(2)
    metrics.redis_errors.labels("write").inc()
    noted = Noted(redis=RedisTrouble(AT - 9, "TimeoutError", AT - 1))
    assert gathered(metrics, shared=True, noted=noted).redis == model.Redis(False, AT - 9, "TimeoutError", AT - 1, 3)


def test_what_is_not_measured_is_not_known(metrics: Metrics) -> None:
    service = gathered(metrics).service
    assert (service.config_hash, service.config_read_at, service.draining) == (None, None, False)
    assert (service.uptime_seconds, service.started_at) == (100.0, AT - 100)


def test_the_configuration_in_use_is_told_by_its_hash(metrics: Metrics) -> None:
    metrics.config_hash.set(0xAB12CD34EF)
    metrics.config_reload_time.set(AT - 60)
    metrics.config_reload_successful.set(1)
    service = gathered(metrics).service
    assert (service.config_hash, service.config_read_at) == ("00ab12cd34ef", AT - 60)
    assert not service.config_reload_refused
    metrics.config_reload_successful.set(0)
    assert gathered(metrics).service.config_reload_refused


def test_a_service_that_is_about_to_end_says_so(metrics: Metrics) -> None:
    state = readiness.State(ready=False, settled=True, issuers={}, unread=0.0, draining=True)
    service = gathered(metrics, state=state).service
    assert (service.draining, service.ready) == (True, False)


def test_what_rules_on_trial_would_deny_is_counted_over_all_surfaces(metrics: Metrics) -> None:
    family = CounterMetricFamily("verifier_would_deny", "As agreed.", labels=("surface", "issuer", "rule", "reason"))
    for surface, rule, count in (("verify", "route", 2), ("batch", "route", 3), ("verify", "issuer", 9)):
        family.add_metric((surface, "main", rule, "insufficient_scope"), count)
    others = [one for one in metrics.registry.collect() if one.name != family.name]
    assert gathered(metrics, families=(*others, family)).would_deny == (
        model.Trial("main", "issuer", "insufficient_scope", 9),
        model.Trial("main", "route", "insufficient_scope", 5),
    )
    assert gathered(metrics).would_deny == ()


def test_its_json_is_json_whatever_is_not_a_number(metrics: Metrics) -> None:
    metrics.key_set_age.labels("main").set(math.nan)
    metrics.decisions.of("verify", "main", "deny", "wrong_audience").value = 1
    found = as_json(gathered(metrics, readiness.Keys(0, None, None), noted=Noted((DENIAL,), (DENIAL,))))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["issuers"][0]["keys"]["refresh_seconds"] is None
    assert found["refusals"][0]["last"]["hint"] == DENIAL.hint
