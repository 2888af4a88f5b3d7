"""Everything put together in one process, started in order and stopped in the opposite one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import Metric

from verifier import __version__
from verifier.app.assembly import Assembly, assemble, observing, open_ports
from verifier.app.renewing import Configuration, Renewing
from verifier.app.tracing import open_tracing
from verifier.config import Settings
from verifier.config.files import file_problems
from verifier.core.issuer import Issuers
from verifier.engine import Question
from verifier.observability.log import Logger
from verifier.observability.observer import Observer
from verifier.remote.http import in_file_thread
from verifier.server import ops_port
from verifier.server.admin import Admin
from verifier.server.admin_token import AdminToken
from verifier.server.http import HttpServer, Offer, Routes
from verifier.server.listening import bind, open_http
from verifier.server.readiness import State
from verifier.server.status import port as status_port
from verifier.server.status.explaining import Explained
from verifier.store.revocations import RevocationList


@dataclass(frozen=True, slots=True)
class Service:
    """A running service. Addresses are ``host:port`` as bound, also where port 0 was asked for."""

    address: str
    ops_address: str
    grpc_address: str | None
    renew: Callable[[], Coroutine[Any, Any, None]]
    """Read the configuration again. Never raises."""
    drain: Callable[[], Coroutine[Any, Any, None]]
    """Not be ready any more, and go on answering for ``drain_delay``."""


@asynccontextmanager
async def serving(
    settings: Settings,
    log: Logger,
    lines_dropped: Callable[[], int] = lambda: 0,
    configuration: Configuration | None = None,
) -> AsyncIterator[Service]:
    """The whole service, from here to the end of the ``async with``. ``lines_dropped`` is for its metric. It begins
    with ``settings``, and looks for others in ``configuration``.

    The ops port opens before those that gateways ask at, and ends after them.
    """
    async with AsyncExitStack() as stack:
        observer = observing(settings, log, lines_dropped, open_tracing(stack, log))
        await warn_of_files(settings, observer)
        made = await assemble(settings, observer, stack)
        ops_address = await open_ops(stack, settings, _routes(made, settings, observer), observer)
        bound = await bind(settings.listen, int(settings.socket_mode, 8))
        stack.callback(bound.close)
        grpc_address = await open_ports(stack, made, bound.shares[0])
        observer.metrics.workers.set(1)

        async def apply(new: Settings) -> None:
            made.switch(await made.prepare(new))

        renewing = Renewing(configuration or Configuration(lambda: settings), settings, apply, observer)
        drain = draining(observer, made.drain, lambda: made.settings.drain_delay)
        service = Service(bound.address, ops_address, grpc_address, renewing.renew, drain)
        async with until_stopping(service, renewing, log):
            yield service


def _routes(made: Assembly, settings: Settings, observer: Observer) -> Routes:
    """The ops port's."""

    async def state() -> State:
        return made.readiness.state()

    async def families() -> tuple[Metric, ...]:
        observer.metrics.ready.set(made.readiness.is_ready())
        return made.gauges.families()

    async def explain(question: Question) -> Explained | None:
        return made.explainer.explain(question)

    token = admin_token(settings, observer)
    status = status_port.Source(
        families=families,
        state=state,
        noted=observer.recent.noted,
        issuers=lambda: made.issuers,
        shared=lambda: made.revocations.shared,
        explain=explain,
        admin_token=token,
    )
    return {
        **ops_port.routes(state, families),
        **status_port.routes(status),
        **admin_routes(token, settings, made.revocations, lambda: made.issuers, observer),
    }


def draining(
    observer: Observer, begin: Callable[[], None], delay: Callable[[], float]
) -> Callable[[], Coroutine[Any, Any, None]]:
    """``Service.drain``: ``begin`` it, and wait as long as ``delay`` says, in seconds."""

    async def drain() -> None:
        seconds = delay()
        observer.draining(seconds)
        begin()
        await asyncio.sleep(seconds)

    return drain


@asynccontextmanager
async def until_stopping(service: Service, renewing: Renewing, log: Logger) -> AsyncIterator[None]:
    """All ports are open: say so, and follow the configuration until the end of the ``async with``."""
    log.info(
        "serving", address=service.address, ops=service.ops_address, grpc=service.grpc_address, version=__version__
    )
    async with renewing.following():
        yield
    log.info("stopping")


async def open_ops(stack: AsyncExitStack, settings: Settings, routes: Routes, observer: Observer) -> str:
    """Returns the address. Raises ``OSError``."""
    server = HttpServer(Offer(routes, ops_port.BOUNDS), observer)
    address, close = await open_http(server, settings.ops.listen, int(settings.socket_mode, 8), lambda: 1.0)
    stack.push_async_callback(close)
    return address


def admin_token(settings: Settings, observer: Observer) -> AdminToken | None:
    """None where there is nothing for the administrator."""
    file = settings.ops.admin_token_file
    return None if file is None else AdminToken(file, observer)


def admin_routes(
    token: AdminToken | None,
    settings: Settings,
    revocations: RevocationList,
    issuers: Callable[[], Issuers],
    observer: Observer,
) -> Routes:
    """Those of the administrator, of which there is none without a token to demand."""
    if token is None:
        return {}
    return Admin(token, revocations, issuers, settings.revocations.keep, observer).routes()


async def warn_of_files(settings: Settings, observer: Observer) -> None:
    """Those that cannot be used. What cannot be without is an error elsewhere."""
    for problem in await in_file_thread(file_problems, settings):
        observer.file_unusable(problem.path, problem.message)
