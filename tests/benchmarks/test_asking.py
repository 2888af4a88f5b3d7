import pytest

from benchmarks.suite.asking import is_whole, request

ANSWER = b"HTTP/1.1 200 OK\r\nX-A: content-length: 9\r\nContent-Length: 2\r\n\r\nok"


def test_a_request_is_one_of_http_with_the_token_in_it() -> None:
    head = request("a.b.c", "/verify")
    assert head.startswith(b"GET /verify HTTP/1.1\r\nHost: ")
    assert head.endswith(b"\r\nAuthorization: Bearer a.b.c\r\n\r\n")


@pytest.mark.parametrize("missing", range(1, len(ANSWER)))
def test_an_answer_is_whole_with_its_last_byte_and_not_before(missing: int) -> None:
    assert is_whole(ANSWER)
    assert not is_whole(ANSWER[:-missing])


def test_an_answer_without_a_body_is_whole_with_its_head() -> None:
    assert is_whole(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n")
