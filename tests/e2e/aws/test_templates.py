"""The SAM template and Terraform's files: what they describe is sound, and what the verifier needs of it is there."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.aws.described import LAMBDA, Described, Json
from tests.e2e.aws.sam import TEMPLATE, Sam, translated
from tests.e2e.aws.terraform import FILES, Made, Terraform, moto, require_terraform
from tests.e2e.gateways.programs import require

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.xdist_group("aws-templates")]

API_GATEWAY_WAITS = 10
SHIM = {
    "VERIFIER_URL",
    "VERIFIER_TIMEOUT",
    "VERIFIER_SECRET",
    "VERIFIER_CLIENT_CERT",
    "VERIFIER_CLIENT_KEY",
    "VERIFIER_CA",
}
PAGE = LAMBDA.parents[1] / "docs/aws.md"
KINDS = {"TOKEN", "REQUEST", "HTTP", "WEBSOCKET"}
PUBLISHED = r"^Bearer [-0-9a-zA-z\.]*$"
"""The validation expression of the walkthrough that we replace."""


@pytest.fixture(scope="module")
def cloudformation() -> Json:
    return translated(TEMPLATE.read_text("utf-8"))


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    made = Terraform(tmp_path_factory.mktemp("terraform"))
    made.init()
    return made


@pytest.fixture(scope="module", params=["sam", "terraform"])
def described(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    if request.param == "sam":
        yield Sam(request.getfixturevalue("cloudformation")).described()
        return
    files: Terraform = request.getfixturevalue("terraform")
    with moto(tmp_path_factory.mktemp("moto")) as address:
        files.environment["AWS_ENDPOINT_URL"] = address
        yield Made(*files.apply()).described()


# The forms


def lint(path: Path) -> str:
    command = [require("cfn-lint", "run make e2e"), "--template", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{done.returncode}\n{done.stdout}{done.stderr}".strip()


def test_cfn_lint_has_nothing_to_say_about_the_template() -> None:
    assert lint(TEMPLATE) == "0"


def test_cfn_lint_has_nothing_to_say_about_what_cloudformation_gets(cloudformation: Json, tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text(json.dumps(cloudformation), "utf-8")
    assert lint(path) == "0"


def test_cloudformation_reads_no_aliases() -> None:
    assert re.findall(r"(?m)^\s*[\w:]+: [&*]\w+.*$", TEMPLATE.read_text("utf-8")) == []


def test_terraform_would_format_nothing_anew() -> None:
    command = [require_terraform(), "fmt", "-check", "-diff", "-recursive", str(FILES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_terraform_calls_its_files_valid(terraform: Terraform) -> None:
    said = json.loads(terraform.run("validate", "-json"))
    assert (said["valid"], said["diagnostics"]) == (True, [])


# What they describe


def test_every_kind_of_api_is_shown(described: Described) -> None:
    assert {authorizer.kind for authorizer in described.authorizers} == KINDS


def test_every_method_but_preflights_asks_the_function(described: Described) -> None:
    asking = [method for method in described.methods if not method.name.startswith("OPTIONS ")]
    assert [method for method in asking if method.authorizer is None] == []
    assert [a for a in described.authorizers if a.function != described.function] == []
    assert [method for method in asking if method.authorizer and method.authorizer.api != method.api] == []
    assert {method.api for method in asking} == {authorizer.api for authorizer in described.authorizers}


def test_preflights_are_answered_without_asking(described: Described) -> None:
    preflights = [method for method in described.methods if method.name.startswith("OPTIONS ")]
    assert {method.api for method in preflights} == {described.of_kind(kind).api for kind in ("TOKEN", "REQUEST")}
    assert [method for method in preflights if method.authorizer is not None] == []
    assert set(described.preflights) == {described.of_kind("HTTP").api}
    assert all(said.get("allowOrigins") or said.get("allow_origins") for said in described.preflights.values())


def test_every_api_that_asks_may_invoke_the_function(described: Described) -> None:
    assert sorted(described.invokers) == sorted({authorizer.api for authorizer in described.authorizers})


@pytest.mark.parametrize("refusal", ["UNAUTHORIZED", "ACCESS_DENIED", "DEFAULT_4XX", "DEFAULT_5XX"])
def test_pages_can_read_refusals(described: Described, refusal: str) -> None:
    assert set(described.refusals) == {described.of_kind(kind).api for kind in ("TOKEN", "REQUEST")}
    for answers in described.refusals.values():
        assert "gatewayresponse.header.Access-Control-Allow-Origin" in answers.get(refusal, {})


def test_the_function_ends_after_the_shim_and_before_api_gateway(described: Described) -> None:
    assert described.verifier_timeout < described.timeout < API_GATEWAY_WAITS


def test_no_timeout_can_be_given_that_the_function_would_not_live_to_see(cloudformation: Json) -> None:
    longest = cloudformation["Parameters"]["VerifierTimeout"]["MaxValue"]
    assert longest < cloudformation["Resources"]["Authorizer"]["Properties"]["Timeout"]
    said = re.search(r"var\.verifier_timeout <= (\d+)", (FILES / "variables.tf").read_text("utf-8"))
    assert said is not None
    assert int(said[1]) == longest


def test_the_function_is_told_what_the_shim_reads_and_nothing_else(cloudformation: Json) -> None:
    assert set(cloudformation["Resources"]["Authorizer"]["Properties"]["Environment"]["Variables"]) == SHIM
    assert set(re.findall(r"\bVERIFIER_[A-Z_]+\b", (FILES / "main.tf").read_text("utf-8"))) == SHIM


def test_the_secret_is_read_from_the_secrets_manager(cloudformation: Json) -> None:
    said = json.dumps(cloudformation["Resources"]["Authorizer"]["Properties"]["Environment"]["Variables"])
    assert (
        '"VERIFIER_SECRET": {"Fn::If": ["HasSecret", {"Fn::Sub": "{{resolve:secretsmanager:${VerifierSecret}:' in said
    )


def test_answers_are_cached_for_as_long_as_the_parameter_says(described: Described) -> None:
    cached = {kind: described.of_kind(kind).ttl for kind in ("TOKEN", "REQUEST", "HTTP")}
    assert set(cached.values()) == {60}


def test_a_simple_answer_is_cached_by_method_and_path_too(described: Described) -> None:
    http = described.of_kind("HTTP")
    assert (http.payload, http.simple) == ("2.0", True)
    assert set(http.sources) == {"$request.header.Authorization", "$context.httpMethod", "$context.path"}


def test_policies_are_cached_by_the_token(described: Described) -> None:
    for kind in ("TOKEN", "REQUEST"):
        assert described.of_kind(kind).sources[0] == "method.request.header.Authorization"
    assert described.of_kind("WEBSOCKET").sources == ("route.request.header.Authorization",)


# The validation expression

GOOD = [
    "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
    "Bearer abc-._~+/",
    "Bearer abc=",
    "Bearer abc==",
    "Bearer 0",
    "bearer abc",
    "BEARER abc",
    "Bearer  abc",
]
BAD = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer =",
    "abc",
    "Basic YTpi",
    " Bearer abc",
    "Bearer abc ",
    "Bearer a b",
    "Bearer a,b",
    "Bearer a=b",
    'Bearer "abc"',
    "Bearer\tabc",
    "Bearerabc",
    "Bearer abcé",
    "Bearer a%62c",
    *(f"Bearer a{mark}b" for mark in "[\\]^`"),
]


@pytest.mark.parametrize("value", GOOD)
def test_what_may_be_a_token_is_asked_about(described: Described, value: str) -> None:
    assert re.search(described.of_kind("TOKEN").validation or "$^", value)


@pytest.mark.parametrize("value", BAD)
def test_what_can_be_no_token_is_refused_without_asking(described: Described, value: str) -> None:
    assert not re.search(described.of_kind("TOKEN").validation or "", value)


def test_the_page_shows_this_expression_and_the_published_one(described: Described) -> None:
    shown = PAGE.read_text("utf-8").splitlines()
    assert described.of_kind("TOKEN").validation in shown
    assert PUBLISHED in shown


def test_validation_is_for_the_kind_that_has_it(described: Described) -> None:
    assert [a.kind for a in described.authorizers if a.validation is not None] == ["TOKEN"]


def test_the_published_expression_refuses_good_tokens_and_lets_junk_through() -> None:
    refused = [value for value in GOOD if not re.search(PUBLISHED, value)]
    assert refused == [value for value in GOOD if re.search(r"[~+/=]|^bearer|^BEARER|  ", value)]
    assert all(re.search(PUBLISHED, f"Bearer a{mark}b") for mark in "[\\]^_`")
