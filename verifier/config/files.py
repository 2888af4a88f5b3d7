"""The files that a configuration names, read once to say what is wrong with them before the service does."""

from collections.abc import Callable, Iterator
from pathlib import Path

from verifier.config.loading import Problem
from verifier.config.settings import IssuerSettings, Settings
from verifier.core import keys, strict_json


def file_problems(settings: Settings) -> tuple[Problem, ...]:
    """Key files that cannot be read, or hold no key that can be used."""
    return tuple(
        Problem(f"issuers[{index}].{name}", problem)
        for index, issuer in enumerate(settings.issuers)
        for name, path, check in _files(issuer)
        if (problem := _problem(path, check)) is not None
    )


def _files(issuer: IssuerSettings) -> Iterator[tuple[str, Path, Callable[[bytes], object]]]:
    if issuer.jwks_file is not None:
        yield "jwks_file", issuer.jwks_file, _usable_set
    for place, path in enumerate(issuer.public_key_files or ()):
        yield f"public_key_files[{place}]", path, lambda content: keys.load_pem([content])
    if issuer.secret_file is not None:
        yield "secret_file", issuer.secret_file, lambda content: keys.load_secret(content.strip(), issuer.algorithms)
    if issuer.ca_file is not None:
        yield "ca_file", issuer.ca_file, _certificate


def _problem(path: Path, check: Callable[[bytes], object]) -> str | None:
    try:
        check(path.read_bytes())
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    except ValueError as error:
        return f"{path}: {error}"
    return None


def _usable_set(content: bytes) -> None:
    loaded = keys.load_jwks(strict_json.parse(content))
    if not loaded.keys:
        raise ValueError(f"no key in the set can be used ({dict(loaded.dropped) or 'it is empty'})")


def _certificate(content: bytes) -> None:
    if b"BEGIN CERTIFICATE" not in content:
        raise ValueError("expected certificates in PEM")
