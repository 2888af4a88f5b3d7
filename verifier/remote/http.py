"""One way to ask somebody outside: bounded in time and size, over TLS, at exactly the address that was asked."""

import asyncio
import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from time import time
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from verifier.ports import SourceUnavailable

MAX_BYTES = 1024 * 1024
MAX_ANSWER_BYTES = 65_536
MAX_RETRY_AFTER = 300.0

_DOCUMENT = frozenset({200, 304})
_ANSWER = frozenset({200, *range(400, 500)}) - {408, 429}

Result = TypeVar("Result")

_FILE_THREADS = ThreadPoolExecutor(4, thread_name_prefix="files")


@dataclass(frozen=True, slots=True)
class Reply:
    """A document, or None with 304.

    ``max_age`` is in seconds, ``date`` (the server's clock) in seconds since 1970.
    """

    status: int
    body: bytes | None
    etag: str | None
    max_age: float | None
    date: float | None


@dataclass(frozen=True, slots=True)
class Access:
    """How an issuer's documents may be fetched.

    ``ca_file`` replaces the system's authorities; ``bearer_file`` holds a token that the issuer demands
    (Kubernetes), read anew for each fetch; ``insecure_http`` permits ``http`` beyond loopback. The bearer token is
    for the addresses that were configured: ``at`` leaves it out for others.
    """

    ca_file: Path | None = None
    bearer_file: Path | None = None
    insecure_http: bool = False

    def at(self, url: str, configured: str) -> "Access":
        """The access to ``url``, which metadata at ``configured`` named."""
        same = urlsplit(url)[:2] == urlsplit(configured)[:2]
        return self if same else replace(self, bearer_file=None)


class HttpClient:
    """Requests within bounds. ``deadline`` bounds a whole exchange, ``connect`` its beginning; in seconds."""

    def __init__(self, session: aiohttp.ClientSession, deadline: float = 5.0, connect: float = 2.0) -> None:
        self._session = session
        self._deadline = deadline
        # aiohttp's own ``total`` takes away the end of whoever waits for us with a deadline that is over with it.
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect)

    async def get(self, url: str, access: Access, etag: str | None = None) -> Reply:
        """Fetch ``url``.

        Raises ``SourceUnavailable`` for everything but 200 and 304: refused or slow connections, redirects,
        other statuses (with their ``Retry-After``), a compressed body, or more than ``MAX_BYTES``.
        """
        headers = {} if etag is None else {"If-None-Match": etag}
        return await self._exchange("GET", url, access, headers)

    async def post(self, url: str, access: Access, headers: Mapping[str, str], form: Mapping[str, str]) -> Reply:
        """Send ``form`` to ``url``; answers of up to ``MAX_ANSWER_BYTES``.

        Raises ``SourceUnavailable`` as ``get`` does, but not for statuses that say something about what was sent
        (4xx, except 408 and 429).
        """
        return await self._exchange("POST", url, access, headers, urlencode(form).encode("ascii"))

    async def _exchange(
        self, method: str, url: str, access: Access, headers: Mapping[str, str], form: bytes | None = None
    ) -> Reply:
        if not may_fetch(url, insecure_http=access.insecure_http):
            raise SourceUnavailable(f"{url}: expected an https address")
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            async with asyncio.timeout(self._deadline):
                sent |= await in_file_thread(_credentials, access)
                context = await in_file_thread(_tls, access.ca_file)
                async with self._session.request(
                    method, url, data=form, headers=sent, ssl=context, allow_redirects=False, timeout=self._timeout
                ) as response:
                    expected, longest = (_DOCUMENT, MAX_BYTES) if form is None else (_ANSWER, MAX_ANSWER_BYTES)
                    return await _read(response, url, expected, longest)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise SourceUnavailable(f"{url}: {describe(error)}") from None  # aiohttp quotes what it got


async def certificate_expires(url: str, access: Access, deadline: float = 5.0) -> float | None:
    """When the certificate behind ``url`` ends, in seconds since 1970; None where there is no TLS.

    Raises ``SourceUnavailable``. Makes a connection of its own, as aiohttp lets go of its one too early.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    context = ssl.create_default_context(cafile=None if access.ca_file is None else str(access.ca_file))
    try:
        async with asyncio.timeout(deadline):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
        certificate = writer.get_extra_info("peercert")
        writer.close()
    except (OSError, TimeoutError) as error:
        raise SourceUnavailable(f"{url}: {describe(error)}") from error
    return ssl.cert_time_to_seconds(certificate["notAfter"])


def open_session(per_host: int = 8) -> aiohttp.ClientSession:
    """A client session: no cookies, no proxies or credentials from the environment. ``per_host`` bounds connections
    to one host; 0 leaves that to the caller."""
    return aiohttp.ClientSession(
        # A fresh connection for each of the few exchanges: nothing of one answer can be left for the next.
        connector=aiohttp.TCPConnector(limit=100 if per_host else 0, limit_per_host=per_host, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


def describe(error: BaseException) -> str:
    """An error for an operator to read; a time limit has no text of its own.

    aiohttp quotes what it cannot read of an answer, and there may be a token in it.
    """
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError | HttpProcessingError):
        return f"an answer that is not HTTP ({type(error).__name__})"
    return str(error) or type(error).__name__


async def in_file_thread(run: Callable[..., Result], *args: object) -> Result:
    """Run what reads files apart from the loop, and from the threads that a stalled name resolution can fill."""
    return await asyncio.get_running_loop().run_in_executor(_FILE_THREADS, partial(run, *args))


def may_fetch(url: str, *, insecure_http: bool = False) -> bool:
    """Whether keys may come from ``url``: https, or http on loopback or where it was permitted.

    Our own rule and not Authlib's, which a variable of the environment switches off.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc:  # credentials in an address end up in logs
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and (insecure_http or _is_loopback(parts.hostname)))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(access: Access) -> dict[str, str]:
    if access.bearer_file is None:
        return {}
    return {"Authorization": f"Bearer {access.bearer_file.read_text('ascii').strip()}"}


def _tls(ca_file: Path | None) -> ssl.SSLContext | bool:
    return True if ca_file is None else ssl.create_default_context(cafile=str(ca_file))


async def _read(response: aiohttp.ClientResponse, url: str, expected: Set[int], longest: int) -> Reply:
    if response.status not in expected:
        raise SourceUnavailable(f"{url}: answered {response.status}", _retry_after(response.headers), response.status)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceUnavailable(f"{url}: answered with a compressed body that was not asked for")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > longest:
            raise SourceUnavailable(f"{url}: the answer is larger than {longest} bytes")
    return Reply(
        status=response.status,
        body=None if response.status == 304 else bytes(body),
        etag=response.headers.get("ETag"),
        max_age=_max_age(response.headers),
        date=_date(response.headers.get("Date", "")),
    )


def _date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except ValueError:
        return None


def _max_age(headers: Mapping[str, str]) -> float | None:
    """Seconds for which the answer may be kept (RFC 9111 §5.2.2); None where it does not say."""
    directives = headers.get("Cache-Control", "").lower()
    if re.search(r"\bno-(store|cache)\b", directives):
        return 0.0
    match = re.search(r"\bmax-age\s*=\s*\"?(\d{1,10})", directives)
    return float(match.group(1)) if match else None


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds or a date (RFC 9110 §10.2.3), within bounds: an issuer cannot put itself away for a day."""
    value = headers.get("Retry-After", "")
    date = _date(value)
    seconds = float(value) if value.isdecimal() and value.isascii() else date - time() if date else 1.0
    return min(max(seconds, 1.0), MAX_RETRY_AFTER)
