"""Everything put together in one process, started in order and stopped in the opposite one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from prometheus_client import Metric

from verifier import __version__
from verifier.app.assembly import assemble, observing, open_ports
from verifier.config import Settings
from verifier.core.issuer import Issuers
from verifier.observability.log import Logger
from verifier.observability.observer import Observer
from verifier.server import ops_port
from verifier.server.admin import Admin
from verifier.server.http import HttpServer, Routes
from verifier.server.listening import bind, open_http
from verifier.server.readiness import State
from verifier.store.revocations import RevocationList


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

    The ops port opens before those that gateways ask at, and ends after them.
    """
    observer = observing(settings, log, lines_dropped)
    async with AsyncExitStack() as stack:
        made = await assemble(settings, observer, stack)

        async def state() -> State:
            return made.readiness.state()

        async def families() -> tuple[Metric, ...]:
            return made.gauges.families()

        routes = {
            **ops_port.routes(state, families),
            **admin_routes(settings, made.revocations, made.issuers, observer),
        }
        ops_address = await open_ops(stack, settings, routes, observer)
        bound = await bind(settings.listen, int(settings.socket_mode, 8))
        stack.callback(bound.close)
        grpc_address = await open_ports(stack, settings, made, bound.shares[0])
        observer.metrics.workers.set(1)
        service = Service(bound.address, ops_address, grpc_address)
        log_serving(log, service)
        yield service
        log.info("stopping")


async def open_ops(stack: AsyncExitStack, settings: Settings, routes: Routes, observer: Observer) -> str:
    """Returns the address. Raises ``OSError``."""
    server = HttpServer(routes, ops_port.BOUNDS, observer)
    address, close = await open_http(server, settings.ops.listen, int(settings.socket_mode, 8), 1.0)
    stack.push_async_callback(close)
    return address


def admin_routes(settings: Settings, revocations: RevocationList, issuers: Issuers, observer: Observer) -> Routes:
    """Those of the administrator, of which there is none without a token to demand."""
    if settings.ops.admin_token_file is None:
        return {}
    return Admin(settings.ops.admin_token_file, revocations, issuers, settings.revocations.keep, observer).routes()


def log_serving(log: Logger, service: Service) -> None:
    log.info(
        "serving", address=service.address, ops=service.ops_address, grpc=service.grpc_address, version=__version__
    )
