"""What the commands say about rules that are only reported."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.support import AUD, ISS, claims, private_key, public_jwk, sign
from verifier.cli import main

ROUTES: list[dict[str, Any]] = [
    {"name": "stricter", "path": "/pets/**", "scopes": ["admin"], "report_only": True},
    {"name": "pets", "path": "/pets/{id}", "scopes": ["read"]},
    {"name": "closed", "path": "/closed", "deny": True, "report_only": True},
    {"name": "hidden", "path": "/pets/{id}", "deny": True, "report_only": True},
    {"name": "rest", "path": "/**"},
]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public_jwk(private_key("EdDSA"))]}))
    issuer = {
        "name": "main",
        "issuer": ISS,
        "audiences": [AUD],
        "jwks_file": str(tmp_path / "jwks.json"),
        "report_only": {"token_types": ["at+jwt"], "max_age": "1h"},
    }
    path = tmp_path / "verifier.yaml"
    path.write_text(yaml.safe_dump({"issuers": [issuer], "routes": ROUTES}))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def token(typ: str = "at+jwt", **changes: Any) -> str:
    return sign(claims(time.time(), **changes), algorithm="EdDSA", typ=typ)


def test_explain_says_what_would_be_denied_and_ends_with_yes(file: str) -> None:
    result = run("explain", token("JWT"), "--config", file)
    assert result.exit_code == 0
    assert "report only: would be denied: wrong_token_type (type)" in " ".join(result.output.split())
    found = json.loads(run("explain", token("JWT"), "--config", file, "--json").output)
    assert (found["allowed"], found["would_deny"]) == (True, "wrong_token_type")
    assert [step["check"] for step in found["report_only"]] == ["type"]


def test_explain_says_nothing_where_nothing_would_be_denied(file: str) -> None:
    assert "would be denied" not in run("explain", token(), "--config", file).output
    assert json.loads(run("explain", token(), "--config", file, "--json").output)["would_deny"] is None


def test_explain_tries_nothing_of_a_token_that_is_refused(file: str) -> None:
    found = json.loads(run("explain", token("JWT", aud="other"), "--config", file, "--json").output)
    assert (found["reason"], found["would_deny"]) == ("wrong_audience", None)


def test_routes_check_shows_the_route_that_applies_and_the_one_on_trial(file: str) -> None:
    result = run("routes", "check", file, "GET", "/pets/7")
    assert result.exit_code == 0
    enforced, _, tried = result.output.partition("report only")
    assert "scopes: read" in enforced
    assert "stricter: /pets/**" in tried
    assert "scopes: admin" in tried
    found = json.loads(run("routes", "check", file, "GET", "/pets/7", "--json").output)
    assert (found["route"], found["rule_on_trial"]["route"]) == ("pets", "stricter")


def test_routes_check_says_nothing_of_trials_where_there_is_none(file: str) -> None:
    assert "report only" not in run("routes", "check", file, "GET", "/elsewhere").output
    found = json.loads(run("routes", "check", file, "GET", "/elsewhere", "--json").output)
    assert (found["rule_on_trial"], found["would_deny"], found["report_only"]) == (None, None, [])


@pytest.mark.parametrize(
    ("path", "typ", "expected"),
    [
        ("/pets/7", "at+jwt", ["insufficient_scope"]),
        ("/pets/7", "JWT", ["wrong_token_type", "insufficient_scope"]),
        ("/closed", "at+jwt", ["route_denied"]),
        ("/Closed", "at+jwt", ["route_denied"]),
        ("/elsewhere", "JWT", ["wrong_token_type"]),
        ("/elsewhere", "at+jwt", []),
    ],
)
def test_routes_check_judges_a_token_by_what_is_enforced_alone(
    file: str, path: str, typ: str, expected: list[str]
) -> None:
    result = run("routes", "check", file, "GET", path, "--token", token(typ), "--json")
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert [step["reason"] for step in found["report_only"]] == expected
    assert found["would_deny"] == (expected[0] if expected else None)


def test_lint_finds_routes_on_trial_that_report_nothing_and_those_that_would_hide_others(file: str) -> None:
    result = run("routes", "lint", file)
    assert result.exit_code == 1
    said = " ".join(result.output.split())
    assert "hidden (/pets/*, report only) never matches: stricter (/pets/**, report only) comes first" in said
    assert "pets (/pets/*) would never match once stricter (/pets/**, report only) is enforced" in said
    found = json.loads(run("routes", "lint", file, "--json").output)
    assert found["never"] == {"hidden": "stricter"}
    assert found["never_once_enforced"] == {"pets": "stricter"}


def test_check_config_says_what_is_not_enforced(file: str) -> None:
    result = run("check-config", file)
    assert result.exit_code == 0
    keys = ["issuers[0].report_only.token_types", "issuers[0].report_only.max_age", "routes[0]", "routes[2]"]
    said = " ".join(result.output.split())
    assert "not enforced, only reported:" in said
    assert all(key in said for key in keys)
    assert json.loads(run("check-config", file, "--json").output)["report_only"] == [*keys, "routes[3]"]


def test_routes_check_says_of_a_token_what_explain_does_in_the_same_members(file: str) -> None:
    explained = json.loads(run("explain", token("JWT"), "--config", file, "--json").output)
    checked = json.loads(run("routes", "check", file, "GET", "/elsewhere", "--token", token("JWT"), "--json").output)
    said = explained.keys() & checked.keys()
    assert said == {"steps", "would_deny", "report_only"}
    assert {name: type(explained[name]) for name in said} == {name: type(checked[name]) for name in said}
    assert (explained["would_deny"], explained["report_only"]) == (checked["would_deny"], checked["report_only"])
