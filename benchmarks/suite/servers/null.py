"""The floor: what uvloop and httptools leave a Python server, if it decided nothing.

It parses each request as any handler must, keeps the target and the headers that it is told, and answers the bytes of
the file that it is given: an allow of the verifier. Run with a port and that file.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast

import httptools
import uvloop


class Null(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        self._transport.write(self._answer)


async def main(port: int, answer: bytes) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Null(answer), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
