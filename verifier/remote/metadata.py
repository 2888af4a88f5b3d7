"""Discovery: from an issuer's identifier to its metadata (OpenID Connect Discovery §4, RFC 8414 §3)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2 import rfc8414
from authlib.oidc import discovery

from verifier.core import strict_json
from verifier.engine import SourceUnavailable
from verifier.remote.http import Access, HttpClient


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


async def discover(http: HttpClient, issuer: str, access: Access, *, base: str | None = None) -> Mapping[str, Any]:
    """The metadata of ``issuer``; asked at ``base`` where the vendor serves it elsewhere (Entra).

    Raises ``SourceUnavailable`` when no location answers with valid metadata of exactly this issuer. The
    first refusal is the one reported, as the later locations are guesses.
    """
    refusals: list[SourceUnavailable] = []
    for url in locations(base or issuer):
        try:
            return await _metadata(http, url, issuer, access)
        except SourceUnavailable as error:
            refusals.append(error)
    raise refusals[0]


async def _metadata(http: HttpClient, url: str, issuer: str, access: Access) -> Mapping[str, Any]:
    reply = await http.get(url, access)
    try:
        metadata: dict[str, Any] = rfc8414.AuthorizationServerMetadata(strict_json.parse_object(reply.body or b""))
        jwks_uri = metadata.get("jwks_uri")
        if metadata.get("issuer") != issuer:
            raise ValueError(f"its issuer is {str(metadata.get('issuer'))[:200]!r}, configured is {issuer!r}")
        if not isinstance(jwks_uri, str) or not urlsplit(jwks_uri).hostname:
            raise ValueError("it has no jwks_uri")
        if url.startswith("https:") and not jwks_uri.startswith("https:"):
            raise ValueError(f"it sends us from https to {jwks_uri[:200]!r} for the keys")
        _validate(metadata, access, templated="{" in issuer)
    except (ValueError, TypeError) as error:
        raise SourceUnavailable(f"{url}: {error}") from error
    return metadata


def _validate(metadata: rfc8414.AuthorizationServerMetadata, access: Access, *, templated: bool) -> None:
    """Authlib's rules, one by one: its ``validate()`` also demands endpoints that an issuer of keys alone
    (Kubernetes) does not have, and https where ``allow_insecure_http`` was said."""
    if access.insecure_http:
        return
    if not templated:
        metadata.validate_issuer()
    metadata.validate_jwks_uri()
