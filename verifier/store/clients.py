"""redis-py's clients for the servers that an address names: with our limits, and without its retries."""

from asyncio import to_thread
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError  # noqa: A004 - what the store takes for an outage

from verifier.store.servers import Credentials, RedisServers, Topology

Client = Any
"""redis-py's clients have one set of commands and no common type."""


def connect(servers: RedisServers, *, timeout: float, connections: int, ca_file: str | None = None) -> Client:
    """A client for ``servers``, without retries, not connected yet. ``timeout`` in seconds."""
    common: dict[str, Any] = {
        "credential_provider": _provider(servers.credentials),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # without push messages
    }
    encrypted = {"ssl": True, "ssl_ca_certs": ca_file} if servers.tls else {}
    common |= encrypted
    if servers.topology is Topology.CLUSTER:
        nodes = [ClusterNode(host, port) for host, port in servers.hosts]
        return RedisCluster(startup_nodes=nodes, max_connections=connections, require_full_coverage=False, **common)
    common |= {"db": servers.db, "max_connections": connections}
    if servers.topology is Topology.SENTINEL:
        limits = {name: common[name] for name in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")}
        watching = {**limits, **encrypted, "credential_provider": _provider(servers.sentinel_credentials)}
        sentinel = Sentinel(servers.hosts, sentinel_kwargs=watching)  # type: ignore[no-untyped-call]
        return _SentinelClient(sentinel, servers.service, common)
    if servers.path is not None:
        return Redis(unix_socket_path=servers.path, **common)
    ((host, port),) = servers.hosts
    return Redis(host=host, port=port, **common)


def _provider(credentials: Credentials) -> CredentialProvider | None:
    return None if credentials == Credentials() else _Credentials(credentials)


class _Credentials(CredentialProvider):
    """A password in a file is read anew for each connection, so that it can be replaced while connections last."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Raises ``ConnectionError`` where the file cannot be read: Redis is then not there for us."""
        known, file = self._credentials, self._credentials.file
        try:
            password = (known.password or "") if file is None else file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConnectionError(f"the password of Redis cannot be read: {type(error).__name__}") from None
        return (password,) if known.username is None else (known.username, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials() if self._credentials.file is None else await to_thread(self.get_credentials)


class _SentinelClient(Redis):
    """The primary that the Sentinels name, and the connections to the Sentinels themselves."""

    def __init__(self, sentinel: Any, service: str | None, options: dict[str, Any]) -> None:
        primary = sentinel.master_for(service, **options)
        super().__init__(connection_pool=primary.connection_pool)
        self._sentinel = sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: ARG002 - the form of the base
        await super().aclose(close_connection_pool=True)
        await self._sentinel.aclose()
