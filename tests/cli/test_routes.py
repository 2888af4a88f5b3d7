"""``verifier routes``."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.support import AUD, claims, private_key, public_jwk, sign
from verifier.cli import main

ROUTES: list[dict[str, Any]] = [
    {"name": "public", "path": "/public/**", "anonymous": True},
    {"path": "/pets/{id}", "methods": ["GET"], "scopes": ["read"], "claims": {"groups": ["staff"]}},
    {"path": "/internal/**", "deny": True},
    {"path": "/public/a", "scopes": ["read"]},
    {"path": "/*/7", "scopes": ["admin"]},
]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public_jwk(private_key("EdDSA"))]}))
    issuer = {
        "name": "main",
        "issuer": "https://issuer.example/",
        "audiences": [AUD],
        "jwks_file": str(tmp_path / "jwks.json"),
    }
    path = tmp_path / "verifier.yaml"
    path.write_text(yaml.safe_dump({"issuers": [issuer], "routes": ROUTES}))
    return str(path)


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["routes", *arguments], input=stdin, catch_exceptions=False)


@pytest.mark.parametrize(
    ("method", "url", "said", "code"),
    [
        ("GET", "/public/x", "everybody may", 0),
        ("GET", "https://api.example/pets/7?a=b", "scopes: read", 0),
        ("GET", "/pets/7", "claim groups: one of staff", 0),
        ("DELETE", "/pets/7", "scopes: admin", 0),
        ("GET", "/internal", "nobody may", 1),
        ("GET", "/elsewhere", "no route matches; default_route: authenticated", 0),
        ("GET", "/a%2Fb", "an encoded slash (%2F), which is read in more than one way", 1),
    ],
)
def test_it_says_which_route_applies_and_what_it_demands(
    method: str, url: str, said: str, code: int, file: str
) -> None:
    result = run("check", file, method, url)
    assert said in result.output
    assert result.exit_code == code


def test_the_route_is_said_to_machines_too(file: str) -> None:
    found = json.loads(run("check", file, "GET", "/pets/7", "--json").output)
    assert (found["access"], found["route"], found["pattern"]) == ("authenticated", "routes[1]", "/pets/*")
    assert found["demands"]["scopes"] == ["read"]


@pytest.mark.parametrize(
    ("changes", "said", "code"),
    [
        ({"groups": ["staff"]}, "allowed", 0),
        ({"groups": ["guests"]}, "claim_not_satisfied (demanded claim groups)", 1),
        ({"groups": ["staff"], "scope": "write"}, "insufficient_scope", 1),
    ],
)
def test_a_token_is_judged_by_its_route(changes: dict[str, Any], said: str, code: int, file: str) -> None:
    import time  # noqa: PLC0415 - only here

    token = sign(claims(time.time(), **changes), algorithm="EdDSA")
    result = run("check", file, "GET", "/pets/7", "--token", "-", stdin=token)
    assert said in result.output
    assert result.exit_code == code


def test_routes_that_never_match_are_found_and_those_that_cross(file: str) -> None:
    result = run("lint", file)
    assert result.exit_code == 1
    assert "routes[3] (/public/a)" in result.output
    assert "never matches: public (/public/**)" in result.output
    assert "routes[1] (/pets/*) comes first where both match" in result.output
    found = json.loads(run("lint", file, "--json").output)
    assert found["never"] == {"routes[3]": "public"}


def test_routes_that_can_all_match_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "verifier.yaml"
    issuer = {"name": "main", "issuer": "https://issuer.example/", "audiences": [AUD]}
    path.write_text(yaml.safe_dump({"issuers": [issuer], "routes": ROUTES[:3]}))
    result = run("lint", str(path))
    assert (result.exit_code, "3 routes, each of which can match" in result.output) == (0, True)


def test_a_configuration_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    path = tmp_path / "verifier.yaml"
    path.write_text("routes: [{path: pets}]")
    assert run("check", str(path), "GET", "/").exit_code == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["whoever meets every demand", "whoever meets none"]),
        ({"path_forms": ["letter_case"], "default_route": "deny", "routes": ROUTES[:3]}, []),
        ({"routes": [{"path": "/a", "scopes": ["x"], "methods": ["GET"]}], "default_route": "deny"}, []),
        ({"path_forms": ["letter_case"], "routes": [ROUTES[1]]}, ["whoever meets none"]),
    ],
)
def test_it_says_for_whom_api_gateway_gets_no_policy_of_all_routes(
    changes: dict[str, Any], expected: list[str], file: str
) -> None:
    settings = yaml.safe_load(Path(file).read_text())
    Path(file).write_text(yaml.safe_dump(settings | changes))
    assert json.loads(run("lint", file, "--aws", "--json").output)["beyond_iam"] == expected
    assert run("lint", file, "--aws").output.count("no policy of IAM") == len(expected)
    assert "no policy of IAM" not in run("lint", file).output
