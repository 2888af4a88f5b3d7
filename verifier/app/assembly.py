"""All of the service but its ops port: what one process has, and each worker where there are several."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from socket import socket
from typing import TYPE_CHECKING

from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from verifier.app.entrance import configured_surfaces, data_bounds, open_door, within
from verifier.app.issuers import key_sources, open_introspectors
from verifier.app.replicas import engine_limits, open_store, revocation_list, shared_identities
from verifier.config import Settings
from verifier.config.issuers import core_issuer
from verifier.config.routes import core_routes
from verifier.core import claim_path
from verifier.core.issuer import Issuers
from verifier.core.revocation import Revocations
from verifier.core.routes import Routes as RouteTable
from verifier.engine import Engine
from verifier.observability.log import Logger
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.ports import Sources
from verifier.remote.http import HttpClient, open_session
from verifier.server import data_port
from verifier.server.deciding import Decisions
from verifier.server.http import Bounds, Door, HttpServer
from verifier.server.listening import Close, serve_http
from verifier.server.ops_port import Gauges
from verifier.server.readiness import Readiness
from verifier.store.memory import MemoryCache
from verifier.store.revocations import RevocationList
from verifier.surfaces.identity_headers import IdentityHeaders

if TYPE_CHECKING:
    from verifier.server.grpc_port import GrpcPort


@dataclass(frozen=True, slots=True)
class Assembly:
    """What decides and what says how it fares, with ports that are not open yet."""

    data: HttpServer
    grpc: "GrpcPort | None"
    gauges: Gauges
    readiness: Readiness
    revocations: RevocationList
    issuers: Issuers
    observer: Observer


def observing(settings: Settings, log: Logger, lines_dropped: Callable[[], int]) -> Observer:
    """With metrics of its own, of which ``lines_dropped`` is one."""
    metrics = Metrics()
    metrics.log_lines_dropped.set_function(lines_dropped)
    return Observer(metrics, log, log_denials=settings.log.denials)


async def assemble(
    settings: Settings, observer: Observer, stack: AsyncExitStack, held: Revocations | None = None
) -> Assembly:
    """Put together and started inside out: Redis, keys, revocations, what decides. ``stack`` stops it in the opposite
    order, so that requests in progress keep what they need until they are answered.

    ``held`` is the list of revocations where there is no Redis and somebody else keeps it.
    """
    bounds = data_bounds(settings)
    _warn(settings, bounds, observer.log)
    cache = MemoryCache(settings.cache.max_entries, settings.cache.max_ttl, time.monotonic)
    issuers, table = Issuers(core_issuer(issuer) for issuer in settings.issuers), core_routes(settings)
    store = await open_store(settings, observer, stack)
    http = HttpClient(await stack.enter_async_context(open_session()), settings.keys.deadline)
    sources = key_sources(settings, http, observer, cache, store)
    for source in sources.values():
        source.start()
        stack.push_async_callback(source.stop)
    introspectors = await open_introspectors(settings, http, stack)
    revocations = revocation_list(settings, observer, store, held)
    await revocations.start()
    stack.push_async_callback(revocations.stop)
    engine = Engine(
        issuers=issuers,
        sources=Sources(sources, introspectors, shared_identities(settings, store), revocations),
        cache=cache,
        observer=observer,
        limits=engine_limits(settings, store),
        clock=time.time,
        routes=table,
    )
    stack.push_async_callback(engine.stop)
    identity = IdentityHeaders({name: claim_path.parse(claim) for name, claim in settings.identity_headers.items()})
    decisions = Decisions(engine, observer, identity)
    stack.push_async_callback(decisions.stop)
    door = await open_door(settings, observer, stack)
    data = _data_port(settings, table, decisions, observer, bounds, door)
    readiness = Readiness(sources, revocations, without_keys=any(not issuer.has_keys for issuer in issuers))
    return Assembly(
        data=data,
        grpc=_grpc_port(settings, decisions, observer, door, readiness, bounds),
        gauges=Gauges(observer.metrics, sources, introspectors, cache, revocations, lambda: data.open),
        readiness=readiness,
        revocations=revocations,
        issuers=issuers,
        observer=observer,
    )


async def open_ports(
    stack: AsyncExitStack, settings: Settings, assembly: Assembly, sockets: Iterable[socket]
) -> str | None:
    """Answer gateways on ``sockets``, and over gRPC, whose address is returned. They end together, in the time of one.

    Raises ``OSError``.
    """
    closing: list[Close] = []
    stack.push_async_callback(_together, closing)
    grpc_address = None
    if assembly.grpc is not None and settings.grpc.listen is not None:
        grpc_address = await assembly.grpc.open(settings.grpc.listen, int(settings.socket_mode, 8))
        closing.append(partial(assembly.grpc.close, settings.stop_timeout))
    closing.append(await serve_http(assembly.data, sockets, settings.stop_timeout))
    return grpc_address


async def _together(closing: Iterable[Close]) -> None:
    await asyncio.gather(*(close() for close in closing))


def _warn(settings: Settings, bounds: Bounds, log: Logger) -> None:
    """Of what the machine lacks."""
    if HttpRequestParser is HttpRequestParserPy:
        log.warning("pure_python_parser", detail="aiohttp has no compiled parser here; it is slow and less strict")
    if bounds.connections < settings.limits.connections:
        log.warning("few_descriptors", detail=f"limits.connections is {bounds.connections} here: raise ulimit -n")


def _data_port(
    settings: Settings, table: RouteTable, decisions: Decisions, observer: Observer, bounds: Bounds, door: Door
) -> HttpServer:
    asked = configured_surfaces(settings, table)
    served = data_port.routes(asked, decisions, settings.decision_max_age)
    is_trusted = within(settings.trusted_proxies)
    return HttpServer(served, bounds, observer, is_trusted, data_port.unreadable(asked), door)


def _grpc_port(
    settings: Settings, decisions: Decisions, observer: Observer, door: Door, readiness: Readiness, bounds: Bounds
) -> "GrpcPort | None":
    if settings.grpc.listen is None:
        return None
    from verifier.server.grpc_port import Check, GrpcPort  # noqa: PLC0415 - needs the extra

    admit = None if door.callers is None else door.callers.admit
    check = Check(decisions, observer, within(settings.trusted_proxies), admit)
    return GrpcPort(check, readiness.is_ready, bounds.connections, shared=settings.workers > 1)
