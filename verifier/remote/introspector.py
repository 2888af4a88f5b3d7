"""Asking an issuer about a token (RFC 7662 §2.1), within bounds of time and number.

One issuer that is slow delays its own tokens alone: each has its own turns, deadline and breaker.
"""

import asyncio
import base64
import secrets
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
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
from verifier.ports import NoAnswer, NotAsked, SourceUnavailable
from verifier.remote.http import Access, HttpClient, describe, in_file_thread

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


_ABOUT_US = ("invalid_client", "unauthorized_client", "access_denied", "server_error", "temporarily_unavailable")
"""Errors that say nothing about the token (RFC 6749 §5.2, §4.1.2.1)."""


_ERRORS = (*_ABOUT_US, "invalid_request", "invalid_token", "insufficient_scope", "unsupported_token_type")


class Endpoint(Protocol):
    """Where an issuer is asked: an address that was configured, or discovered (``DiscoveredAddress``)."""

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


@dataclass(frozen=True, slots=True)
class _Told:
    """The answer; or None, what is wrong with it, and whether the token can be the cause."""

    answer: Mapping[str, Any] | None = None
    fault: str = ""
    retry_after: float = 1.0
    is_about_token: bool = False


def _told(url: str, status: int, body: bytes) -> _Told:
    fault = "without an error"
    try:
        answer = strict_json.parse_object(body)
    except ValueError as error:
        answer, fault = {}, str(error)
    else:
        if status == HTTPStatus.OK:
            return _Told(answer)
    code = answer.get("error")  # shown only where we know it: anything else could be the token
    if status == HTTPStatus.BAD_REQUEST and code not in _ABOUT_US:
        # RFC 7662 §2.2 wants an unknown token to be an inactive one; some issuers call it a bad request.
        return _Told({"active": False})
    about_us = status == HTTPStatus.UNAUTHORIZED or code in _ABOUT_US
    said = f"{url}: answered {status}, {code if code in _ERRORS else fault}"
    return _Told(fault=said, is_about_token=not about_us)


class HttpIntrospector:
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
        self._looking: asyncio.Task[None] | None = None
        self._timed_out = 0
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """How many tokens the issuer is being asked about. Those that wait for their turn are not among them."""
        return self._in_flight

    @property
    def breaker_is_open(self) -> bool:
        return self._breaker.is_open

    async def stop(self) -> None:
        """End what runs in the background."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def ask(self, token: str) -> Mapping[str, Any]:
        """The issuer's answer about ``token``. Raises ``SourceUnavailable`` and ``NoAnswer``."""
        if not self._breaker.may_ask(self._clock()):
            raise NotAsked("the issuer did not answer lately", PAUSE)
        has_turn = False
        try:
            async with asyncio.timeout(self.deadline), self._turns:
                has_turn = True
                self._in_flight += 1
                answer = await self._answer(token)
        except (SourceUnavailable, NoAnswer):
            raise
        except TimeoutError:
            if has_turn:  # a crowd of tokens, which leaves none to the last of them, says nothing about the issuer
                self._look_later()
            raise SourceUnavailable(describe(TimeoutError())) from None
        finally:
            self._in_flight -= has_turn
        self._breaker.succeeded()
        return answer

    async def _answer(self, token: str) -> Mapping[str, Any]:
        """No token may be able to look like an outage: a firewall may dislike its text, the issuer stumble over it,
        its answer be unreadable. So after a failure the issuer is asked about a token that we made up, and an outage
        it is only where it cannot tell about that either."""
        first = await self._exchange(token)
        if first.answer is not None:
            return first.answer
        if not await self._answers():
            raise SourceUnavailable(first.fault, first.retry_after)
        second = await self._exchange(token)
        if second.answer is not None:
            return second.answer
        if second.is_about_token:
            raise NoAnswer
        raise SourceUnavailable(second.fault, second.retry_after)  # of this token alone, and not called a denial

    async def _answers(self) -> bool:
        """Whether the issuer can tell about a token at all. The breaker goes by this alone."""
        answers = (await self._exchange(secrets.token_urlsafe(24))).answer is not None
        if answers:
            self._breaker.succeeded()
        else:
            self._breaker.failed(self._clock())
            self._endpoint.failed()
        return answers

    def _look_later(self) -> None:
        """There was no time left to find out whether it was the issuer or the token."""
        self._timed_out += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name=f"introspection of {self._issuer}")

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self.deadline):
                answers = await self._answers()
        except TimeoutError:
            answers = False
        if not answers:
            for _ in range(self._timed_out):
                self._breaker.failed(self._clock())
        self._timed_out = 0

    async def _exchange(self, token: str) -> "_Told":
        """What the issuer told; raises nothing but what ends the waiting for it."""
        try:
            url = await self._endpoint.url()
            headers, form = await in_file_thread(self._credentials)
            form |= {"token": token, "token_type_hint": "access_token"}
            reply = await self._http.post(url, self._access, headers, form)
        except SourceUnavailable as error:
            return _Told(fault=error.detail, retry_after=error.retry_after)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, there is no answer
            return _Told(fault=describe(error))
        return _told(url, reply.status, reply.body or b"")

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
