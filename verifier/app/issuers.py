"""Whom the tokens are from: where keys are fetched, and who is asked about tokens."""

import hashlib
from typing import TYPE_CHECKING

import aiohttp

from verifier.app.tracing import http_client, traced_origin
from verifier.config import IssuerSettings, Settings
from verifier.config.issuer_settings import IntrospectionSettings
from verifier.core.issuer import TENANT
from verifier.core.keys import KeySet
from verifier.observability.observer import Observer
from verifier.remote import fleet, origins
from verifier.remote.fleet import FleetOrigin
from verifier.remote.http import Access, HttpClient
from verifier.remote.introspector import (
    Auth,
    CallLimits,
    Client,
    Endpoint,
    FixedEndpoint,
    HttpIntrospector,
)
from verifier.remote.key_source import Freshness, RefreshingKeys
from verifier.remote.metadata import DiscoveredAddress
from verifier.remote.origins import FILE_INTERVAL, Origin
from verifier.store.memory import MemoryCache

if TYPE_CHECKING:
    from verifier.observability.tracing import Tracing
    from verifier.store.redis import RedisStore


def origin_of(issuer: IssuerSettings, http: HttpClient) -> Origin:
    """Where the keys of ``issuer`` come from."""
    access = Access(issuer.ca_file, issuer.bearer_file, issuer.allow_insecure_http)
    if issuer.jwks_file is not None:
        return origins.jwks_file(issuer.jwks_file)
    if issuer.public_key_files is not None:
        return origins.pem_files(issuer.public_key_files)
    if issuer.secret_file is not None:
        return origins.secret_file(issuer.secret_file, issuer.algorithms)
    if issuer.jwks_uri is not None:
        return origins.JwksUri(http, issuer.jwks_uri, access)
    base = issuer.discovery_url if TENANT in issuer.issuer else None
    return origins.Discovered(http, issuer.issuer, access, base=base)


def key_sources(
    settings: Settings, http: HttpClient, observer: Observer, cache: MemoryCache, store: "RedisStore | None"
) -> dict[str, RefreshingKeys]:
    """For each issuer that has keys. The cache forgets what a key proved that is gone."""

    def changed(issuer: str, keys: KeySet) -> None:
        cache.retain(issuer, keys.held)

    return {
        issuer.name: RefreshingKeys(
            issuer=issuer.name,
            origin=traced_origin(origin, issuer.name, observer.tracing),
            freshness=freshness,
            observer=observer,
            on_change=changed,
        )
        for issuer in settings.issuers
        for origin, freshness in (_origin(settings, issuer, http, store),)
        if issuer.introspect != "only"
    }


def _origin(
    settings: Settings, issuer: IssuerSettings, http: HttpClient, store: "RedisStore | None"
) -> tuple[Origin, Freshness]:
    """Where the issuer's keys come from, and how often. Keys in files are each replica's own."""
    origin, freshness = origin_of(issuer, http), _freshness(settings, issuer)
    if store is None or isinstance(origin, origins.Files):
        return origin, freshness
    return FleetOrigin(origin, store, _name_of_keys(issuer), freshness), fleet.patient(freshness)


def _freshness(settings: Settings, issuer: IssuerSettings) -> Freshness:
    """A file is looked at every few seconds: it costs nothing, and nobody else is asked."""
    keys = settings.keys
    if issuer.jwks_file or issuer.public_key_files or issuer.secret_file:
        return Freshness(FILE_INTERVAL, keys.max_stale, FILE_INTERVAL, keys.deadline)
    return Freshness(keys.refresh, keys.max_stale, keys.unknown_kid_cooldown, keys.deadline)


def introspectors(
    settings: Settings, http: HttpClient, calls: aiohttp.ClientSession, tracing: "Tracing | None" = None
) -> dict[str, HttpIntrospector]:
    """For each issuer that is asked about tokens, by ``calls``; ``http`` finds out where."""
    return {
        issuer.name: _introspector(
            issuer, issuer.introspection, http, http_client(calls, issuer.introspection.deadline, tracing)
        )
        for issuer in settings.issuers
        if issuer.introspection is not None
    }


_OF_KEYS = {"issuer", "discovery_url", "jwks_uri", "jwks_file", "public_key_files", "secret_file", "algorithms"}
_OF_ANSWERS = {"issuer", "introspection"}
_OF_ACCESS = {"ca_file", "bearer_file", "allow_insecure_http"}


def about_keys(settings: Settings, issuer: str) -> str:
    """Everything that says where the keys of ``issuer`` come from."""
    found = _issuer(settings, issuer)
    return "" if found is None else _about_keys(found)


def _about_keys(issuer: IssuerSettings) -> str:
    return issuer.model_dump_json(include=_OF_KEYS | _OF_ACCESS)


def _name_of_keys(issuer: IssuerSettings) -> str:
    """For the replicas that have them from the same place. It says nothing to those who cannot guess that."""
    return hashlib.sha256(_about_keys(issuer).encode()).hexdigest()


def about_answers(settings: Settings, issuer: str) -> object:
    """Everything that says how ``issuer`` is asked about tokens."""
    found = _issuer(settings, issuer)
    return settings.keys, found and found.model_dump(include=_OF_ANSWERS | _OF_ACCESS)


def _issuer(settings: Settings, name: str) -> IssuerSettings | None:
    return next((issuer.enforced() for issuer in settings.issuers if issuer.name == name), None)


def _introspector(
    issuer: IssuerSettings, asked: IntrospectionSettings, http: HttpClient, calls: HttpClient
) -> HttpIntrospector:
    access = Access(issuer.ca_file, None, issuer.allow_insecure_http)
    secret_file = asked.client_secret_file or asked.client_key_file or asked.bearer_file
    if secret_file is None:
        raise ValueError(f"issuer {issuer.name!r} has no credentials for introspection")
    endpoint: Endpoint = DiscoveredAddress(http, issuer.issuer, access, "introspection_endpoint")
    if asked.endpoint is not None:
        endpoint = FixedEndpoint(asked.endpoint)
    return HttpIntrospector(
        http=calls,
        issuer=issuer.issuer,
        endpoint=endpoint,
        access=access,
        client=Client(Auth(asked.auth), asked.client_id or "", secret_file),
        limits=CallLimits(asked.deadline, asked.max_calls),
    )
