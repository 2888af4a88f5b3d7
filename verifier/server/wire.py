"""Answers as the bytes of HTTP/1.1, where aiohttp does not write them itself."""

from http import HTTPStatus

from verifier.surfaces.surface import Answer

SERVER = ("Server", "verifier")
_SERVER = "{}: {}\r\n".format(*SERVER)

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    for status in HTTPStatus
    if status >= 200 and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)  # these have no body
}


def written(answered: Answer, last: bytes) -> bytes:
    """``answered``, with ``last`` as the last line of its header section: in the order and the form of aiohttp.

    Raises ``ValueError`` for what aiohttp would refuse, or write in another way.
    """
    status, fields, body = answered
    begin = _STATUS_LINES.get(status)
    if begin is None:
        raise ValueError("a status of another kind of answer")
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    if lines.count("\n") != len(fields) or lines.count("\r") != len(fields) or "\0" in lines:
        raise ValueError("a header that is more than one line")
    if body and "Content-Type: " not in lines:
        raise ValueError("a body without its type")
    head = f"{begin}{lines}{_SERVER}Content-Length: {len(body)}\r\n"
    return b"%b%b\r\n\r\n%b" % (head.encode("utf-8"), last, body)
