"""What an authorizer of AWS hands on about a principal: strings, numbers and booleans, and nothing else."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from verifier.core import base64url
from verifier.core.verdict import Principal

Value = str | int | float | bool

RESERVED = "verifier_"
"""What names of fields begin with that are no claims."""

_OF_AWS = frozenset({"", "principalId", "integrationLatency", "error", "latency", "requestId", "status"})
"""What API Gateway itself has beside the context, under these names."""

_EXACT = 2**53
"""Integers beyond are not exact where numbers are floating point."""


class Form(StrEnum):
    """How claims are told."""

    CLAIMS = "claims"  # as text, as the JWT authorizer of HTTP APIs has it
    FLAT = "flat"  # numbers and booleans as they are, objects by dotted names, arrays as JSON
    SAFE = "safe"  # all of them in one value: JSON in base64url


def context(principal: Principal, form: Form, names: tuple[str, ...] | None = None) -> dict[str, Value]:
    """The claims ``names``, or all, in the given form, and the scopes as one text."""
    claims = {
        name: value
        for name, value in principal.claims.items()
        if value is not None and (names is None or name in names) and not _means_something_else(name)
    }
    told: dict[str, Value]
    if form is Form.SAFE:
        told = {"claims": base64url.encode(json.dumps(claims, separators=(",", ":")).encode("ascii"))}
    elif form is Form.FLAT:
        nested = {name: value for name, value in claims.items() if isinstance(value, Mapping)}
        plain = {name: value for name, value in claims.items() if name not in nested}
        told = {**dict(_flat(nested, "")), **dict(_flat(plain, ""))}  # a claim counts before a member that would be it
    else:
        told = {name: native(value) for name, value in claims.items()}
    if principal.scopes:
        told["scope"] = " ".join(principal.scopes)
    return told


def _means_something_else(name: str) -> bool:
    return name in _OF_AWS or name.startswith(RESERVED)


def native(value: Any) -> str:
    """As the JWT authorizer of HTTP APIs writes a claim: arrays and objects as Go prints them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(map(native, value))}]"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{name}:{native(one)}' for name, one in sorted(value.items()))}]"
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    return "<nil>" if value is None else str(value)


def _flat(claims: Mapping[str, Any], above: str) -> Iterator[tuple[str, Value]]:
    for name, value in claims.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif isinstance(value, bool | str | float) or (isinstance(value, int) and abs(value) <= _EXACT):
            yield f"{above}{name}", value
        elif isinstance(value, int):
            yield f"{above}{name}", str(value)
        elif value is not None:
            yield f"{above}{name}", json.dumps(value, separators=(",", ":"))
