"""The gRPC port: Envoy's ``Check`` and the health service. Needs the extra ``grpc``."""

import asyncio
import errno
import ipaddress
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import OVERALL_HEALTH
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from verifier.core.reasons import Reason
from verifier.core.verdict import Denied
from verifier.observability.observer import Observer
from verifier.server import callers
from verifier.server.callers import Admit
from verifier.server.deciding import Decisions
from verifier.server.flight import Flight
from verifier.server.listening import LAST_WRITES, SocketFile
from verifier.surfaces import answer, ext_authz_grpc
from verifier.surfaces.ext_authz_messages import CheckResponse

HEALTH_INTERVAL = 0.5
"""Seconds between two looks at whether we are ready."""

MARGIN = 0.1
"""Seconds before Envoy's own deadline by which we say that there is no decision: its error may pass."""

_STREAMS = 1_000
_ANY_SIZE = -1
_METADATA = 1 << 20

_BROKEN = Denied(Reason.MALFORMED_REQUEST, "the request could not be processed")


class Check:
    """Answers Envoy's question. ``is_trusted`` says of a peer's address, empty for that of a Unix socket, whether it
    may speak for others, and ``admit`` of that and its secrets whether it may ask at all (None: everybody)."""

    def __init__(
        self, decisions: Decisions, observer: Observer, is_trusted: Callable[[str], bool], admit: Admit | None = None
    ) -> None:
        self._decisions = decisions
        self._observer = observer
        self._is_trusted = is_trusted
        self._admit = admit

    async def answer(self, raw: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> Message:
        """``raw`` is not read by gRPC: what it cannot read, it would answer with an error, which may pass."""
        try:
            asking = peer(context.peer())
            if self._admit is not None and not self._admit(asking, _secrets(context)):
                return ext_authz_grpc.unknown_caller(answer.http_error(403, callers.NOT_KNOWN))
            left = context.time_remaining()
            request = ext_authz_grpc.request_of(raw, is_trusted=self._is_trusted(asking))
            decided = await self._decisions.decide(
                request,
                ext_authz_grpc.read,
                surface=ext_authz_grpc.NAME,
                for_gateways=True,
                within=None if left is None else left - MARGIN,
            )
            return ext_authz_grpc.write(decided.verdicts[0], self._decisions.identity, decided.request_id)
        except Exception as error:  # noqa: BLE001 - rule: every exception ends in a denial or a 503
            self._observer.defect(error)
            return ext_authz_grpc.write(_BROKEN, self._decisions.identity, "")


class GrpcPort:
    """``check`` and the health service, which says what ``is_ready`` does. ``connections``: how many at once.
    ``shared``: other workers listen at the same address."""

    def __init__(self, check: Check, is_ready: Callable[[], bool], connections: int, *, shared: bool = False) -> None:
        self.check = check  # or whatever takes its place
        self._is_ready = is_ready
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(options=_options(connections, shared=shared))
        handler: grpc.RpcMethodHandler[bytes, Message] = grpc.unary_unary_rpc_method_handler(
            self._answer, response_serializer=CheckResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(ext_authz_grpc.SERVICE, {ext_authz_grpc.METHOD: handler}),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._file: SocketFile | None = None
        self._following: asyncio.Task[None] | None = None
        self._flight = Flight()

    @property
    def in_flight(self) -> int:
        """How many calls of ``Check`` are not answered yet."""
        return self._flight.number

    async def open(self, listen: str, mode: int) -> str:
        """Serve on ``host:port`` or ``unix:/path`` (with the file's ``mode``); returns the address as bound.

        Raises ``OSError`` where it cannot be had.
        """
        address = self._bind(listen, mode)
        await self._set_health(ready=self._is_ready())
        await self._server.start()
        self._following = asyncio.create_task(self._follow_readiness())
        return address

    async def close(self, within: Callable[[], float]) -> None:
        """Say that it is over, and end; calls under way have ``within()`` seconds."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        await self._health.enter_graceful_shutdown()
        ending = asyncio.create_task(self._server.stop(within()))  # takes no new calls from here on
        await self._flight.ended(within())
        await asyncio.sleep(LAST_WRITES)
        await self._server.stop(None)  # whoever watches our health would go on for as long as we let them
        await ending
        if self._file is not None:
            self._file.remove()

    async def _answer(self, raw: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> Message:
        with self._flight:
            return await self.check.answer(raw, context)

    def _bind(self, listen: str, mode: int) -> str:
        try:
            if listen.startswith("unix:"):
                file = SocketFile(Path(listen.removeprefix("unix:")), mode)
                with file.binding() as path:
                    self._server.add_insecure_port(f"unix:{path}")
                self._file = file
                return listen
            host = listen.rpartition(":")[0]
            port = self._server.add_insecure_port(listen if host else f"[::]{listen}")
        except RuntimeError:
            raise OSError(errno.EADDRINUSE, f"{listen}: address already in use, or not ours") from None
        return f"{host}:{port}"

    async def _follow_readiness(self) -> None:
        told = None
        while True:
            ready = self._is_ready()
            if ready != told:
                await self._set_health(ready=ready)
                told = ready
            await asyncio.sleep(HEALTH_INTERVAL)

    async def _set_health(self, *, ready: bool) -> None:
        status = HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        for service in (OVERALL_HEALTH, ext_authz_grpc.SERVICE):
            await self._health.set(service, status)


def _secrets(context: "grpc.aio.ServicerContext[bytes, Message]") -> list[str]:
    """What the caller shows; gRPC has names in lower case."""
    return [str(value) for name, value in context.invocation_metadata() or () if name == callers.HEADER]


def _options(connections: int, *, shared: bool) -> tuple[tuple[str, int], ...]:
    """What gRPC refuses by itself is an error to Envoy, which may pass. So it refuses nothing that a client can cause:
    the length of a message (a body) and of its metadata (``tracestate``) are Envoy's to bound."""
    return (
        ("grpc.max_receive_message_length", _ANY_SIZE),
        ("grpc.max_metadata_size", _METADATA),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", _STREAMS),
        # A port that is taken is an error, not half of the traffic; for workers, their supervisor has looked.
        ("grpc.so_reuseport", int(shared)),
        ("grpc.http2.max_ping_strikes", 0),  # Envoy's keepalive may ask more often than gRPC likes
        ("grpc.keepalive_permit_without_calls", 1),
    )


def peer(told: str) -> str:
    """The address in gRPC's name of a peer (``ipv4:127.0.0.1:4711``, ``ipv6:[::1]:4711``, URI-encoded); empty for a
    Unix socket, and one that is nobody's where it is not known."""
    kind, _, rest = told.partition(":")
    if kind == "unix":
        return ""
    host = unquote(rest).rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return "0.0.0.0"  # noqa: S104 - nobody has it
