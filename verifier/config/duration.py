"""Durations as people write them: ``50ms``, ``30s``, ``10m``, ``24h``, ``7d``."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(value: Any) -> float:
    """``"10m"`` → 600.0. Raises ``ValueError`` for a number without a unit, which would have to be guessed."""
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a duration with its unit, such as 50ms, 30s, 10m, 24h or 7d")
    return float(match.group(1)) * _SECONDS[match.group(2)]


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    Field(allow_inf_nan=False),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h|d)$"}),
]
"""Seconds, written with a unit."""
