"""Traces, put around what they are of. Only what is asked for is imported."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import aiohttp

from verifier.config.tracing import tracing_settings
from verifier.observability.log import Logger
from verifier.ports import Introspector, NoAnswer, NotAsked
from verifier.remote.http import Access, HttpClient, Reply
from verifier.remote.origins import Fetched, Files, Origin

if TYPE_CHECKING:
    from verifier.observability.tracing import Tracing

LAST_SPANS = 2.0
"""Seconds that a stop waits for spans to be exported. Nobody but the trace misses the others."""


def open_tracing(stack: AsyncExitStack, log: Logger, worker: int | None = None) -> "Tracing | None":
    """Of this process, until ``stack`` ends it; None where the environment does not ask for any. Raises
    ``ConfigError``."""
    wanted = tracing_settings()
    if wanted is None:
        return None
    from verifier.observability.exporting import open_provider  # noqa: PLC0415 - needs the extra
    from verifier.observability.tracing import Ids, Sampling, Tracing  # noqa: PLC0415 - likewise

    ids = Ids()
    provider = open_provider(wanted.exporter, ids, worker)
    tracing = Tracing(provider, ids, Sampling(wanted.follows, wanted.parents_decide, wanted.ratio))
    stack.push_async_callback(end, tracing, log)
    log.info("traces", kind=wanted.exporter, detail=provider.sampler.get_description())
    return tracing


async def end(tracing: "Tracing", log: Logger) -> None:
    """Returns when the last spans are exported, and soon in any case."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop is closed: it took too long
            loop.call_soon_threadsafe(ended.set)

    tracing.close(tell)
    try:
        async with asyncio.timeout(LAST_SPANS):
            await ended.wait()
    except TimeoutError:
        log.warning("traces_lost", detail=f"the last spans were not taken within {LAST_SPANS:g} s")


def http_client(session: aiohttp.ClientSession, deadline: float, tracing: "Tracing | None") -> HttpClient:
    return HttpClient(session, deadline) if tracing is None else TracedHttp(session, deadline, tracing)


def traced_introspectors(
    introspectors: Mapping[str, Introspector], tracing: "Tracing | None"
) -> Mapping[str, Introspector]:
    if tracing is None:
        return introspectors
    return {name: TracedIntrospector(one, name, tracing) for name, one in introspectors.items()}


def traced_origin(origin: Origin, issuer: str, tracing: "Tracing | None") -> Origin:
    """A look at a file, every other second, is worth no span."""
    return origin if tracing is None or isinstance(origin, Files) else TracedOrigin(origin, issuer, tracing)


class TracedHttp(HttpClient):
    """A span for each exchange."""

    def __init__(self, session: aiohttp.ClientSession, deadline: float, tracing: "Tracing") -> None:
        super().__init__(session, deadline)
        self._tracing = tracing

    async def get(self, url: str, access: Access, etag: str | None = None) -> Reply:
        with self._tracing.request("GET", url) as answered:
            reply = await super().get(url, access, etag)
            answered(reply.status)
            return reply

    async def post(self, url: str, access: Access, headers: Mapping[str, str], form: Mapping[str, str]) -> Reply:
        with self._tracing.request("POST", url) as answered:
            reply = await super().post(url, access, headers, form)
            answered(reply.status)
            return reply


class TracedOrigin:
    """A span for each fetch of keys."""

    def __init__(self, origin: Origin, issuer: str, tracing: "Tracing") -> None:
        self._origin = origin
        self._issuer = issuer
        self._tracing = tracing
        self.last_known = origin.last_known

    async def fetch(self, previous: Fetched | None) -> Fetched:
        with self._tracing.fetch(self._issuer) as came_to:
            fetched = await self._origin.fetch(previous)
            came_to("shared" if fetched.shared else "ok")
            return fetched


class TracedIntrospector:
    """A span for each question about a token."""

    def __init__(self, introspector: Introspector, issuer: str, tracing: "Tracing") -> None:
        self._introspector = introspector
        self._issuer = issuer
        self._tracing = tracing
        self.deadline = introspector.deadline

    async def ask(self, token: str) -> Mapping[str, Any]:
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        with self._tracing.introspection(self._issuer, digest) as came_to:
            try:
                answer = await self._introspector.ask(token)
            except NoAnswer:
                came_to("inactive")
                raise
            except NotAsked:
                came_to("not_asked")
                raise
            came_to("active" if answer.get("active") is True else "inactive")
            return answer
