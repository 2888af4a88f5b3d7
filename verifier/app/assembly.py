"""All of the service but its ops port: what one process has, and each worker where there are several."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from socket import socket
from typing import TYPE_CHECKING

from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from verifier.app.entrance import within
from verifier.app.generation import Generation, Ground, generation
from verifier.app.replicas import open_store, revocation_list
from verifier.config import Settings, renewal
from verifier.config.report_only import on_trial
from verifier.core.issuer import Issuers
from verifier.core.revocation import Revocations
from verifier.observability.log import Logger
from verifier.observability.loop_delay import watching
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.remote.http import open_session
from verifier.server.http import Bounds, HttpServer
from verifier.server.listening import Close, serve_http
from verifier.server.ops_port import Gauges
from verifier.server.readiness import Readiness
from verifier.server.status.explaining import Explainer
from verifier.store.memory import MemoryCache
from verifier.store.revocations import RevocationList

if TYPE_CHECKING:
    from verifier.observability.tracing import Tracing
    from verifier.server.grpc_port import Check, GrpcPort


def observing(
    settings: Settings, log: Logger, lines_dropped: Callable[[], int], tracing: "Tracing | None" = None
) -> Observer:
    """With metrics of its own, of which ``lines_dropped`` is one. Where there is a ``tracing``, traces are made too."""
    metrics = Metrics()
    metrics.log_lines_dropped.set_function(lines_dropped)
    if tracing is None:
        return Observer(metrics, log, log_denials=settings.log.denials)
    from verifier.observability.traced import TracedObserver  # noqa: PLC0415 - needs the extra

    return TracedObserver(metrics, log, log_denials=settings.log.denials, tracing=tracing)


class Assembly:
    """What decides and what says how it fares, by the generation of now. Its ports are opened by ``open_ports``."""

    def __init__(self, ground: Ground, first: Generation) -> None:
        self._ground = ground
        self._now = first
        self._retiring: set[asyncio.Task[None]] = set()
        self.data = HttpServer(first.offer, ground.observer)
        self.grpc = self._grpc_port()
        self.readiness, self.gauges = self._readiness(), self._gauges()

    @property
    def settings(self) -> Settings:
        return self._now.settings

    @property
    def issuers(self) -> Issuers:
        return self._now.issuers

    @property
    def observer(self) -> Observer:
        return self._ground.observer

    @property
    def explainer(self) -> Explainer:
        return self._now.explainer

    @property
    def revocations(self) -> RevocationList:
        return self._ground.revocations

    async def prepare(self, settings: Settings) -> Generation:
        """What is to take the place of the generation of now, or to be ended. Nobody asks it yet.

        Raises ``ConfigError`` where files of the data port cannot be used.
        """
        return await generation(self._ground, settings, self._now)

    def switch(self, made: Generation) -> None:
        """Decide everything that is asked from now on by ``made``. Decisions under way are still the old one's."""
        before, self._now = self._now, made
        self._ground.cache.resize(made.settings.cache.max_entries, made.settings.cache.max_ttl)
        self._ground.cache.forget(renewal.changed_issuers(before.settings, made.settings))
        self.data.offer(made.offer)
        if self.grpc is not None:
            self.grpc.check = self._check()
        self.readiness, self.gauges = self._readiness(), self._gauges()
        _tell_trials(made.settings, self._ground.observer.log)
        retiring = asyncio.create_task(before.end(made))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def discard(self, made: Generation) -> None:
        """End what was prepared, and is not switched to."""
        await made.end(self._now)

    def drain(self) -> None:
        """Not be ready any more, and have each connection end with its next answer."""
        self.data.drain()

    async def end(self) -> None:
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._now.end()

    def _readiness(self) -> Readiness:
        without_keys = any(not issuer.has_keys for issuer in self._now.issuers)
        return Readiness(
            self._now.sources, self.revocations, without_keys=without_keys, is_draining=lambda: self.data.draining
        )

    def _gauges(self) -> Gauges:
        ground, now = self._ground, self._now
        return Gauges(
            metrics=ground.observer.metrics,
            sources=now.sources,
            introspectors=now.introspectors,
            cache=ground.cache,
            revocations=ground.revocations,
            connections=lambda: self.data.open,
            in_flight=lambda: self.data.in_flight + (0 if self.grpc is None else self.grpc.in_flight),
            waiting={issuer.name: partial(now.decisions.waiting, issuer.name) for issuer in now.issuers},
            door=now.offer.door,
        )

    def _check(self) -> "Check":
        from verifier.server.grpc_port import Check  # noqa: PLC0415 - needs the extra

        known = self._now.offer.door.callers
        admit = None if known is None else known.admit
        return Check(self._now.decisions, self._ground.observer, within(self.settings.trusted_proxies), admit)

    def _grpc_port(self) -> "GrpcPort | None":
        if self.settings.grpc.listen is None:
            return None
        from verifier.server.grpc_port import GrpcPort  # noqa: PLC0415 - likewise

        bounds = self._now.offer.bounds

        def is_ready() -> bool:  # of now, whatever generation it is
            return self.readiness.is_ready()

        return GrpcPort(self._check(), is_ready, bounds.connections, shared=self.settings.workers > 1)


async def assemble(
    settings: Settings, observer: Observer, stack: AsyncExitStack, held: Revocations | None = None
) -> Assembly:
    """Put together and started inside out: Redis, keys, what decides, revocations. ``stack`` stops it in the opposite
    order, so that requests in progress keep what they need until they are answered.

    ``held`` is the list of revocations where there is no Redis and somebody else keeps it. Raises ``ConfigError`` where
    files cannot be used.
    """
    await stack.enter_async_context(watching(observer.loop_was_late))
    store = await open_store(settings, observer, stack)
    ground = Ground(
        observer=observer,
        cache=MemoryCache(
            settings.cache.max_entries, settings.cache.max_ttl, time.monotonic, evicted=observer.cache_evicted
        ),
        store=store,
        revocations=revocation_list(settings, observer, store, held),
        session=await stack.enter_async_context(open_session()),
        calls=await stack.enter_async_context(open_session(per_host=0)),
        clock=time.time,
    )
    assembly = Assembly(ground, await generation(ground, settings))
    stack.push_async_callback(assembly.end)
    _warn(settings, assembly.data.bounds, observer.log)
    await ground.revocations.start()
    stack.push_async_callback(ground.revocations.stop)
    return assembly


async def open_ports(stack: AsyncExitStack, assembly: Assembly, sockets: Iterable[socket]) -> str | None:
    """Answer gateways on ``sockets``, and over gRPC, whose address is returned. They end together, in the time of one.

    Raises ``OSError``.
    """

    def stop_timeout() -> float:
        return assembly.settings.stop_timeout

    closing: list[Close] = []
    stack.push_async_callback(_together, closing)
    grpc_address, settings = None, assembly.settings
    if assembly.grpc is not None and settings.grpc.listen is not None:
        grpc_address = await assembly.grpc.open(settings.grpc.listen, int(settings.socket_mode, 8))
        closing.append(partial(assembly.grpc.close, stop_timeout))
    closing.append(await serve_http(assembly.data, sockets, stop_timeout))
    return grpc_address


async def _together(closing: Iterable[Close]) -> None:
    await asyncio.gather(*(close() for close in closing))


def _warn(settings: Settings, bounds: Bounds, log: Logger) -> None:
    """Of what the machine lacks, and of what is not enforced."""
    _tell_trials(settings, log)
    if HttpRequestParser is HttpRequestParserPy:
        log.warning("pure_python_parser", detail="aiohttp has no compiled parser here; it is slow and less strict")
    if bounds.connections < settings.limits.connections:
        log.warning("few_descriptors", detail=f"limits.connections is {bounds.connections} here: raise ulimit -n")


def _tell_trials(settings: Settings, log: Logger) -> None:
    tried = on_trial(settings)
    if tried:
        log.info("report_only", detail=", ".join(tried))
