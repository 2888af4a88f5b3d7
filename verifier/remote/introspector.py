"""Asking an issuer about a token (RFC 7662 §2.1), within bounds of time and number.

One issuer that is slow delays its own tokens alone: each has its own turns, deadline and breaker.
"""

import asyncio
import base64
import secrets
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any, Protocol
from urllib.parse import quote_plus

from authlib.oauth2.rfc7523 import private_key_jwt_sign

from verifier.core import keys, strict_json
from verifier.core.breaker import PAUSE, Breaker
from verifier.ports import NotAsked, SourceUnavailable
from verifier.remote.http import Access, HttpClient, describe, in_file_thread
from verifier.remote.metadata import discover
from verifier.remote.origins import METADATA_TTL

warnings.filterwarnings("ignore", message="EdDSA is deprecated")  # joserfc; issuers know Ed25519 by that name

ASSERTION_LIFE = 60
"""Seconds for which an assertion of ours holds."""


class Auth(StrEnum):
    """How we show who we are (RFC 7591 §2; ``bearer`` is RFC 7662 §2.1)."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"
    BEARER = "bearer"


@dataclass(frozen=True, slots=True)
class Client:
    """We, as the issuer knows us. ``secret_file`` holds the secret, the private key, or the bearer token, and is
    read for each call, so that a new one is noticed."""

    auth: Auth
    client_id: str
    secret_file: Path


@dataclass(frozen=True, slots=True)
class CallLimits:
    """``deadline``: seconds for one call, its turn included; ``max_calls``: calls under way at once."""

    deadline: float
    max_calls: int


_INACTIVE: Mapping[str, Any] = {"active": False}

_ABOUT_US = ("invalid_client", "unauthorized_client", "access_denied", "server_error", "temporarily_unavailable")
"""Errors that say nothing about the token (RFC 6749 §5.2, §4.1.2.1)."""


_ERRORS = (*_ABOUT_US, "invalid_request", "invalid_token", "insufficient_scope", "unsupported_token_type")


class Endpoint(Protocol):
    """Where an issuer is asked."""

    async def url(self) -> str:
        """Raises ``SourceUnavailable``."""

    def failed(self) -> None:
        """It did not answer there."""


@dataclass(frozen=True, slots=True)
class FixedEndpoint:
    """The address that was configured."""

    address: str

    async def url(self) -> str:
        return self.address

    def failed(self) -> None:
        """It stays the one."""


class DiscoveredEndpoint:
    """The address in the issuer's metadata, looked up again after an hour, or when nobody answered there."""

    def __init__(self, http: HttpClient, issuer: str, access: Access, clock: Callable[[], float] = monotonic) -> None:
        self._http = http
        self._issuer = issuer
        self._access = access
        self._clock = clock
        self._found: str | None = None
        self._found_at = 0.0
        self._looking = asyncio.Lock()

    async def url(self) -> str:
        async with self._looking:
            if self._found is None or self._clock() - self._found_at > METADATA_TTL:
                self._found = await discover(self._http, self._issuer, self._access, "introspection_endpoint")
                self._found_at = self._clock()
            return self._found

    def failed(self) -> None:
        self._found = None


def _read(body: bytes) -> tuple[Mapping[str, Any], str | None]:
    """The JSON object, or what is wrong with it."""
    try:
        return strict_json.parse_object(body), None
    except ValueError as error:
        return {}, str(error)


class Introspection:
    """Asks one issuer (the engine's ``Introspector``)."""

    def __init__(
        self,
        *,
        http: HttpClient,
        issuer: str,
        endpoint: Endpoint,
        access: Access,
        client: Client,
        limits: CallLimits,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._http = http
        self._issuer = issuer
        self._endpoint = endpoint
        self._access = access
        self._client = client
        self.deadline = limits.deadline
        self._turns = asyncio.Semaphore(limits.max_calls)
        self._breaker = Breaker()
        self._clock = clock

    @property
    def breaker_is_open(self) -> bool:
        return self._breaker.is_open

    async def ask(self, token: str) -> Mapping[str, Any]:
        """The issuer's answer about ``token``. Raises ``SourceUnavailable``."""
        if not self._breaker.may_ask(self._clock()):
            raise NotAsked("the issuer did not answer lately", PAUSE)
        turn_began = None
        try:
            async with asyncio.timeout(self.deadline), self._turns:
                turn_began = self._clock()
                answer = await self._call(token)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, there is no answer
            if turn_began is not None and self._is_to_blame(error, turn_began):
                self._breaker.failed(self._clock())
                self._endpoint.failed()
            outage = error if isinstance(error, SourceUnavailable) else SourceUnavailable(describe(error))
            raise outage from None
        self._breaker.succeeded()
        return answer

    def _is_to_blame(self, error: Exception, turn_began: float) -> bool:
        """A crowd of tokens, which leaves little time to the last of them, says nothing about the issuer."""
        return not isinstance(error, TimeoutError) or self._clock() - turn_began >= self.deadline / 2

    async def _call(self, token: str) -> Mapping[str, Any]:
        answer, fault = await self._exchange(token)
        if answer is not None:
            return answer
        # No token may be able to look like an outage: a firewall may dislike its text, or its answer be unreadable.
        # So the issuer is asked about one that we made up. If it can tell us about that, it was the token.
        other, _ = await self._exchange(secrets.token_urlsafe(24))
        if other is None:
            raise SourceUnavailable(fault)
        return _INACTIVE

    async def _exchange(self, token: str) -> tuple[Mapping[str, Any] | None, str]:
        """The answer; or None, and what is wrong with it. Raises ``SourceUnavailable``."""
        url = await self._endpoint.url()
        headers, form = await in_file_thread(self._credentials)
        form |= {"token": token, "token_type_hint": "access_token"}
        reply = await self._http.post(url, self._access, headers, form)
        answer, fault = _read(reply.body or b"")
        if reply.status == HTTPStatus.OK and fault is None:
            return answer, ""
        error = answer.get("error")  # shown only where we know it: anything else could be the token
        said = f"{url}: answered {reply.status}, {error if error in _ERRORS else fault or 'without an error'}"
        if reply.status == HTTPStatus.UNAUTHORIZED or error in _ABOUT_US:
            raise SourceUnavailable(said)
        # RFC 7662 §2.2 wants an unknown token to be an inactive one; some issuers call it a bad request.
        return (_INACTIVE if reply.status == HTTPStatus.BAD_REQUEST else None), said

    def _credentials(self) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and form fields that say who we are."""
        client, secret = self._client, self._client.secret_file.read_bytes().strip()
        if not secret:  # it may be being written
            raise ValueError(f"{client.secret_file}: empty")
        if client.auth is Auth.BEARER:
            return {"Authorization": f"Bearer {secret.decode('ascii')}"}, {}
        if client.auth is Auth.POST:
            return {}, {"client_id": client.client_id, "client_secret": secret.decode()}
        if client.auth is Auth.BASIC:
            # Both are form-encoded before they are joined (RFC 6749 §2.3.1).
            pair = f"{quote_plus(client.client_id)}:{quote_plus(secret.decode())}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}
        return {}, {
            "client_id": client.client_id,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self._assertion(keys.load_client_key(secret)),
        }

    def _assertion(self, key: keys.ClientKey) -> str:
        """RFC 7523 §3, for this issuer alone."""
        header = {"kid": key.material.kid} if key.material.kid else {}
        signed: str = private_key_jwt_sign(
            key.material,
            self._client.client_id,
            self._issuer,
            alg=key.algorithm,
            header=header,
            expires_in=ASSERTION_LIFE,
        )
        return signed
