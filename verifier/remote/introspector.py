"""Asking an issuer about a token (RFC 7662 §2.1), within bounds of time and number.

One issuer that is slow delays its own tokens alone: each has its own turns, deadline and breaker.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote_plus

from authlib.oauth2.rfc7523 import private_key_jwt_sign

from verifier.core import keys, strict_json
from verifier.core.breaker import PAUSE, Breaker
from verifier.ports import NotAsked, SourceUnavailable
from verifier.remote.http import Access, HttpClient, describe, in_file_thread
from verifier.remote.metadata import discover
from verifier.remote.origins import METADATA_TTL

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

_NOT_ABOUT_THE_TOKEN = ("invalid_client", "unauthorized_client", "access_denied", "server_error")
"""Errors with 400 that say something about us or the issuer. Any other 400 means that it cannot make anything of the
token (RFC 7662 §2.2 wants that to be an inactive one), and no token may be able to make us answer 5xx."""

Endpoint = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class FixedEndpoint:
    """The address that was configured."""

    url: str

    async def __call__(self) -> str:
        return self.url


class DiscoveredEndpoint:
    """The address in the issuer's metadata, looked up again after an hour."""

    def __init__(self, http: HttpClient, issuer: str, access: Access, clock: Callable[[], float] = monotonic) -> None:
        self._http = http
        self._issuer = issuer
        self._access = access
        self._clock = clock
        self._found: str | None = None
        self._found_at = 0.0

    async def __call__(self) -> str:
        if self._found is None or self._clock() - self._found_at > METADATA_TTL:
            self._found = await discover(self._http, self._issuer, self._access, "introspection_endpoint")
            self._found_at = self._clock()
        return self._found


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
        self._deadline = limits.deadline
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
        has_turn = False
        try:
            async with asyncio.timeout(self._deadline), self._turns:
                has_turn = True
                answer = await self._call(token)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, there is no answer
            if has_turn:  # a crowd of tokens says nothing about the issuer
                self._breaker.failed(self._clock())
            outage = error if isinstance(error, SourceUnavailable) else SourceUnavailable(describe(error))
            raise outage from None
        self._breaker.succeeded()
        return answer

    async def _call(self, token: str) -> Mapping[str, Any]:
        url = await self._endpoint()
        headers, form = await in_file_thread(self._credentials)
        form |= {"token": token, "token_type_hint": "access_token"}
        reply = await self._http.post(url, self._access, headers, form)
        answer, fault = _read(reply.body or b"")
        if reply.status == HTTPStatus.BAD_REQUEST and answer.get("error") not in _NOT_ABOUT_THE_TOKEN:
            return _INACTIVE
        if reply.status != HTTPStatus.OK or fault is not None:
            raise SourceUnavailable(f"{url}: answered {reply.status}, {answer.get('error', fault)}")
        return answer

    def _credentials(self) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and form fields that say who we are."""
        client, secret = self._client, self._client.secret_file.read_bytes().strip()
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
