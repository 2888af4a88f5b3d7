"""What one value of the configuration must be, where its type does not say it."""

import ipaddress
import re
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
_COMPARED = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
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


ADDRESS = re.compile(
    r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]*):"
    r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})$"
)
HOST = re.compile(r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$|^\[[0-9a-f:.]+\]$")
_IAM_OPERATORS = frozenset(
    f"{kind}{how}"
    for kind, hows in {
        "String": ("Equals", "NotEquals", "EqualsIgnoreCase", "NotEqualsIgnoreCase", "Like", "NotLike"),
        "Numeric": _COMPARED,
        "Date": _COMPARED,
        "Arn": ("Equals", "NotEquals", "Like", "NotLike"),
        "": ("Bool", "BinaryEquals", "IpAddress", "NotIpAddress", "Null"),
    }.items()
    for how in hows
)


def address(value: str) -> str:
    """Raises ``ValueError`` for what is no address to listen at."""
    if ADDRESS.fullmatch(value) is None:
        raise ValueError(f"expected host:port, such as 127.0.0.1:8080 or [::1]:8080, port 0 to 65535, found {value!r}")
    return value


def host(value: str) -> str:
    """Raises ``ValueError`` for what is no host as hosts are compared."""
    if HOST.fullmatch(value) is None:
        raise ValueError(f"expected a host in lower case, without scheme and port, found {value!r}")
    return value


def iam_operator(value: str) -> str:
    """Raises ``ValueError`` for what is no operator of a Condition block."""
    name = value.removeprefix("ForAllValues:").removeprefix("ForAnyValue:").removesuffix("IfExists")
    if name not in _IAM_OPERATORS:
        raise ValueError(f"{value!r} is no operator of IAM{suggestion(name, sorted(_IAM_OPERATORS))}")
    return value


def iam_key(value: str) -> str:
    """Raises ``ValueError`` for what is no key of a Condition block."""
    if re.fullmatch(r"[A-Za-z0-9-]+:\S+", value) is None:
        raise ValueError(f"expected a key such as aws:SourceIp, found {value!r}")
    return value


def iam_condition(value: dict[str, dict[str, str | bool | list[str]]]) -> dict[str, dict[str, str | bool | list[str]]]:
    """Raises ``ValueError`` for a Condition block that says nothing, or that IAM would refuse: it refuses the whole
    policy with it."""
    if not value or not all(value.values()):
        raise ValueError("expected operators with keys, such as IpAddress: {aws:SourceIp: [203.0.113.0/24]}")
    for operator, keys in value.items():
        for key, given in keys.items():
            texts = given if isinstance(given, list) else [given]
            if not texts:
                raise ValueError(f"{operator}, {key}: {EMPTY_LIST}")
            if "IpAddress" in operator:
                for text in texts:
                    network(str(text))
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
    if find_spec("grpc") is None or find_spec("grpc_health") is None:
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
