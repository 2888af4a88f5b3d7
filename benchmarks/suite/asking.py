"""A request as all servers get it, and one asked without haste, to check a server before it is measured."""

import http.client
import re
import socket
from dataclasses import dataclass

HEADERS = {"Host": "api.example", "User-Agent": "bench", "Accept": "*/*"}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes


def request(token: str, path: str) -> bytes:
    """As ``wrk.lua`` sends it too."""
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in HEADERS.items())]
    return "\r\n".join([*lines, f"Authorization: Bearer {token}", "", ""]).encode()


def is_whole(received: bytes) -> bool:
    """Whether this is all of an answer."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(received, 0, end + 2)
    return len(received) >= end + 4 + (int(length[1]) if length else 0)


def get(port: int, path: str, token: str | None = None) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=HEADERS | ({"Authorization": f"Bearer {token}"} if token else {}))
        answer = connection.getresponse()
        return Reply(answer.status, answer.read())
    finally:
        connection.close()


def raw(port: int, path: str, token: str) -> bytes:
    """An answer as it is on the wire."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request(token, path))
        while not is_whole(received):
            part = connection.recv(65_536)
            if not part:
                raise ConnectionError("the connection was closed within an answer")
            received += part
    return received
