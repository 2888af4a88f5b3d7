"""The address of Redis: one server, a group under Sentinels, or a Cluster."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

_DEFAULT_PORT = {"": 6379, "sentinel": 26379, "cluster": 6379}
_FORMS = "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// (rediss+… with TLS)"


class Topology(StrEnum):
    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of Redis' access control lists, or the password alone. With ``file``, the password is what that holds."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class RedisServers:
    """``hosts`` are host and port, of the Sentinels where ``service`` names what they watch; ``path`` is that of a
    Unix socket."""

    topology: Topology
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    path: str | None = None
    service: str | None = None
    db: int = 0
    credentials: Credentials = Credentials()
    sentinel_credentials: Credentials = Credentials()


def parse(url: str) -> RedisServers:
    """The servers that ``url`` names. Raises ``ValueError``, and never with a password in its text."""
    parts = urlsplit(url)
    scheme, _, form = parts.scheme.partition("+")
    if parts.query or parts.fragment:
        raise ValueError("takes no options after ?; timeouts and TLS have keys of their own")
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("expected unix:///path/to/socket")
        return RedisServers(Topology.SINGLE, (), path=unquote(parts.path), credentials=_credentials(parts))
    if scheme not in ("redis", "rediss") or form not in _DEFAULT_PORT:
        raise ValueError(f"expected {_FORMS}")
    topology = Topology(form or "single")
    hosts = _hosts(parts, _DEFAULT_PORT[form])
    if topology is Topology.SINGLE and len(hosts) != 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    service, db = _path(parts.path.strip("/"), topology)
    tls = scheme == "rediss"
    return RedisServers(topology, hosts, tls=tls, service=service, db=db, credentials=_credentials(parts))


def _path(path: str, topology: Topology) -> tuple[str | None, int]:
    """The service of the Sentinels, and the number of the database."""
    if topology is Topology.SENTINEL:
        service, _, path = path.partition("/")
        if not service:
            raise ValueError("expected the name of the service after the hosts: redis+sentinel://host:port/service")
    else:
        service = ""
    if path and not path.isdecimal():
        raise ValueError("expected the number of a database after the host, such as /0")
    if topology is Topology.CLUSTER and path not in ("", "0"):
        raise ValueError("a Cluster has no database but 0")
    return service or None, int(path or 0)


def _hosts(parts: SplitResult, default_port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{text}")
            host, port = one.hostname, one.port or default_port
        except ValueError:
            host, port = None, 0
        if not host:
            raise ValueError("expected host:port, several separated by commas")
        found.append((host, port))
    return tuple(found)


def _credentials(parts: SplitResult) -> Credentials:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return Credentials(unquote(user) or None, unquote(password) or None)
