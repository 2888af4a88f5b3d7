"""What follows from one configuration. The next one is made beside it, and takes its place between two requests."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import aiohttp

from verifier.app.entrance import configured_surfaces, data_bounds, open_door, within
from verifier.app.issuers import about_answers, about_keys, introspectors, key_sources
from verifier.app.replicas import engine_limits, shared_identities
from verifier.app.tracing import http_client, traced_introspectors
from verifier.config import Settings
from verifier.config.issuers import core_issuer
from verifier.config.routes import core_routes
from verifier.core import claim_path
from verifier.core.issuer import Issuers
from verifier.core.routes import Routes as RouteTable
from verifier.engine import Engine
from verifier.observability.observer import Observer
from verifier.ports import Sources, SourceUnavailable
from verifier.remote.introspector import HttpIntrospector
from verifier.remote.key_source import RefreshingKeys
from verifier.server import data_port
from verifier.server.deciding import Decisions
from verifier.server.http import Door, Offer
from verifier.server.status.explaining import Explainer
from verifier.server.tracing import TracedDecisions
from verifier.store.memory import MemoryCache
from verifier.store.revocations import RevocationList
from verifier.surfaces.identity_headers import IdentityHeaders

if TYPE_CHECKING:
    from verifier.store.redis import RedisStore


@dataclass(frozen=True, slots=True)
class Ground:
    """What a process has whatever its configuration. ``clock`` gives seconds since 1970.

    Keys are fetched by one ``session`` and issuers asked about tokens by another, ``calls``, so that neither waits for
    a connection of the other's.
    """

    observer: Observer
    cache: MemoryCache
    store: "RedisStore | None"
    revocations: RevocationList
    session: aiohttp.ClientSession
    calls: aiohttp.ClientSession
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Generation:
    """One configuration at work."""

    settings: Settings
    issuers: Issuers
    sources: Mapping[str, RefreshingKeys]
    introspectors: Mapping[str, HttpIntrospector]
    decisions: Decisions
    offer: Offer
    explainer: Explainer
    closing: AsyncExitStack

    async def end(self, successor: "Generation | None" = None) -> None:
        """End what the ``successor`` does not go on with, once decisions under way are made."""
        if successor is not None:
            await self.decisions.finished()
        await self.closing.aclose()
        for name, introspector in self.introspectors.items():
            if successor is None or successor.introspectors.get(name) is not introspector:
                await introspector.stop()
        for name, source in self.sources.items():
            if successor is None or successor.sources.get(name) is not source:
                await source.stop()


async def generation(ground: Ground, settings: Settings, before: Generation | None = None) -> Generation:
    """What ``settings`` want, with the keys and the breakers of ``before`` where nothing about them is new. In that
    case, the other issuers were asked for their keys when this returns.

    Raises ``ConfigError`` where files of the data port cannot be used.
    """
    async with AsyncExitStack() as undoing:
        closing = await undoing.enter_async_context(AsyncExitStack())
        door = await open_door(settings, ground.observer, closing)
        issuers, table = Issuers(core_issuer(issuer) for issuer in settings.issuers), core_routes(settings)
        tracing = ground.observer.tracing
        http = http_client(ground.session, settings.keys.deadline, tracing)
        sources = key_sources(settings, http, ground.observer, ground.cache, ground.store)
        asked = introspectors(settings, http, ground.calls, tracing)
        if before is not None:
            sources = {name: _going_on(name, source, before, settings) for name, source in sources.items()}
            then, now = partial(about_answers, before.settings), partial(about_answers, settings)
            asked = {name: _kept(one, before.introspectors, name, then, now) for name, one in asked.items()}
        fresh = [source for source in sources.values() if before is None or source not in before.sources.values()]
        for source in fresh:
            source.start()
            undoing.push_async_callback(source.stop)
        answering = traced_introspectors(asked, tracing)
        shared = shared_identities(settings, ground.store)
        engine = _engine(ground, settings, issuers, table, Sources(sources, answering, shared, ground.revocations))
        closing.push_async_callback(engine.stop)
        headers = IdentityHeaders({name: claim_path.parse(claim) for name, claim in settings.identity_headers.items()})
        decisions = _decisions(engine, ground.observer, headers)
        closing.push_async_callback(decisions.stop)
        if before is not None:  # nobody waits for this one yet
            await asyncio.gather(*map(_asked_once, fresh))
        made = Generation(
            settings=settings,
            issuers=issuers,
            sources=sources,
            introspectors=asked,
            decisions=decisions,
            offer=_offer(settings, table, decisions, door),
            explainer=Explainer(issuers, sources, ground.revocations, table, settings.limits.token_bytes, ground.clock),
            closing=closing,
        )
        undoing.pop_all()
    return made


def _engine(ground: Ground, settings: Settings, issuers: Issuers, table: RouteTable, sources: Sources) -> Engine:
    return Engine(
        issuers=issuers,
        sources=sources,
        cache=ground.cache,
        observer=ground.observer,
        limits=engine_limits(settings, ground.store),
        clock=ground.clock,
        routes=table,
    )


def _decisions(engine: Engine, observer: Observer, headers: IdentityHeaders) -> Decisions:
    if observer.tracing is None:
        return Decisions(engine, observer, headers)
    return TracedDecisions(engine, observer, headers, observer.tracing)


def _offer(settings: Settings, table: RouteTable, decisions: Decisions, door: Door) -> Offer:
    surfaces = configured_surfaces(settings, table)
    return Offer(
        routes=data_port.routes(surfaces, decisions, settings.decision_max_age),
        bounds=data_bounds(settings),
        is_trusted=within(settings.trusted_proxies),
        unreadable=data_port.unreadable(surfaces),
        door=door,
    )


def _going_on(issuer: str, new: RefreshingKeys, before: Generation, settings: Settings) -> RefreshingKeys:
    """The source that there was, where nothing about it changed; or the ``new`` one, with the keys that there were if
    they come from the same place."""
    known = before.sources.get(issuer)
    if known is None or about_keys(before.settings, issuer) != about_keys(settings, issuer):
        return new
    if before.settings.keys == settings.keys:
        return known
    new.begin_with(known)
    return new


One = TypeVar("One")


def _kept(
    new: One, known: Mapping[str, One], issuer: str, then: Callable[[str], object], now: Callable[[str], object]
) -> One:
    """The one that is ``known`` of the issuer, where the same is said about it as before."""
    return known[issuer] if issuer in known and then(issuer) == now(issuer) else new


async def _asked_once(source: RefreshingKeys) -> None:
    with suppress(SourceUnavailable):  # its tokens get 503 until it answers, as after a start
        await source.refresh()
