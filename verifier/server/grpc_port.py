"""The gRPC port: Envoy's ``Check`` and the health service. Needs the extra ``grpc``."""

import asyncio
import errno
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import OVERALL_HEALTH
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from verifier.core.reasons import Reason
from verifier.core.verdict import Denied
from verifier.observability.observer import Observer
from verifier.server.deciding import Decisions
from verifier.server.listening import close_socket, socket_file
from verifier.surfaces import ext_authz_grpc

HEALTH_INTERVAL = 0.5
"""Seconds between two looks at whether we are ready."""

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not half of the traffic
    ("grpc.http2.max_ping_strikes", 0),  # Envoy's keepalive may ask more often than gRPC likes
    ("grpc.keepalive_permit_without_calls", 1),
)

_BROKEN = Denied(Reason.MALFORMED_REQUEST, "the request could not be processed")


class Check:
    """Answers Envoy's question. ``is_trusted`` says of a peer's address, empty for that of a Unix socket, whether it
    may speak for others."""

    def __init__(self, decisions: Decisions, observer: Observer, is_trusted: Callable[[str], bool]) -> None:
        self._decisions = decisions
        self._observer = observer
        self._is_trusted = is_trusted

    async def answer(self, raw: bytes, context: "grpc.aio.ServicerContext[bytes, CheckResponse]") -> CheckResponse:
        """``raw`` is not read by gRPC: what it cannot read, it would answer with an error, which may pass."""
        try:
            request = ext_authz_grpc.request_of(raw, is_trusted=self._is_trusted(peer(context.peer())))
            decided = await self._decisions.decide(
                request, ext_authz_grpc.read, surface=ext_authz_grpc.NAME, for_gateways=True
            )
            return ext_authz_grpc.write(decided.verdicts[0], self._decisions.identity)
        except Exception as error:  # noqa: BLE001 - rule: every exception ends in a denial or a 503
            self._observer.defect(error)
            return ext_authz_grpc.write(_BROKEN, self._decisions.identity)


@asynccontextmanager
async def listening(
    check: Check, listen: str, mode: int, *, is_ready: Callable[[], bool], stop_timeout: float
) -> AsyncIterator[str]:
    """Serve on ``host:port`` or ``unix:/path`` (with the file's ``mode``) meanwhile; yields the address as bound.

    Raises ``OSError`` where it cannot be had.
    """
    servicer = health.HealthServicer()
    server = grpc.aio.server(options=_OPTIONS)
    handler: grpc.RpcMethodHandler[bytes, CheckResponse] = grpc.unary_unary_rpc_method_handler(
        check.answer, response_serializer=CheckResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(ext_authz_grpc.SERVICE, {ext_authz_grpc.METHOD: handler}),)
    )
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = _bind(server, listen, mode)
    await _tell(servicer, ready=is_ready())
    await server.start()
    telling = asyncio.create_task(_keep_telling(servicer, is_ready))
    try:
        yield address
    finally:
        telling.cancel()
        await asyncio.wait({telling})
        await servicer.enter_graceful_shutdown()
        await server.stop(stop_timeout)
        close_socket(listen)


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


def _bind(server: grpc.aio.Server, listen: str, mode: int) -> str:
    try:
        if listen.startswith("unix:"):
            with socket_file(Path(listen.removeprefix("unix:")), mode):
                server.add_insecure_port(listen)
            return listen
        host = listen.rpartition(":")[0]
        port = server.add_insecure_port(listen if host else f"[::]{listen}")
    except RuntimeError:
        raise OSError(errno.EADDRINUSE, f"{listen} cannot be had") from None
    return f"{host}:{port}"


async def _keep_telling(servicer: health.HealthServicer, is_ready: Callable[[], bool]) -> None:
    told = None
    while True:
        ready = is_ready()
        if ready != told:
            await _tell(servicer, ready=ready)
            told = ready
        await asyncio.sleep(HEALTH_INTERVAL)


async def _tell(servicer: health.HealthServicer, *, ready: bool) -> None:
    status = HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
    for service in (OVERALL_HEALTH, ext_authz_grpc.SERVICE):
        await servicer.set(service, status)
