"""The composition root: what is built from settings, and the order in which it starts and stops."""

import resource
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from verifier import __version__
from verifier.config import IssuerSettings, Settings
from verifier.config.issuers import core_issuer
from verifier.core.issuer import TENANT, Issuers
from verifier.core.keys import KeySet
from verifier.engine import Engine, Limits
from verifier.observability.log import Logger
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.remote import origins
from verifier.remote.http import Access, HttpClient, open_session
from verifier.remote.key_source import Freshness, RefreshingKeys
from verifier.remote.origins import FILE_INTERVAL, Origin
from verifier.server import data_port, ops_port
from verifier.server.http import Bounds, HttpServer, Routes
from verifier.store.memory import MemoryCache
from verifier.surfaces import surfaces

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
    sources: Mapping[str, RefreshingKeys]
    engine: Engine


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

    Starts inside out: keys, ops port, data port; and stops in the opposite order, so that requests in progress
    keep what they need until they are answered.
    """
    if HttpRequestParser is HttpRequestParserPy:
        log.warning("pure_python_parser", detail="aiohttp has no compiled parser here; it is slow and less strict")
    bounds = _bounds(settings)
    if bounds.connections < settings.limits.connections:
        log.warning("few_descriptors", detail=f"limits.connections is {bounds.connections} here: raise ulimit -n")
    metrics = Metrics()
    metrics.log_lines_dropped.set_function(lines_dropped)
    observer = Observer(metrics, log, log_denials=settings.log.denials)
    cache = MemoryCache(settings.cache.max_entries, settings.cache.max_ttl, time.monotonic)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        sources = _sources(settings, session, observer, cache)
        for source in sources.values():
            source.start()
            stack.push_async_callback(source.stop)
        engine = Engine(
            issuers=Issuers(core_issuer(issuer) for issuer in settings.issuers),
            sources=sources,
            cache=cache,
            observer=observer,
            limits=Limits(settings.limits.token_bytes, settings.limits.waiting),
            clock=time.time,
        )
        data = HttpServer(data_port.routes(surfaces(), engine, observer), bounds, observer)
        ops_routes: Routes = ops_port.routes(sources, cache, metrics, lambda: len(data.connections))
        ops = HttpServer(ops_routes, OPS_BOUNDS, observer)
        ops_address = await _listen(stack, ops, settings.ops.listen, 1.0)
        address = await _listen(stack, data, settings.listen, settings.stop_timeout)
        log.info("serving", address=address, ops=ops_address, version=__version__)
        yield Service(address, ops_address, sources, engine)
        log.info("stopping")


def _sources(
    settings: Settings, session: aiohttp.ClientSession, observer: Observer, cache: MemoryCache
) -> dict[str, RefreshingKeys]:
    http = HttpClient(session, settings.keys.deadline)

    def changed(issuer: str, keys: KeySet) -> None:
        cache.retain(issuer, keys.held)

    return {
        issuer.name: RefreshingKeys(
            issuer=issuer.name,
            origin=origin_of(issuer, http),
            freshness=_freshness(settings, issuer),
            observer=observer,
            on_change=changed,
        )
        for issuer in settings.issuers
    }


def _freshness(settings: Settings, issuer: IssuerSettings) -> Freshness:
    """A file is looked at every few seconds: it costs nothing, and nobody else is asked."""
    keys = settings.keys
    if issuer.jwks_file or issuer.public_key_files or issuer.secret_file:
        return Freshness(FILE_INTERVAL, keys.max_stale, FILE_INTERVAL, keys.deadline)
    return Freshness(keys.refresh, keys.max_stale, keys.unknown_kid_cooldown, keys.deadline)


def _bounds(settings: Settings) -> Bounds:
    limits = settings.limits
    return Bounds(
        header_bytes=limits.token_bytes + HEADER_SLACK,
        body_bytes=limits.body_bytes,
        connections=max(1, min(limits.connections, _descriptors() - OTHER_DESCRIPTORS)),
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


async def _listen(stack: AsyncExitStack, server: HttpServer, listen: str, stop_timeout: float) -> str:
    host, _, port = listen.rpartition(":")
    runner = web.ServerRunner(server, shutdown_timeout=stop_timeout)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host.strip("[]") or None, int(port), backlog=1024)
    await site.start()
    bound_host, bound_port = runner.addresses[0][:2]
    return f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"
