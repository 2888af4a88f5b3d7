"""Everything put together, started in order and stopped in the opposite one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from verifier import __version__
from verifier.app.entrance import configured_surfaces, data_bounds, open_door, within
from verifier.app.issuers import key_sources, open_introspectors
from verifier.app.replicas import engine_limits, open_store, revocation_list, shared_identities
from verifier.config import Settings
from verifier.config.issuers import core_issuer
from verifier.config.routes import core_routes
from verifier.core import claim_path
from verifier.core.issuer import Issuers
from verifier.core.routes import Routes as RouteTable
from verifier.engine import Engine
from verifier.observability.log import Logger
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.ports import Sources
from verifier.remote.http import HttpClient, open_session
from verifier.server import data_port, ops_port
from verifier.server.admin import Admin
from verifier.server.deciding import Decisions
from verifier.server.http import Bounds, Door, HttpServer, Routes
from verifier.server.listening import Close, open_http
from verifier.store.memory import MemoryCache
from verifier.store.revocations import RevocationList
from verifier.surfaces.identity_headers import IdentityHeaders

if TYPE_CHECKING:
    from verifier.server.grpc_port import GrpcPort

OPS_BOUNDS = Bounds(header_bytes=8_190, body_bytes=65_536, connections=256, read_timeout=5.0, keepalive_timeout=75.0)


@dataclass(frozen=True, slots=True)
class Service:
    """A running service. Addresses are ``host:port`` as bound, also where port 0 was asked for."""

    address: str
    ops_address: str
    grpc_address: str | None = None


@asynccontextmanager
async def serving(
    settings: Settings, log: Logger, lines_dropped: Callable[[], int] = lambda: 0
) -> AsyncIterator[Service]:
    """The whole service, from here to the end of the ``async with``. ``lines_dropped`` is for its metric.

    Starts inside out: Redis, keys, revocations, ops port, gRPC and data port; and stops in the opposite order, so that
    requests in progress keep what they need until they are answered.
    """
    bounds = data_bounds(settings)
    _warn(settings, bounds, log)
    metrics = Metrics()
    metrics.log_lines_dropped.set_function(lines_dropped)
    observer = Observer(metrics, log, log_denials=settings.log.denials)
    cache = MemoryCache(settings.cache.max_entries, settings.cache.max_ttl, time.monotonic)
    issuers, table = Issuers(core_issuer(issuer) for issuer in settings.issuers), core_routes(settings)
    async with AsyncExitStack() as stack:
        store = await open_store(settings, observer, stack)
        http = HttpClient(await stack.enter_async_context(open_session()), settings.keys.deadline)
        sources = key_sources(settings, http, observer, cache, store)
        for source in sources.values():
            source.start()
            stack.push_async_callback(source.stop)
        introspectors = await open_introspectors(settings, http, stack)
        revocations = revocation_list(settings, observer, store)
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
        gauges = ops_port.Gauges(metrics, sources, introspectors, cache, revocations, lambda: data.open)
        without_keys = any(not issuer.has_keys for issuer in issuers)
        readiness = ops_port.Readiness(sources, revocations, without_keys=without_keys)
        admin = _admin(settings, revocations, issuers, observer)
        ops = HttpServer({**ops_port.routes(gauges, readiness), **admin}, OPS_BOUNDS, observer)
        grpc_port = _grpc_port(settings, decisions, observer, door, readiness, bounds)
        service = await _open_ports(stack, settings, ops, data, grpc_port)
        log.info(
            "serving", address=service.address, ops=service.ops_address, grpc=service.grpc_address, version=__version__
        )
        yield service
        log.info("stopping")


def _warn(settings: Settings, bounds: Bounds, log: Logger) -> None:
    """Of what the machine lacks."""
    if HttpRequestParser is HttpRequestParserPy:
        log.warning("pure_python_parser", detail="aiohttp has no compiled parser here; it is slow and less strict")
    if bounds.connections < settings.limits.connections:
        log.warning("few_descriptors", detail=f"limits.connections is {bounds.connections} here: raise ulimit -n")


def _admin(settings: Settings, revocations: RevocationList, issuers: Issuers, observer: Observer) -> Routes:
    """Those of the administrator, of which there is none without a token to demand."""
    if settings.ops.admin_token_file is None:
        return {}
    return Admin(settings.ops.admin_token_file, revocations, issuers, settings.revocations.keep, observer).routes()


def _data_port(
    settings: Settings, table: RouteTable, decisions: Decisions, observer: Observer, bounds: Bounds, door: Door
) -> HttpServer:
    asked = configured_surfaces(settings, table)
    served = data_port.routes(asked, decisions, settings.decision_max_age)
    is_trusted = within(settings.trusted_proxies)
    return HttpServer(served, bounds, observer, is_trusted, data_port.unreadable(asked), door)


def _grpc_port(
    settings: Settings,
    decisions: Decisions,
    observer: Observer,
    door: Door,
    readiness: ops_port.Readiness,
    bounds: Bounds,
) -> "GrpcPort | None":
    if settings.grpc.listen is None:
        return None
    from verifier.server.grpc_port import Check, GrpcPort  # noqa: PLC0415 - needs the extra

    admit = None if door.callers is None else door.callers.admit
    check = Check(decisions, observer, within(settings.trusted_proxies), admit)
    return GrpcPort(check, readiness.is_ready, bounds.connections)


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
