"""The files that a configuration names, read once to say what is wrong with them before the service does."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from verifier.config.loading import Problem
from verifier.config.settings import IssuerSettings, RedisSettings, Settings
from verifier.core import keys, strict_json
from verifier.core.sealing import KEY_BYTES

ADMIN_TOKEN_BYTES = 16


def file_problems(settings: Settings) -> tuple[Problem, ...]:
    """Key files that cannot be read, or hold no key that can be used."""
    named = [
        *_service_files(settings),
        *(
            (f"issuers[{index}].{name}", path, check)
            for index, issuer in enumerate(settings.issuers)
            for name, path, check in _files(issuer)
        ),
    ]
    return tuple(
        Problem(name, problem) for name, path, check in named if (problem := _problem(path, check)) is not None
    )


def sealing_keys(settings: RedisSettings) -> list[bytes]:
    """The keys that entries in Redis are sealed with, the one for new ones first.

    Without a file, which ``trusted`` permits, it is a key that everybody knows: entries have one form, and are no
    secret. Raises ``OSError`` and ``ValueError``.
    """
    if settings.key_file is None:
        return [hashlib.sha256(b"trusted").digest()]
    files = [settings.key_file, *([settings.previous_key_file] if settings.previous_key_file else [])]
    return [_sealing_key(path.read_bytes()) for path in files]


def admin_token(content: bytes) -> bytes:
    """The token in the file's ``content``. Raises ``ValueError``."""
    token = content.strip()
    if len(token) < ADMIN_TOKEN_BYTES:
        raise ValueError(f"an admin token has {ADMIN_TOKEN_BYTES} characters or more, found {len(token)}")
    return token


def _sealing_key(content: bytes) -> bytes:
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("expected 32 random bytes in base64 (openssl rand -base64 32)")
    return key


def _service_files(settings: Settings) -> Iterator[tuple[str, Path, Callable[[bytes], object]]]:
    redis = settings.redis
    if settings.ops.admin_token_file is not None:
        yield "ops.admin_token_file", settings.ops.admin_token_file, admin_token
    for name, path in (("key_file", redis.key_file), ("previous_key_file", redis.previous_key_file)):
        if path is not None:
            yield f"redis.{name}", path, _sealing_key
    if redis.password_file is not None:
        yield "redis.password_file", redis.password_file, _not_empty
    if redis.sentinel_password_file is not None:
        yield "redis.sentinel_password_file", redis.sentinel_password_file, _not_empty
    if redis.ca_file is not None:
        yield "redis.ca_file", redis.ca_file, _certificate


def _files(issuer: IssuerSettings) -> Iterator[tuple[str, Path, Callable[[bytes], object]]]:
    if issuer.jwks_file is not None:
        yield "jwks_file", issuer.jwks_file, _usable_set
    for place, path in enumerate(issuer.public_key_files or ()):
        yield f"public_key_files[{place}]", path, lambda content: keys.load_pem([content])
    if issuer.secret_file is not None:
        yield "secret_file", issuer.secret_file, lambda content: keys.load_secret(content.strip(), issuer.algorithms)
    if issuer.ca_file is not None:
        yield "ca_file", issuer.ca_file, _certificate
    asked = issuer.introspection
    if asked is not None and asked.client_secret_file is not None:
        yield "introspection.client_secret_file", asked.client_secret_file, _not_empty
    if asked is not None and asked.bearer_file is not None:
        yield "introspection.bearer_file", asked.bearer_file, _not_empty
    if asked is not None and asked.client_key_file is not None:
        yield "introspection.client_key_file", asked.client_key_file, keys.load_client_key


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


def _not_empty(content: bytes) -> None:
    if not content.strip():
        raise ValueError("is empty")


def _certificate(content: bytes) -> None:
    if b"BEGIN CERTIFICATE" not in content:
        raise ValueError("expected certificates in PEM")
