"""A configuration in the place of another, while the service runs."""

import hashlib

from verifier.config.files import file_problems
from verifier.config.loading import ConfigError, Problem
from verifier.config.settings import Settings

FIXED = ("listen", "socket_mode", "workers", "ops", "grpc", "redis", "revocations", "log", "event_loop")
"""What is what it was at the start: places that are listened at, processes, and what they share."""

_RESTART = "differs from what the service was started with; restart it, or put it back"


def check(old: Settings, new: Settings) -> None:
    """Whether ``new`` can take the place of ``old``. Raises ``ConfigError`` with all that is against it."""
    fixed = [Problem(name, _RESTART) for name in FIXED if getattr(old, name) != getattr(new, name)]
    if bool(old.tls.files()) != bool(new.tls.files()):
        fixed.append(Problem("tls", "TLS cannot be switched on or off while the service runs: restart it"))
    problems = (*fixed, *file_problems(new))
    if problems:
        raise ConfigError(problems)


def changes(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys at the top that differ."""
    return tuple(name for name in Settings.model_fields if getattr(old, name) != getattr(new, name))


def changed_issuers(old: Settings, new: Settings) -> frozenset[str]:
    """Names of issuers that are gone, new, or configured otherwise, but for what is on trial."""
    before, after = ({issuer.name: issuer.enforced() for issuer in one.issuers} for one in (old, new))
    return frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def digest(settings: Settings) -> int:
    """A number that stands for the whole configuration: 48 bits, which a metric's value holds exactly.

    But for addresses: each replica may listen at one of its own, and that of Redis may hold a password that somebody
    could try to guess.
    """
    written = settings.model_dump_json(
        exclude={"listen": True, "ops": {"listen"}, "grpc": {"listen"}, "redis": {"url"}}
    )
    return int.from_bytes(hashlib.sha256(written.encode()).digest()[:6], "big")
