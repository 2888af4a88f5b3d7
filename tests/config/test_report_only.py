"""What may be on trial."""

from pathlib import Path
from typing import Any

import pytest

from tests.config.test_loading import GOOD, loaded, problem, problems
from verifier.config.issuers import core_issuer
from verifier.config.report_only import on_trial
from verifier.config.routes import core_routes
from verifier.core.issuer import Issuer, RequiredClaim


def issuer(tmp_path: Path, **changes: Any) -> Issuer:
    return core_issuer(loaded(tmp_path, {**GOOD, **changes}).issuers[0])


def test_values_on_trial_take_the_place_of_the_issuers_own(tmp_path: Path) -> None:
    stricter = {
        "audiences": ["new"],
        "client_ids": ["web"],
        "algorithms": ["ES256"],
        "token_types": ["application/AT+JWT"],
        "required_claims": {"group": "staff"},
        "leeway": "0s",
        "max_age": "1h",
    }
    tried = issuer(tmp_path, report_only=stricter).trial
    own = issuer(tmp_path)
    assert tried is not None
    sets = (tried.audiences, tried.client_ids, tried.algorithms, tried.token_types)
    assert sets == tuple(map(frozenset, (["new"], ["web"], ["ES256"], ["at+jwt"])))
    assert (tried.leeway, tried.max_age) == (0.0, 3600.0)
    assert tried.required_claims == (RequiredClaim(("group",), ("staff",)),)
    assert (tried.name, tried.identifiers, tried.scope_claims) == (own.name, own.identifiers, own.scope_claims)


def test_what_is_not_on_trial_is_the_issuers_own(tmp_path: Path) -> None:
    own = issuer(tmp_path, client_ids=["web"], leeway="7s")
    tried = issuer(tmp_path, client_ids=["web"], leeway="7s", report_only={"max_age": "1h"}).trial
    assert tried is not None
    assert (tried.audiences, tried.client_ids, tried.leeway) == (own.audiences, own.client_ids, 7.0)


def test_no_identity_is_lost_with_a_trial(tmp_path: Path) -> None:
    assert issuer(tmp_path, report_only={"max_age": "1h"}).fingerprint == issuer(tmp_path).fingerprint
    assert issuer(tmp_path, max_age="1h").fingerprint != issuer(tmp_path).fingerprint


@pytest.mark.parametrize(
    ("key", "value", "own"),
    [
        ("audiences", ["https://api.example", "more"], {}),
        ("client_ids", ["web", "mobile"], {"client_ids": ["web"]}),
        ("algorithms", ["ES256", "RS256"], {"algorithms": ["RS256"]}),
        ("token_types", ["JWT", "application/at+jwt"], {}),
        ("required_claims", {"a": [1, 2]}, {"required_claims": {"a": 1, "b": 1}}),
        ("leeway", "30s", {}),
        ("max_age", "2h", {"max_age": "1h"}),
    ],
)
def test_a_value_that_would_deny_nothing_is_refused(tmp_path: Path, key: str, value: Any, own: dict[str, Any]) -> None:
    said = problem(tmp_path, f"report_only.{key}", report_only={key: value}, **own)
    assert said == "would deny nothing: it is no stricter than the issuer's own"


@pytest.mark.parametrize(
    ("key", "value", "own"),
    [
        ("audiences", ["new"], {}),
        ("audiences", ["new"], {"audiences": "any"}),
        ("client_ids", ["web"], {}),
        ("required_claims", {"a": 1}, {"required_claims": {"a": [1, 2]}}),
        ("required_claims", {"a": 1, "b": 2}, {"required_claims": {"a": 1}}),
        ("leeway", "29s", {}),
        ("max_age", "1h", {}),
    ],
)
def test_a_stricter_value_is_taken(tmp_path: Path, key: str, value: Any, own: dict[str, Any]) -> None:
    assert issuer(tmp_path, report_only={key: value}, **own).trial is not None


def test_a_trial_of_nothing_is_refused(tmp_path: Path) -> None:
    assert "at least one value" in problem(tmp_path, "report_only", report_only={})


@pytest.mark.parametrize(
    ("key", "value"), [("audiences", "any"), ("audiences", []), ("scopes", ["x"]), ("leeway", 5), ("issuer", "x")]
)
def test_what_cannot_be_on_trial_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    found = problems(tmp_path, {"issuers": [{**GOOD, "report_only": {key: value}}]})
    assert [path.startswith(f"issuers[0].report_only.{key}") for path in found] == [True]


def test_a_route_on_trial_is_in_no_table_but_that_of_the_trial(tmp_path: Path) -> None:
    table = core_routes(loaded(tmp_path, routes=[{"path": "/a", "report_only": True}, {"path": "/b"}]))
    assert [route.name for route in table.all] == ["routes[1]"]
    assert table.trial is not None
    assert [route.name for route in table.trial.all] == ["routes[0]", "routes[1]"]
    assert core_routes(loaded(tmp_path, routes=[{"path": "/b"}])).trial is None


def test_a_condition_of_iam_cannot_be_on_trial(tmp_path: Path) -> None:
    condition = {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}
    routes = [{"path": "/a", "report_only": True, "aws_condition": condition}]
    found = problems(tmp_path, {"issuers": [GOOD], "routes": routes})
    assert list(found) == ["routes[0].aws_condition"]


def test_what_is_on_trial_is_listed_by_its_keys(tmp_path: Path) -> None:
    tried = {**GOOD, "report_only": {"max_age": "1h", "audiences": ["new"]}}
    made = loaded(tmp_path, tried, routes=[{"path": "/a"}, {"path": "/b", "report_only": True}])
    assert on_trial(made) == ["issuers[0].report_only.audiences", "issuers[0].report_only.max_age", "routes[1]"]
    assert on_trial(loaded(tmp_path)) == []
