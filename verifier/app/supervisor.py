"""The service in several processes: this one has the sockets, the ops port and the list of revocations, and starts
those that answer gateways. It sees no token, but for one that the administrator has explained (``/status``), which it
hands to a worker and forgets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from prometheus_client import Metric

from verifier.app.assembly import observing
from verifier.app.renewing import Configuration, Renewing
from verifier.app.replicas import open_store, revocation_list
from verifier.app.service import Service, admin_routes, admin_token, draining, open_ops, until_stopping, warn_of_files
from verifier.app.workers import Workers
from verifier.config import Settings
from verifier.config.issuers import core_issuer
from verifier.core.issuer import Issuers
from verifier.core.revocation import Revocations
from verifier.observability import recent
from verifier.observability.log import Logger
from verifier.observability.loop_delay import watching
from verifier.observability.merging import merged
from verifier.observability.observer import Observer
from verifier.server import ops_port, readiness
from verifier.server.admin_token import AdminToken
from verifier.server.http import Routes
from verifier.server.listening import bind, reserve
from verifier.server.status import port as status_port
from verifier.store.revocations import RevocationList, TellingList


@asynccontextmanager
async def supervising(
    settings: Settings,
    log: Logger,
    lines_dropped: Callable[[], int] = lambda: 0,
    configuration: Configuration | None = None,
) -> AsyncIterator[Service]:
    """What ``serving`` does, by ``settings.workers`` processes.

    Raises ``WorkerFailed`` besides, where one of them cannot start and does not say why.
    """
    observer = observing(settings, log, lines_dropped)
    renewing = partial(Renewing, configuration or Configuration(lambda: settings), settings)
    async with AsyncExitStack() as stack:
        await warn_of_files(settings, observer)
        await stack.enter_async_context(watching(observer.loop_was_late))
        store = await open_store(settings, observer, stack)
        bound = await bind(settings.listen, int(settings.socket_mode, 8), settings.workers)
        stack.callback(bound.close)
        settings = await _with_grpc_port(settings, stack)
        held = Revocations()  # stays empty with Redis, where each process follows the list by itself
        workers = Workers(settings, bound, held, observer)
        told = TellingList(settings.revocations.max_entries, held, workers.tell)
        revocations = told if store is None else revocation_list(settings, observer, store)

        def issuers() -> Issuers:
            return Issuers(core_issuer(issuer) for issuer in workers.settings.issuers)

        token = admin_token(settings, observer)
        routes = {
            **_routes(workers, revocations, observer, issuers, token),
            **admin_routes(token, settings, revocations, issuers, observer),
        }
        ops_address = await open_ops(stack, settings, routes, observer)
        stack.push_async_callback(revocations.stop)
        stack.push_async_callback(workers.stop)
        await _start(workers, revocations)

        async def apply(new: Settings) -> None:
            await workers.renew(new.model_copy(update={"grpc": settings.grpc}))

        drain = draining(observer, workers.drain, lambda: workers.settings.drain_delay)
        renewed = renewing(apply, observer)
        service = Service(bound.address, ops_address, settings.grpc.listen, renewed.renew, drain)
        async with until_stopping(service, renewed, log):
            yield service


async def _start(workers: Workers, revocations: RevocationList) -> None:
    """Both at once: the workers do not need our list, and Redis may keep us waiting."""
    reading = asyncio.create_task(revocations.start())
    try:
        await workers.start()
    finally:
        await reading


async def _with_grpc_port(settings: Settings, stack: AsyncExitStack) -> Settings:
    """``settings`` with the port that was found for port 0, which is kept for the workers."""
    if settings.grpc.listen is None:
        return settings
    listen = await stack.enter_async_context(reserve(settings.grpc.listen))
    return settings.model_copy(update={"grpc": settings.grpc.model_copy(update={"listen": listen})})


def _routes(
    workers: Workers,
    revocations: RevocationList,
    observer: Observer,
    issuers: Callable[[], Issuers],
    token: AdminToken | None,
) -> Routes:
    """The ops port's, for all workers."""
    metrics = observer.metrics

    def state_of_last_reports() -> readiness.State:
        states = [state for worker in workers.serving() if (state := worker.last.state) is not None]
        return readiness.of_all(states, revocations.unread_for(), draining=workers.draining)

    async def state() -> readiness.State:
        await workers.refresh()
        return state_of_last_reports()

    async def families() -> tuple[Metric, ...]:
        await workers.refresh()
        metrics.ready.set(state_of_last_reports().ready)
        metrics.workers.set(len(workers.serving()))
        ops_port.sample_revocations(metrics, revocations)
        return merged([metrics.registry.collect(), *workers.families()], metrics.gauges)

    status = status_port.Source(
        families=families,
        state=state,
        noted=lambda: recent.merged([workers.noted(), observer.recent.noted()]),
        issuers=issuers,
        shared=lambda: revocations.shared,
        explain=workers.explain,
        admin_token=token,
    )
    return {**ops_port.routes(state, families), **status_port.routes(status)}
