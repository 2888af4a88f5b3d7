"""Discovery: from an issuer's identifier to its metadata (OpenID Connect Discovery §4, RFC 8414 §3)."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2 import rfc8414
from authlib.oidc import discovery

from verifier.core import strict_json
from verifier.ports import SourceUnavailable
from verifier.remote.http import Access, HttpClient

METADATA_TTL = 3600.0
"""Seconds after which metadata is taken again. Addresses in it hardly ever move."""


def locations(issuer: str) -> tuple[str, ...]:
    """Where metadata may stand, in the order asked: OpenID Connect, then RFC 8414 in both path forms.

    RFC 8414 puts the well-known part between host and path; deployments that append it, as OpenID Connect
    does, are common enough to be asked too.
    """
    base = issuer.rstrip("/")
    found = (
        discovery.get_well_known_url(issuer, external=True),
        rfc8414.get_well_known_url(base, external=True),
        f"{base}/.well-known/oauth-authorization-server",
    )
    return tuple(dict.fromkeys(found))


async def discover(http: HttpClient, issuer: str, access: Access, wanted: str, *, base: str | None = None) -> str:
    """The address that the metadata of ``issuer`` gives for ``wanted``, such as ``jwks_uri``. The metadata is asked
    for at ``base`` where the vendor serves it elsewhere (Entra).

    Raises ``SourceUnavailable`` when no location answers with valid metadata of exactly this issuer. The
    first refusal is the one reported, as the later locations are guesses.
    """
    refusals: list[SourceUnavailable] = []
    for url in locations(base or issuer):
        try:
            return await _address(http, url, issuer, access, wanted)
        except SourceUnavailable as error:
            refusals.append(error)
    raise refusals[0]


class DiscoveredAddress:
    """The address that the metadata of ``issuer`` gives for ``wanted``. It is looked up again after an hour, or when
    nobody answered there. Arguments as for ``discover``."""

    def __init__(
        self,
        http: HttpClient,
        issuer: str,
        access: Access,
        wanted: str,
        *,
        base: str | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._http = http
        self._issuer = issuer
        self._access = access
        self._wanted = wanted
        self._base = base
        self._clock = clock
        self._found: str | None = None
        self._found_at = 0.0
        self._looking = asyncio.Lock()

    async def url(self) -> str:
        """Raises ``SourceUnavailable``."""
        async with self._looking:
            if self._found is None or self._clock() - self._found_at > METADATA_TTL:
                self._found = await discover(self._http, self._issuer, self._access, self._wanted, base=self._base)
                self._found_at = self._clock()
            return self._found

    def failed(self) -> None:
        """It may have moved."""
        self._found = None


async def _address(http: HttpClient, url: str, issuer: str, access: Access, wanted: str) -> str:
    reply = await http.get(url, access)
    try:
        metadata: dict[str, Any] = rfc8414.AuthorizationServerMetadata(strict_json.parse_object(reply.body or b""))
        address = metadata.get(wanted)
        if metadata.get("issuer") != issuer:
            raise ValueError(f"its issuer is {str(metadata.get('issuer'))[:200]!r}, configured is {issuer!r}")
        if not isinstance(address, str) or not urlsplit(address).hostname:
            raise ValueError(f"it has no {wanted}")
        if url.startswith("https:") and not address.startswith("https:"):
            raise ValueError(f"it sends us from https to {address[:200]!r}")
        _validate(metadata, access, templated="{" in issuer)
    except (ValueError, TypeError) as error:
        raise SourceUnavailable(f"{url}: {error}") from error
    return address


def _validate(metadata: rfc8414.AuthorizationServerMetadata, access: Access, *, templated: bool) -> None:
    """Authlib's rules, one by one: its ``validate()`` also demands endpoints that an issuer of keys alone
    (Kubernetes) does not have, and https where ``allow_insecure_http`` was said."""
    if access.insecure_http:
        return
    if not templated:
        metadata.validate_issuer()
    if "jwks_uri" in metadata:
        metadata.validate_jwks_uri()
