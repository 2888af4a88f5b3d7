"""Who may ask, how much, and for what."""

import math
import resource
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import lru_cache, partial
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from cryptography import x509

from verifier.config import ConfigError, Settings
from verifier.config.files import data_port_problems, secret, tls_context
from verifier.config.settings import TlsSettings
from verifier.core import claim_path
from verifier.core.routes import Routes as RouteTable
from verifier.observability.observer import Observer
from verifier.remote.http import in_file_thread
from verifier.server.callers import Callers, digest
from verifier.server.http import Bounds, Door
from verifier.server.reloading import Reloaded, reloading
from verifier.surfaces import aws, surfaces
from verifier.surfaces.aws_answer import Mode, UsageKeys
from verifier.surfaces.aws_context import Form
from verifier.surfaces.aws_event import Places
from verifier.surfaces.surface import Surface

OTHER_DESCRIPTORS = 128
"""Descriptors that clients cannot take: without them keys could not be fetched, and withdrawn ones would stay."""
MOST_DESCRIPTORS = 1_048_576

HEADER_SLACK = 4_096
"""Room in a header line beyond the longest token, so that one that is a little too long is told so."""


def configured_surfaces(settings: Settings, table: RouteTable) -> tuple[Surface, ...]:
    """All of them, that for AWS as it is configured."""
    wanted = settings.aws
    options = aws.Options(
        mode=Mode(wanted.policy),
        policies_for_http=wanted.http_answers == "policy",
        keeps_nothing=wanted.http_ttl == "zero",
        form=Form(wanted.context),
        claims=wanted.context_claims,
        places=Places(wanted.token_header, wanted.token_query, wanted.token_cookie, wanted.bare_tokens),
        usage_keys=None
        if wanted.usage_key_claim is None
        else UsageKeys(claim_path.parse(wanted.usage_key_claim), wanted.usage_keys),
        hosts=wanted.hosts,
        max_hold=settings.decision_max_age,
    )
    own = aws.surface(options, table)
    return tuple(own if surface.name == own.name else surface for surface in surfaces())


async def open_door(settings: Settings, observer: Observer, stack: AsyncExitStack) -> Door:
    """Who may ask, and how. Raises ``ConfigError`` where the files that say so cannot be used."""
    problems = await in_file_thread(data_port_problems, settings)
    if problems:
        raise ConfigError(problems)
    digests = {
        caller.name: await Reloaded.of(f"callers.{caller.name}", [caller.secret_file], _digest)
        for caller in settings.callers
    }
    tls_files = settings.tls.files().values()
    tls = await Reloaded.of("tls", tls_files, partial(_tls, settings.tls)) if tls_files else None
    files: tuple[Reloaded[Any], ...] = (*digests.values(), *(() if tls is None else (tls,)))
    await stack.enter_async_context(reloading(files, observer))
    callers = Callers(digests, within(settings.callers_exempt), observer) if digests else None
    door = Door(callers=callers, fast_lane=settings.fast_lane, files=files)
    if tls is None:
        return door
    return replace(door, tls=lambda: tls.value.context, certificates=lambda: tls.value.ends)


class _Tls(NamedTuple):
    """How TLS is spoken, and which of its certificates end when, in seconds since 1970."""

    context: ssl.SSLContext
    ends: Mapping[str, float]


def _tls(settings: TlsSettings, contents: Sequence[bytes]) -> _Tls:
    """Raises ``OSError`` and ``ValueError``."""
    found = dict(zip(settings.files(), contents, strict=True))
    ends = {"tls": earliest_end(found["certificate_file"])}
    if "client_ca_file" in found:
        ends["tls_client_ca"] = earliest_end(found["client_ca_file"])
    return _Tls(tls_context(settings), ends)


def earliest_end(certificates: bytes) -> float:
    """When the first of these ends, in seconds since 1970; NaN where they cannot be read: OpenSSL takes some that break
    the rules."""
    try:
        return min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(certificates))
    except ValueError:
        return math.nan


def _digest(contents: Sequence[bytes]) -> bytes:
    return digest(secret(contents[0]))


def within(networks: Iterable[str]) -> Callable[[str], bool]:
    """Whether a peer's address is in one of ``networks``; that of a Unix socket is empty, and counts as if it was."""
    known = tuple(map(ip_network, networks))

    @lru_cache(1_024)
    def is_within(peer: str) -> bool:
        if not peer:
            return True
        address = ip_address(peer.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in known)

    return is_within


def data_bounds(settings: Settings) -> Bounds:
    """Of the data port, as far as the machine has descriptors for its connections."""
    limits = settings.limits
    ports = 1 if settings.grpc.listen is None else 2
    return Bounds(
        header_bytes=limits.token_bytes + HEADER_SLACK,
        body_bytes=limits.body_bytes,
        connections=max(1, min(limits.connections, (_descriptors() - OTHER_DESCRIPTORS) // ports)),
        read_timeout=limits.read_timeout,
        keepalive_timeout=limits.keepalive_timeout,
    )


def _descriptors() -> int:
    """How many descriptors this process may have, after asking for as many as it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)
