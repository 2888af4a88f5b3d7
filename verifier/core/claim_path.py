"""Where a claim stands in a payload: a member name, or a JSON Pointer (RFC 6901) when it begins with ``/``.

Names such as ``https://acme.example/roles`` are common, so neither a dot nor a slash inside separates.
"""

from collections.abc import Mapping
from typing import Any

ClaimPath = tuple[str, ...]


def parse(text: str) -> ClaimPath:
    """``scope`` → ``("scope",)``; ``/realm_access/roles`` → ``("realm_access", "roles")``."""
    if not text.startswith("/"):
        return (text,)
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def render(path: ClaimPath) -> str:
    """The text that ``parse`` reads back."""
    if len(path) == 1 and not path[0].startswith("/"):
        return path[0]
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


def find(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """The value at ``path``, or None. Only objects are stepped into; JSON null counts as absent."""
    value = claims.get(path[0])
    for step in path[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value
