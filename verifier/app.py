"""The composition root: what is built from settings, and the order in which it starts and stops."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from verifier import __version__
from verifier.config import ConfigError, IssuerSettings, Settings
from verifier.config.files import data_port_problems, sealing_keys, secret, tls_context
from verifier.config.issuers import core_issuer
from verifier.config.routes import core_routes
from verifier.config.settings import IntrospectionSettings
from verifier.core import claim_path
from verifier.core.algorithms import KEY_TYPE, WORTH_SHARING
from verifier.core.issuer import TENANT, Issuers
from verifier.core.keys import KeySet
from verifier.core.routes import Routes as RouteTable
from verifier.core.sealing import Sealer
from verifier.engine import Engine
from verifier.observability.log import Logger
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.ports import Limits, SharedIdentities, Sources
from verifier.remote import fleet, origins
from verifier.remote.fleet import FleetOrigin
from verifier.remote.http import Access, HttpClient, in_file_thread, open_session
from verifier.remote.introspector import (
    Auth,
    CallLimits,
    Client,
    Endpoint,
    FixedEndpoint,
    HttpIntrospector,
)
from verifier.remote.key_source import Freshness, RefreshingKeys
from verifier.remote.metadata import DiscoveredAddress
from verifier.remote.origins import FILE_INTERVAL, Origin
from verifier.server import data_port, ops_port
from verifier.server.admin import Admin
from verifier.server.callers import Callers, digest
from verifier.server.deciding import Decisions
from verifier.server.held import Held, renewing
from verifier.server.http import Bounds, Door, HttpServer, Routes
from verifier.server.listening import Close, open_http
from verifier.store.clients import connect
from verifier.store.memory import MemoryCache
from verifier.store.redis import RedisStore
from verifier.store.revocation_log import SharedList
from verifier.store.revocations import LocalList, RevocationList
from verifier.store.servers import parse as parse_servers
from verifier.store.shared import NotShared, Shared
from verifier.surfaces import aws, surfaces
from verifier.surfaces.aws_context import Form
from verifier.surfaces.aws_event import Places
from verifier.surfaces.identity_headers import IdentityHeaders
from verifier.surfaces.surface import Surface

if TYPE_CHECKING:
    from verifier.server.grpc_port import GrpcPort

OPS_BOUNDS = Bounds(header_bytes=8_190, body_bytes=65_536, connections=256, read_timeout=5.0, keepalive_timeout=75.0)
OTHER_DESCRIPTORS = 128
"""Descriptors that clients cannot take: without them keys could not be fetched, and withdrawn ones would stay."""
MOST_DESCRIPTORS = 1_048_576

HEADER_SLACK = 4_096
"""Room in a header line beyond the longest token, so that one that is a little too long is told so."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running service. Addresses are ``host:port`` as bound, also where port 0 was asked for."""

    address: str
    ops_address: str
    grpc_address: str | None = None


def origin_of(issuer: IssuerSettings, http: HttpClient) -> Origin:
    """Where the keys of ``issuer`` come from."""
    access = Access(issuer.ca_file, issuer.bearer_file, issuer.allow_insecure_http)
    if issuer.jwks_file is not None:
        return origins.jwks_file(issuer.jwks_file)
    if issuer.public_key_files is not None:
        return origins.pem_files(issuer.public_key_files)
    if issuer.secret_file is not None:
        return origins.secret_file(issuer.secret_file, issuer.algorithms)
    if issuer.jwks_uri is not None:
        return origins.JwksUri(http, issuer.jwks_uri, access)
    base = issuer.discovery_url if TENANT in issuer.issuer else None
    return origins.Discovered(http, issuer.issuer, access, base=base)


@asynccontextmanager
async def serving(
    settings: Settings, log: Logger, lines_dropped: Callable[[], int] = lambda: 0
) -> AsyncIterator[Service]:
    """The whole service, from here to the end of the ``async with``. ``lines_dropped`` is for its metric.

    Starts inside out: Redis, keys, revocations, ops port, gRPC and data port; and stops in the opposite order, so that
    requests in progress keep what they need until they are answered.
    """
    bounds = _bounds(settings)
    _warn(settings, bounds, log)
    metrics = Metrics()
    metrics.log_lines_dropped.set_function(lines_dropped)
    observer = Observer(metrics, log, log_denials=settings.log.denials)
    cache = MemoryCache(settings.cache.max_entries, settings.cache.max_ttl, time.monotonic)
    issuers, table = Issuers(core_issuer(issuer) for issuer in settings.issuers), core_routes(settings)
    async with AsyncExitStack() as stack:
        store = await _store(settings, observer, stack)
        http = HttpClient(await stack.enter_async_context(open_session()), settings.keys.deadline)
        sources = _key_sources(settings, http, observer, cache, store)
        for source in sources.values():
            source.start()
            stack.push_async_callback(source.stop)
        introspectors = await _introspectors(settings, http, stack)
        revocations = _revocations(settings, observer, store)
        await revocations.start()
        stack.push_async_callback(revocations.stop)
        engine = Engine(
            issuers=issuers,
            sources=Sources(sources, introspectors, _shared(settings, store), revocations),
            cache=cache,
            observer=observer,
            limits=_limits(settings, store),
            clock=time.time,
            routes=table,
        )
        stack.push_async_callback(engine.stop)
        identity = IdentityHeaders({name: claim_path.parse(claim) for name, claim in settings.identity_headers.items()})
        decisions = Decisions(engine, observer, identity)
        stack.push_async_callback(decisions.stop)
        is_trusted = _within(settings.trusted_proxies)
        asked = _surfaces(settings, table)
        served = data_port.routes(asked, decisions, settings.decision_max_age)
        door = await _door(settings, observer, stack)
        data = HttpServer(served, bounds, observer, is_trusted, data_port.unreadable(asked), door)
        gauges = ops_port.Gauges(metrics, sources, introspectors, cache, revocations, lambda: data.open)
        without_keys = any(not issuer.has_keys for issuer in issuers)
        readiness = ops_port.Readiness(sources, revocations, without_keys=without_keys)
        admin = _admin(settings, revocations, issuers, observer)
        ops = HttpServer({**ops_port.routes(gauges, readiness), **admin}, OPS_BOUNDS, observer)
        grpc_port = (
            None
            if settings.grpc.listen is None
            else _grpc_port(decisions, observer, is_trusted, door, readiness, bounds)
        )
        service = await _open_ports(stack, settings, ops, data, grpc_port)
        log.info(
            "serving", address=service.address, ops=service.ops_address, grpc=service.grpc_address, version=__version__
        )
        yield service
        log.info("stopping")


def _surfaces(settings: Settings, table: RouteTable) -> tuple[Surface, ...]:
    """All of them, that for AWS as it is configured."""
    wanted = settings.aws
    options = aws.Options(
        mode=aws.Mode(wanted.policy),
        gives_policies=wanted.http_answers == "policy",
        is_uncached=wanted.http_cache == "off",
        form=Form(wanted.context),
        claims=wanted.context_claims,
        places=Places(wanted.token_header, wanted.token_query, wanted.token_cookie, wanted.bare_tokens),
        usage_keys=None
        if wanted.usage_key_claim is None
        else aws.UsageKeys(claim_path.parse(wanted.usage_key_claim), wanted.usage_keys),
        hosts=wanted.hosts,
        most_held=settings.decision_max_age,
    )
    own = aws.surface(options, table)
    return tuple(own if surface.name == own.name else surface for surface in surfaces())


def _warn(settings: Settings, bounds: Bounds, log: Logger) -> None:
    """Of what the machine lacks."""
    if HttpRequestParser is HttpRequestParserPy:
        log.warning("pure_python_parser", detail="aiohttp has no compiled parser here; it is slow and less strict")
    if bounds.connections < settings.limits.connections:
        log.warning("few_descriptors", detail=f"limits.connections is {bounds.connections} here: raise ulimit -n")


def _admin(settings: Settings, revocations: RevocationList, issuers: Issuers, observer: Observer) -> Routes:
    """None without a token that they demand."""
    if settings.ops.admin_token_file is None:
        return {}
    return Admin(settings.ops.admin_token_file, revocations, issuers, settings.revocations.keep, observer).routes()


async def _door(settings: Settings, observer: Observer, stack: AsyncExitStack) -> Door:
    """Who may ask, and how. Raises ``ConfigError`` where the files that say so cannot be used."""
    problems = await in_file_thread(data_port_problems, settings)
    if problems:
        raise ConfigError(problems)
    digests = {one.name: await Held.of(f"callers.{one.name}", [one.secret_file], _digest) for one in settings.callers}
    tls_files = settings.tls.files().values()
    tls = [await Held.of("tls", tls_files, lambda _: tls_context(settings.tls))] if tls_files else []
    await stack.enter_async_context(renewing([*digests.values(), *tls], observer))
    callers = Callers(digests, _within(settings.callers_exempt), observer)
    return Door(callers.admit if digests else None, tls[0].current if tls else None)


def _digest(contents: Sequence[bytes]) -> bytes:
    return digest(secret(contents[0]))


def _grpc_port(
    decisions: Decisions,
    observer: Observer,
    is_trusted: Callable[[str], bool],
    door: Door,
    readiness: ops_port.Readiness,
    bounds: Bounds,
) -> "GrpcPort":
    from verifier.server.grpc_port import Check, GrpcPort  # noqa: PLC0415 - needs the extra

    return GrpcPort(Check(decisions, observer, is_trusted, door.admit), readiness.is_ready, bounds.connections)


async def _store(settings: Settings, observer: Observer, stack: AsyncExitStack) -> RedisStore | None:
    """Where replicas meet; None where there is but one."""
    redis = settings.redis
    if redis.url is None:
        return None
    servers = parse_servers(redis.url)
    if redis.password_file is not None:
        password = await _password(redis.password_file)
        servers = replace(servers, credentials=replace(servers.credentials, password=password))
    if redis.sentinel_password_file is not None:
        servers = replace(servers, sentinel_password=await _password(redis.sentinel_password_file))
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


async def _password(file: Path) -> str:
    return (await in_file_thread(file.read_text)).strip()


def _shared(settings: Settings, store: RedisStore | None) -> SharedIdentities:
    if store is None or settings.cache.share == "never":
        return NotShared()
    return Shared(store)


def _limits(settings: Settings, store: RedisStore | None) -> Limits:
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


def _revocations(settings: Settings, observer: Observer, store: RedisStore | None) -> RevocationList:
    wanted = settings.revocations
    if store is None:
        return LocalList(wanted.max_entries)
    deny = wanted.when_unfollowed == "deny"
    return SharedList(
        store,
        max_entries=wanted.max_entries,
        grace=wanted.grace,
        deny=deny,
        keep=wanted.keep,
        observer=observer,
    )


async def _introspectors(settings: Settings, http: HttpClient, stack: AsyncExitStack) -> dict[str, HttpIntrospector]:
    """For each issuer that is asked about tokens. Their calls have connections of their own, so that none of them
    waits for one of another issuer, or keeps keys from being fetched."""
    session = await stack.enter_async_context(open_session(per_host=0))
    made = {
        issuer.name: _introspector(issuer, issuer.introspection, http, session)
        for issuer in settings.issuers
        if issuer.introspection is not None
    }
    for introspector in made.values():
        stack.push_async_callback(introspector.stop)
    return made


def _introspector(
    issuer: IssuerSettings, asked: IntrospectionSettings, http: HttpClient, session: aiohttp.ClientSession
) -> HttpIntrospector:
    access = Access(issuer.ca_file, None, issuer.allow_insecure_http)
    secret_file = asked.client_secret_file or asked.client_key_file or asked.bearer_file
    if secret_file is None:
        raise ValueError(f"issuer {issuer.name!r} has no credentials for introspection")
    endpoint: Endpoint = DiscoveredAddress(http, issuer.issuer, access, "introspection_endpoint")
    if asked.endpoint is not None:
        endpoint = FixedEndpoint(asked.endpoint)
    return HttpIntrospector(
        http=HttpClient(session, asked.deadline),
        issuer=issuer.issuer,
        endpoint=endpoint,
        access=access,
        client=Client(Auth(asked.auth), asked.client_id or "", secret_file),
        limits=CallLimits(asked.deadline, asked.max_calls),
    )


def _key_sources(
    settings: Settings, http: HttpClient, observer: Observer, cache: MemoryCache, store: RedisStore | None
) -> dict[str, RefreshingKeys]:
    def changed(issuer: str, keys: KeySet) -> None:
        cache.retain(issuer, keys.held)

    return {
        issuer.name: RefreshingKeys(
            issuer=issuer.name,
            origin=origin,
            freshness=freshness,
            observer=observer,
            on_change=changed,
        )
        for issuer in settings.issuers
        for origin, freshness in (_origin(settings, issuer, http, store),)
        if issuer.introspect != "only"
    }


def _origin(
    settings: Settings, issuer: IssuerSettings, http: HttpClient, store: RedisStore | None
) -> tuple[Origin, Freshness]:
    """Where the issuer's keys come from, and how often. Keys in files are each replica's own."""
    origin, freshness = origin_of(issuer, http), _freshness(settings, issuer)
    if store is None or isinstance(origin, origins.Files):
        return origin, freshness
    return FleetOrigin(origin, store, core_issuer(issuer).fingerprint, freshness), fleet.patient(freshness)


def _freshness(settings: Settings, issuer: IssuerSettings) -> Freshness:
    """A file is looked at every few seconds: it costs nothing, and nobody else is asked."""
    keys = settings.keys
    if issuer.jwks_file or issuer.public_key_files or issuer.secret_file:
        return Freshness(FILE_INTERVAL, keys.max_stale, FILE_INTERVAL, keys.deadline)
    return Freshness(keys.refresh, keys.max_stale, keys.unknown_kid_cooldown, keys.deadline)


def _within(networks: Iterable[str]) -> Callable[[str], bool]:
    """Whether a peer's address is in one of ``networks``; that of a Unix socket is empty, and counts as if it was."""
    known = tuple(map(ip_network, networks))

    @lru_cache(1_024)
    def is_within(peer: str) -> bool:
        if not peer:
            return True
        address = ip_address(peer.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in known)

    return is_within


def _bounds(settings: Settings) -> Bounds:
    limits = settings.limits
    ports = 1 if settings.grpc.listen is None else 2
    return Bounds(
        header_bytes=limits.token_bytes + HEADER_SLACK,
        body_bytes=limits.body_bytes,
        connections=max(1, min(limits.connections, (_descriptors() - OTHER_DESCRIPTORS) // ports)),
        read_timeout=limits.read_timeout,
        keepalive_timeout=limits.keepalive_timeout,
    )


def _descriptors() -> int:
    """How many descriptors this process may have, after asking for as many as it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


async def _open_ports(
    stack: AsyncExitStack, settings: Settings, ops: HttpServer, data: HttpServer, grpc_port: "GrpcPort | None"
) -> Service:
    """Listen. The ops port ends last, and those that gateways ask at together, in the time of one."""
    mode = int(settings.socket_mode, 8)
    ops_address, close_ops = await open_http(ops, settings.ops.listen, mode, 1.0)
    stack.push_async_callback(close_ops)
    closing: list[Close] = []
    stack.push_async_callback(_together, closing)
    grpc_address = None
    if grpc_port is not None and settings.grpc.listen is not None:
        grpc_address = await grpc_port.open(settings.grpc.listen, mode)
        closing.append(partial(grpc_port.close, settings.stop_timeout))
    address, close_data = await open_http(data, settings.listen, mode, settings.stop_timeout)
    closing.append(close_data)
    return Service(address, ops_address, grpc_address)


async def _together(closing: Iterable[Close]) -> None:
    await asyncio.gather(*(close() for close in closing))
