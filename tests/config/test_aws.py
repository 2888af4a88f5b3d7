"""What is written for API Gateway."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.config.test_loading import GOOD, loaded, problems
from verifier.config import Settings

SOURCE = {"aws:SourceIp": ["203.0.113.0/24"]}
CONDITION = {"IpAddress": SOURCE}


@pytest.mark.parametrize(
    "condition",
    [
        {"IpAddress": SOURCE},
        {"NotIpAddress": {"aws:SourceIp": "2001:db8::/32"}},
        {"ForAnyValue:StringLikeIfExists": {"aws:UserAgent": ["a*"]}, "Bool": {"aws:SecureTransport": True}},
        {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}, "Null": {"aws:SourceVpc": "true"}},
    ],
)
def test_a_condition_that_iam_understands_is_taken(condition: dict[str, Any], tmp_path: Path) -> None:
    assert loaded(tmp_path, routes=[{"path": "/", "aws_condition": condition}]).routes[0].aws_condition == condition


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({}, "expected operators with keys"),
        ({"IpAddress": {}}, "expected operators with keys"),
        ({"IpAdress": SOURCE}, "did you mean IpAddress?"),
        ({"aws:SourceIp": {"IpAddress": ["203.0.113.0/24"]}}, "is no operator of IAM"),
        ({"IpAddress": {"SourceIp": ["203.0.113.0/24"]}}, "expected a key such as aws:SourceIp"),
        ({"IpAddress": {"aws:SourceIp": ["203.0.113.0/33"]}}, "expected an address or a network"),
        ({"IpAddress": {"aws:SourceIp": []}}, "an empty list is refused"),
        (["IpAddress"], "expected keys and values below it"),
    ],
)
def test_a_condition_that_iam_would_refuse_is_refused(condition: Any, said: str, tmp_path: Path) -> None:
    found = problems(tmp_path, {"issuers": [GOOD], "routes": [{"path": "/", "aws_condition": condition}]})
    assert any(said in message for message in found.values()), found


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"aws": {"usage_keys": {"a": "b"}}}, "aws.usage_keys", "does nothing without usage_key_claim"),
        ({"aws": {"http_answers": "policy", "http_ttl": "zero"}}, "aws.http_ttl", "does nothing with"),
        ({"aws": {"hosts": {"abc": "https://Acme.example"}}}, "aws.hosts", "in lower case, without scheme and port"),
        ({"aws": {"context_claims": "sub"}}, "aws.context_claims", "expected a list"),
        ({"aws": []}, "aws", "expected keys and values below it"),
        (
            {"routes": [{"path": "/", "deny": True, "aws_condition": {"IpAddress": SOURCE}}]},
            "routes[0].aws_condition",
            "d",
        ),
    ],
)
def test_what_makes_no_sense_for_api_gateway_is_refused(
    changes: dict[str, Any], key: str, said: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, {"issuers": [GOOD], **changes})
    assert any(where.startswith(key) and said in message for where, message in found.items()), found


def test_no_word_of_a_choice_is_something_else_in_yaml() -> None:
    """``off`` would be read as false."""
    schema = Settings.model_json_schema()
    words = [
        word
        for section in [schema, *schema["$defs"].values()]
        for value in section.get("properties", {}).values()
        for choice in [value, *value.get("anyOf", ())]
        for word in choice.get("enum", ())
    ]
    assert words
    assert [yaml.safe_load(word) for word in words] == words
