"""What replicas share, and what each has by itself where there is no Redis."""

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from verifier.config import Settings
from verifier.config.files import sealing_keys
from verifier.core.algorithms import KEY_TYPE, WORTH_SHARING
from verifier.core.revocation import Revocations
from verifier.core.sealing import Sealer
from verifier.observability.observer import Observer
from verifier.ports import Limits, SharedIdentities
from verifier.remote.http import in_file_thread
from verifier.store.revocations import LocalList, RevocationList
from verifier.store.servers import Credentials
from verifier.store.servers import parse as parse_servers
from verifier.store.shared import NotShared, Shared

if TYPE_CHECKING:
    from verifier.store.redis import RedisStore


async def open_store(settings: Settings, observer: Observer, stack: AsyncExitStack) -> "RedisStore | None":
    """Where replicas meet; None where there is but one."""
    redis = settings.redis
    if redis.url is None:
        return None
    # The client is a fifth of what there is to import, so that is left to those who have a Redis.
    from verifier.store.clients import connect  # noqa: PLC0415
    from verifier.store.redis import RedisStore  # noqa: PLC0415

    servers = parse_servers(redis.url)
    if redis.password_file is not None:
        await in_file_thread(redis.password_file.read_text)  # or the start fails, as it does for other files
        servers = replace(servers, credentials=replace(servers.credentials, file=redis.password_file))
    if redis.sentinel_password_file is not None:
        await in_file_thread(redis.sentinel_password_file.read_text)
        servers = replace(servers, sentinel_credentials=Credentials(file=redis.sentinel_password_file))
    ca_file = None if redis.ca_file is None else str(redis.ca_file)
    store = RedisStore(
        connect(servers, timeout=redis.timeout, connections=redis.connections, ca_file=ca_file),
        sealer=Sealer(await in_file_thread(sealing_keys, redis)),
        prefix=redis.prefix,
        timeout=redis.timeout,
        connections=redis.connections,
        observer=observer,
    )
    stack.push_async_callback(store.stop)
    return store


def shared_identities(settings: Settings, store: "RedisStore | None") -> SharedIdentities:
    """Identities that replicas ask each other for."""
    if store is None or settings.cache.share == "never":
        return NotShared()
    return Shared(store)


def engine_limits(settings: Settings, store: "RedisStore | None") -> Limits:
    """What the engine keeps to."""
    share = "never" if store is None else settings.cache.share
    return Limits(
        token_bytes=settings.limits.token_bytes,
        waiting=settings.limits.waiting,
        shared_algorithms={
            "never": frozenset[str](),
            "auto": WORTH_SHARING,
            "always": frozenset(KEY_TYPE),
        }[share],
        shared_for=settings.cache.max_ttl,
    )


def revocation_list(
    settings: Settings, observer: Observer, store: "RedisStore | None", held: Revocations | None = None
) -> RevocationList:
    """The one list of all replicas, or our own, which is ``held`` where somebody else keeps it."""
    wanted = settings.revocations
    if store is None:
        return LocalList(wanted.max_entries, held)
    from verifier.store.revocation_log import SharedList  # noqa: PLC0415 - as above

    deny = wanted.when_unfollowed == "deny"
    return SharedList(
        store,
        max_entries=wanted.max_entries,
        grace=wanted.grace,
        deny=deny,
        keep=wanted.keep,
        observer=observer,
    )
