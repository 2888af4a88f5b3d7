"""Read the file and the environment, and report everything that is wrong with them at once."""

import os
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from verifier.config.settings import DEFAULT_PREFIX, PREFIX, Settings
from verifier.config.values import EMPTY_LIST

FILE_VARIABLE = "VERIFIER_CONFIG"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: the path of its key, and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` are all of the reasons."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def file_of(path: Path | None = None) -> Path | None:
    """The file that ``load`` reads, if there is one."""
    return path or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)


def load(path: Path | None = None) -> Settings:
    """The settings from the file at ``path``, else the one that ``VERIFIER_CONFIG`` names, under those from
    the environment. Without a file, ``TOKEN_ISSUER``, ``AUDIENCE`` and ``JWKS_URI`` make one issuer.

    Raises ``ConfigError``.
    """
    named = file_of(path)
    written = _read(named) if named else _from_sample_variables()
    unknown = _unknown_variables()
    if not written and not any(name.startswith(PREFIX) for name in os.environ):
        raise ConfigError((Problem("", f"no configuration: give --config FILE, {FILE_VARIABLE} or TOKEN_ISSUER"),))
    try:
        settings = Settings(**written)
    except ValidationError as error:
        raise ConfigError((*_problems(error), *unknown)) from None
    except SettingsError as error:
        raise ConfigError((Problem("", f"the environment cannot be read: {error.__cause__ or error}"),)) from None
    if unknown:
        raise ConfigError(unknown)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text("utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((Problem("", f"cannot read {path}: {error}"),)) from None
    except yaml.YAMLError as error:
        raise ConfigError((Problem("", f"{path} is not YAML: {error}"),)) from None
    if not isinstance(data, dict):
        raise ConfigError((Problem("", f"{path}: expected keys and values at the top, such as issuers:"),))
    return data


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets the last of repeated keys win. Two ``audiences`` are a mistake that must be told."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _from_sample_variables() -> dict[str, Any]:
    """One issuer from the variables of Auth0's authorizer sample."""
    if not os.environ.get("TOKEN_ISSUER"):
        return {}
    issuer: dict[str, Any] = {"name": "default", "issuer": os.environ["TOKEN_ISSUER"]}
    if os.environ.get("AUDIENCE"):
        issuer["audiences"] = [os.environ["AUDIENCE"]]
    if os.environ.get("JWKS_URI"):
        issuer["jwks_uri"] = os.environ["JWKS_URI"]
    return {"issuers": [issuer]}


def _unknown_variables() -> tuple[Problem, ...]:
    """Variables with our prefix that stand for no key: pydantic-settings would pass over them."""
    return tuple(
        Problem(name, "stands for no key of the configuration")
        for name in sorted(os.environ)
        for prefix in (PREFIX, DEFAULT_PREFIX)
        if name.startswith(prefix) and name.removeprefix(prefix).split("__")[0].lower() not in Settings.model_fields
    )


def _problems(error: ValidationError) -> tuple[Problem, ...]:
    """Each mistake once. Where an entry of a list is wrong, that the list seems empty is no news."""
    found = dict.fromkeys(Problem(_path(entry["loc"]), _message(entry)) for entry in error.errors(include_url=False))
    return tuple(
        problem
        for problem in found
        if problem.message != EMPTY_LIST or not any(other.path.startswith(f"{problem.path}[") for other in found)
    )


def _path(location: tuple[str | int, ...]) -> str:
    """``("issuers", 0, "name")`` → ``issuers[0].name``, without the names of union members."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z0-9_]+|/.*", step):
            path += f".{step}" if path else step
    return path


def _message(entry: ErrorDetails) -> str:
    return _OF_FORM.get(entry["type"]) or entry["msg"].removeprefix("Value error, ")


_OF_FORM = {
    "extra_forbidden": "is no key of the configuration",
    "missing": "is mandatory",
    "too_short": EMPTY_LIST,
    "tuple_type": "expected a list, such as [one, another]",
    "dict_type": "expected keys and values below it",
    "model_type": "expected keys and values below it",
}
"""What pydantic says in the words of Python."""
