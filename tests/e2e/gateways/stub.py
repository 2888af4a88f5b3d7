"""Stands in for the verifier until its endpoints for gateways exist; the contract is theirs.

``python -m tests.e2e.gateways.stub`` prints its port and answers by the token: ``good`` 200, ``bad`` 401, ``short``
403, ``undecided`` 503 (500 to nginx), ``slow`` 200 after three seconds, ``kept`` 200 to a new connection and an end
without an answer to a kept one, two tokens 400 (401 to nginx), and anything else 401. ``GET /_asked`` tells, once, what
it was asked.
"""

import argparse
import asyncio
import json
from typing import Any

from aiohttp import web

IDENTITY = {
    "X-Auth-Subject": "alice",
    "X-Auth-Issuer": "https://issuer.example/",
    "X-Auth-Client-Id": "",  # unknown, and said all the same
    "X-Auth-Scope": "read write",
    "X-Auth-Expires": "1700000300",
    "X-Auth-Omitted": "X-Auth-Client-Id",
}
BAD = 'Bearer realm="api", error="invalid_token", error_description="the token expired"'
SHORT = 'Bearer realm="api", error="insufficient_scope", scope="write:pets"'
DELAY = 3.0


class Stub:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self._peers: set[Any] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == "/_asked":
            asked, self.asked = self.asked, []
            return web.json_response(asked)
        headers = [(name, value) for name, value in request.headers.items()]
        self.asked.append({"method": request.method, "target": request.raw_path, "headers": headers})
        peer = request.transport and request.transport.get_extra_info("peername")
        kept = peer in self._peers
        self._peers.add(peer)
        return await self.decide(request, kept)

    async def decide(self, request: web.BaseRequest, kept: bool) -> web.StreamResponse:
        for_nginx = request.raw_path == "/auth-request"
        for_others = request.raw_path.removesuffix("?") == "/forward-auth"
        if not for_nginx and not for_others and not request.raw_path.startswith("/ext-authz/"):
            return web.Response(status=404)
        values = request.headers.getall("Authorization", [])
        token = values[0].removeprefix("Bearer ") if len(values) == 1 and "," not in values[0] else ""
        if token == "slow":
            await asyncio.sleep(DELAY)
        if token == "kept" and kept and request.transport is not None:
            request.transport.close()
        if token in {"good", "slow", "kept"}:
            return web.Response(headers=IDENTITY)
        if token == "short":
            return denial(403, {"WWW-Authenticate": SHORT})
        if token == "undecided":
            return denial(500 if for_nginx else 503, {} if for_nginx else {"Retry-After": "7"})
        if token == "bad" or (values and for_nginx):
            return denial(401, {"WWW-Authenticate": BAD})
        if values:
            return denial(400, {"WWW-Authenticate": 'Bearer realm="api", error="invalid_request"'})
        return denial(401, {"WWW-Authenticate": 'Bearer realm="api"'})


def denial(status: int, headers: dict[str, str]) -> web.Response:
    body = json.dumps({"allowed": False, "status": status})
    return web.Response(status=status, text=body, content_type="application/problem+json", headers=headers)


async def main(port: int) -> None:
    runner = web.ServerRunner(web.Server(Stub().answer), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201 - how the test learns it
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(main(parser.parse_args().port))
