"""Where an issuer's keys come from: its metadata, a fixed address, or files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, time
from typing import Protocol

from verifier.core import keys, strict_json
from verifier.core.keys import KeySet
from verifier.ports import SourceUnavailable
from verifier.remote.http import Access, HttpClient, Reply, in_file_thread
from verifier.remote.metadata import DiscoveredAddress

FILE_INTERVAL = 2.0
"""Seconds between two looks at a file."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A key set as it was fetched, at ``fetched_at`` (seconds since 1970) and from ``document``.

    ``max_age`` in seconds, None where the origin does not say. ``shared``: another replica fetched it.
    """

    keys: KeySet
    etag: str | None = None
    max_age: float | None = None
    document: bytes | None = field(default=None, repr=False)
    fetched_at: float = field(default_factory=time)
    shared: bool = False


class Origin(Protocol):
    """Where keys come from."""

    async def fetch(self, previous: Fetched | None) -> Fetched:
        """The keys as they are now; ``previous`` serves a conditional request. Raises ``SourceUnavailable``."""

    async def last_known(self) -> Fetched | None:
        """Keys from before this process, to begin with; None where nobody kept them."""


class _Alone:
    """An origin that nobody else asks for us."""

    async def last_known(self) -> Fetched | None:
        return None


class JwksUri(_Alone):
    """A key set at a fixed address."""

    def __init__(self, http: HttpClient, url: str, access: Access) -> None:
        self._http = http
        self._url = url
        self._access = access

    async def fetch(self, previous: Fetched | None) -> Fetched:
        reply = await self._http.get(self._url, self._access, previous.etag if previous else None)
        if reply.body is None:
            if previous is None or previous.etag is None:  # or an issuer's 304 would be fresh for ever
                raise SourceUnavailable(f"{self._url}: answered 304 to an unconditional request")
            return replace(previous, max_age=reply.max_age, fetched_at=time(), shared=False)
        return _key_set(reply, self._url)


class Discovered(_Alone):
    """The key set that the issuer's metadata names."""

    def __init__(
        self,
        http: HttpClient,
        issuer: str,
        access: Access,
        *,
        base: str | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._http = http
        self._access = access
        self._configured = base or issuer
        self._address = DiscoveredAddress(http, issuer, access, "jwks_uri", base=base, clock=clock)
        self._url: str | None = None

    async def fetch(self, previous: Fetched | None) -> Fetched:
        url = await self._address.url()
        if url != self._url:
            previous = None  # an ETag belongs to an address
        self._url = url
        try:
            return await JwksUri(self._http, url, self._access.at(url, self._configured)).fetch(previous)
        except SourceUnavailable:
            self._address.failed()
            raise


class Files(_Alone):
    """Keys in files, read at every look so that a replaced file is noticed, and loaded when they changed."""

    def __init__(self, paths: tuple[Path, ...], load: Callable[[tuple[bytes, ...]], KeySet]) -> None:
        self._paths = paths
        self._load = load
        self._contents: tuple[bytes, ...] | None = None

    async def fetch(self, previous: Fetched | None) -> Fetched:
        try:
            contents = await in_file_thread(self._read)
            if previous is not None and contents == self._contents:
                return replace(previous, fetched_at=time())
            loaded = Fetched(self._load(contents))
        except (OSError, ValueError) as error:
            raise SourceUnavailable(f"{', '.join(map(str, self._paths))}: {error}") from error
        self._contents = contents
        return loaded

    def _read(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._paths)


def jwks_file(path: Path) -> Files:
    return Files((path,), lambda contents: keys.load_jwks(strict_json.parse(contents[0])))


def pem_files(paths: tuple[Path, ...]) -> Files:
    return Files(paths, keys.load_pem)


def secret_file(path: Path, algorithms: Sequence[str]) -> Files:
    return Files((path,), lambda contents: keys.load_secret(contents[0].strip(), algorithms))


def _key_set(reply: Reply, url: str) -> Fetched:
    try:
        loaded = keys.load_jwks(strict_json.parse(reply.body or b""))
        return Fetched(loaded, reply.etag, reply.max_age, reply.body)
    except ValueError as error:
        raise SourceUnavailable(f"{url}: {error}") from error
