"""What the SAM template and Terraform's files come to, in one form."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LAMBDA = Path(__file__).parents[3] / "deploy/lambda"

Json = dict[str, Any]


@dataclass(frozen=True)
class Authorizer:
    api: str
    kind: str
    function: str
    ttl: int | None
    sources: tuple[str, ...]
    validation: str | None
    simple: bool = False
    payload: str | None = None


@dataclass(frozen=True)
class Method:
    api: str
    name: str
    authorizer: Authorizer | None


@dataclass(frozen=True)
class Described:
    """``invokers`` are the APIs whose authorizers may invoke the function, ``refusals`` the headers of the answers that
    a REST API gives by itself, by API and type, and ``preflights`` what the HTTP APIs answer without asking."""

    function: str
    timeout: int
    verifier_timeout: float
    methods: list[Method]
    invokers: list[str]
    refusals: dict[str, dict[str, Json]]
    preflights: dict[str, Json]

    @property
    def authorizers(self) -> set[Authorizer]:
        return {method.authorizer for method in self.methods if method.authorizer}

    def of_kind(self, kind: str) -> Authorizer:
        (found,) = (authorizer for authorizer in self.authorizers if authorizer.kind == kind)
        return found


def require_module(name: str) -> None:
    """Skip where a package of ``make e2e`` is missing; fail where it must not be (``E2E_REQUIRE=1``)."""
    if importlib.util.find_spec(name) is not None:
        return
    lacking = f"{name} is not installed: run make e2e"
    if os.environ.get("E2E_REQUIRE") == "1":
        pytest.fail(lacking)
    pytest.skip(lacking)
