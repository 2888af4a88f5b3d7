"""The files that a configuration names, read once to say what is wrong with them before the service does."""

import base64
import hashlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from verifier.config.issuer_settings import IssuerSettings
from verifier.config.loading import Problem
from verifier.config.settings import RedisSettings, Settings, TlsSettings
from verifier.core import keys, strict_json
from verifier.core.sealing import KEY_BYTES

SECRET_BYTES = 16


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
    return (*_problems(named), *data_port_problems(settings))


def data_port_problems(settings: Settings) -> tuple[Problem, ...]:
    """Those of the files without which the data port cannot be opened."""
    return (*_caller_problems(settings), *_tls_problems(settings.tls))


def sealing_keys(settings: RedisSettings) -> list[bytes]:
    """The keys that entries in Redis are sealed with, the one for new ones first.

    Without a file, which ``trusted`` permits, it is a key that everybody knows: entries have one form, and are no
    secret. Raises ``OSError`` and ``ValueError``.
    """
    if settings.key_file is None:
        return [hashlib.sha256(b"trusted").digest()]
    files = [settings.key_file, *([settings.previous_key_file] if settings.previous_key_file else [])]
    return [_sealing_key(path.read_bytes()) for path in files]


def secret(content: bytes) -> bytes:
    """The secret in a file's ``content`` that others show us in a header: the admin token, or that of a caller.

    Raises ``ValueError``.
    """
    found = content.strip()
    if len(found) < SECRET_BYTES:
        raise ValueError(f"expected {SECRET_BYTES} characters or more, found {len(found)}")
    if any(not 0x20 <= byte <= 0x7E for byte in found):
        raise ValueError("expected one line of printable ASCII, as it stands in a header")
    return found


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """TLS as ``settings`` want it. Raises ``OSError`` and ``ValueError``."""
    if settings.certificate_file is None:
        raise ValueError("there is no certificate_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate_file, settings.key_file, password=_no_password)
        if settings.client_ca_file is not None:
            context.load_verify_locations(settings.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except ssl.SSLError as error:
        mismatch = "the key is not that of the certificate"
        raise ValueError(mismatch if error.reason == "KEY_VALUES_MISMATCH" else _unusable(error)) from None
    return context


def _no_password() -> str:
    """Without it, OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted")


def _unusable(error: ssl.SSLError) -> str:
    return f"expected a certificate, its key and authorities in PEM; OpenSSL says {error.reason or 'nothing more'}"


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
        yield "ops.admin_token_file", settings.ops.admin_token_file, secret
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


def _caller_problems(settings: Settings) -> Iterator[Problem]:
    owners: dict[bytes, str] = {}
    for place, caller in enumerate(settings.callers):
        name = f"callers[{place}].secret_file"
        yield from _problems([(name, caller.secret_file, secret)])
        with suppress(OSError, ValueError):
            owner = owners.setdefault(secret(caller.secret_file.read_bytes()), caller.name)
            if owner != caller.name:
                yield Problem(name, f"holds the secret of {owner!r}: nobody could tell them apart")


def _tls_problems(settings: TlsSettings) -> tuple[Problem, ...]:
    unread = _problems((f"tls.{name}", path, _not_empty) for name, path in settings.files().items())
    if unread or not settings.files():
        return unread
    try:
        tls_context(settings)
    except (OSError, ValueError) as error:
        return (Problem("tls", str(error)),)
    return ()


def _problems(named: Iterable[tuple[str, Path, Callable[[bytes], object]]]) -> tuple[Problem, ...]:
    return tuple(
        Problem(name, problem) for name, path, check in named if (problem := _problem(path, check)) is not None
    )


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
