"""An issuer that misbehaves on demand (a process of its own, so that its stalls are not those of the load).

Reads orders from standard input, one JSON object a line, and answers each with a line: what it was asked until then.
Opaque tokens that begin with ``good`` are active.
"""

import asyncio
import json
import logging
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from joserfc.jwk import JWKRegistry

from tests.support import AUD, FakeIssuer

PAGE = b"<html><body>Please sign in to use this network.</body></html>"


@dataclass
class Misbehaving:
    """``fault``: what is done instead of an answer; ``only``: the path that it is done at. ``seen``: time and path of
    each request."""

    issuer: FakeIssuer = field(default_factory=FakeIssuer)
    fault: str = ""
    only: str = ""
    retry_after: int = 0
    lifetime: float = 300.0
    delay: float = 0.0
    seen: list[tuple[float, str]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((time.monotonic(), request.path))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.delay)
            if not self.fault or (self.only and request.path != self.only):
                return await self._usual(request)
            return await getattr(self, f"_{self.fault}")(request)  # type: ignore[no-any-return]
        finally:
            self.under_way -= 1

    async def _usual(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/introspect":
            return await self.issuer.usual(request)
        token = str((await request.post())["token"])
        if not token.startswith("good"):
            return web.json_response({"active": False})
        now = int(time.time())
        claims = {"iss": "https://asked.example", "aud": AUD, "sub": token, "iat": now, "exp": now + self.lifetime}
        return web.json_response({"active": True, **claims})

    async def _silent(self, request: web.Request) -> web.StreamResponse:
        while request.transport is not None:  # until the client has left
            await asyncio.sleep(0.05)
        raise ConnectionResetError

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(1)

    async def _html(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=PAGE, content_type="text/html")

    async def _empty(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"", content_type="application/json")

    async def _noise(self, request: web.Request) -> web.StreamResponse:
        return await self._raw(request, bytes(range(256)) * 8)

    async def _truncated(self, request: web.Request) -> web.StreamResponse:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
        return await self._raw(request, head + b'{"keys": [{"kty": "OKP"')

    async def _short(self, request: web.Request) -> web.StreamResponse:
        """A length that is not that of the body."""
        body = await self._document(request)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (len(body) // 2)
        return await self._raw(request, head + body)

    async def _gzip(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x1f\x8b and no more", headers={"Content-Encoding": "gzip"})

    async def _throttling(self, _request: web.Request) -> web.StreamResponse:
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
        return web.Response(status=429 if len(self.seen) % 2 else 500, headers=headers)

    async def _flapping(self, request: web.Request) -> web.StreamResponse:
        return await self._usual(request) if len(self.seen) % 2 else web.Response(status=500)

    async def _document(self, request: web.Request) -> bytes:
        response = await self.issuer.usual(request)
        return bytes(response.body) if isinstance(response, web.Response) else b""  # type: ignore[arg-type]

    async def _raw(self, request: web.Request, sent: bytes) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(sent)
        request.transport.close()
        raise ConnectionResetError

    async def obey(self, order: dict[str, Any]) -> None:
        if "keys" in order:
            self.issuer.keys = [_key(jwk) for jwk in order["keys"]]
        for name in ("fault", "only", "retry_after", "delay", "lifetime"):
            setattr(self, name, order.get(name, getattr(self, name)))
        if order.get("listen") is False:
            await self.issuer.stop()
        elif order.get("listen") is True:
            await self.issuer.restart()


@dataclass
class Odd:
    """An entry of a key set that is no key."""

    jwk: dict[str, Any]

    def as_dict(self, *, private: bool) -> dict[str, Any]:
        return self.jwk


def _key(jwk: dict[str, Any]) -> Any:
    try:
        return JWKRegistry.import_key(jwk)
    except Exception:  # noqa: BLE001 - odd keys are served as they are
        return Odd(jwk)


async def main() -> None:
    logging.disable()  # that a client hangs up is no news here
    made = Misbehaving()
    made.issuer.fault = made.answer
    await made.issuer.start()
    print(json.dumps({"url": made.issuer.url}), flush=True)
    reader = asyncio.StreamReader(limit=2**22)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await made.obey(json.loads(line))
        print(json.dumps({"seen": made.seen, "most_under_way": made.most_under_way}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
