"""What one value of the configuration must be, where its type does not say it."""

import ipaddress
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler

from verifier.core import routes
from verifier.core.algorithms import KEY_TYPE
from verifier.presets import presets

EMPTY_LIST = "an empty list is refused: list what is accepted"
UNKNOWN_CALLER = "unknown"
"""What metrics call whoever shows no secret that is known."""
_OTHER_HEADERS = frozenset(
    {
        "authorization",
        "cache-control",
        "allow",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expires",
        "host",
        "keep-alive",
        "location",
        "retry-after",
        "server",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "www-authenticate",
        "x-request-id",
        "x-verifier-secret",
    }
)


def known_algorithm(value: Any) -> Any:
    """Raises ``ValueError`` for a name that cannot be configured, ``none`` above all."""
    if isinstance(value, str) and value not in KEY_TYPE:
        if value.lower() == "none":
            raise ValueError("none would accept unsigned tokens and cannot be configured")
        raise ValueError(f"unknown algorithm {value!r}{suggestion(value, KEY_TYPE)}")
    return value


def known_preset(value: Any) -> Any:
    """Raises ``ValueError`` for a vendor that there is no preset for."""
    if isinstance(value, str) and value not in presets():
        raise ValueError(f"unknown preset {value!r}; there are {', '.join(presets())}")
    return value


def route_path(value: str) -> str:
    """Raises ``ValueError`` for what is no pattern."""
    routes.parse(value)
    return value


def network(value: str) -> str:
    """Raises ``ValueError`` for what is no address or network."""
    try:
        network = ipaddress.ip_network(value)
        if "%" in value or getattr(network.network_address, "ipv4_mapped", None) is not None:
            raise ValueError
    except ValueError:
        raise ValueError(f"expected an address or a network such as 10.0.0.0/8, found {value!r}") from None
    return value


def grpc_is_there(value: str) -> str:
    """Raises ``ValueError`` where the extra is not installed."""
    if find_spec("grpc") is None or find_spec("envoy") is None:
        raise ValueError(
            "needs the extra grpc: pip install '.[grpc]' in the project's folder, into the environment of this command"
        )
    return value


def header_name(value: str) -> str:
    """Raises ``ValueError`` for a header that means something else."""
    if value.lower() in _OTHER_HEADERS or value.lower().startswith(
        ("x-accel-", "x-auth-", "x-forwarded-", "x-original-", "x-http-")
    ):
        raise ValueError(
            f"{value} has a meaning of its own, as all that begins with X-Accel-, X-Auth-, X-Forwarded-, X-HTTP- or"
            " X-Original-"
        )
    return value


def any_or_list(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Report on a list of audiences without also saying that it is not ``any``."""
    try:
        return handler(value)
    except ValidationError:
        if value in ([], ()):
            raise ValueError(EMPTY_LIST) from None
        raise ValueError("expected a list of audiences, or the word any") from None


def suggestion(value: str, known: Iterable[str]) -> str:
    """The end of a sentence about a value that is none of those known."""
    close = get_close_matches(value, list(known), n=1, cutoff=0.5) or get_close_matches(value.upper(), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
