"""The Lambda authorizer against a verifier on loopback that behaves as the test says."""

import ast
import gc
import importlib.util
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import tls
from tests.support import free_port
from tests.verifier_stub import Asked, StubVerifier, answer, answers, stub_verifier

SHIM = Path(__file__).parents[2] / "deploy" / "lambda" / "authorizer.py"
TOKEN = "eyJ.a.token"
SECRET = "a-secret-of-lambda"
EVENT = {"type": "TOKEN", "authorizationToken": f"Bearer {TOKEN}", "methodArn": "arn:aws:execute-api:…/GET/pets"}
ALLOW = {"principalId": "alice", "policyDocument": {"Version": "2012-10-17"}, "context": {"größe": "1"}}
TIMEOUT = 0.3

Load = Callable[..., ModuleType]


class Context:
    """As Lambda's, as far as the authorizer looks."""

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Imports the authorizer anew, as a cold start does, with VERIFIER_… as given."""
    loaded: list[ModuleType] = []

    def load(url: str, **environment: object) -> ModuleType:
        settings = {"url": url, "timeout": TIMEOUT, "secret": SECRET, **environment}
        for name, value in settings.items():
            monkeypatch.setenv(f"VERIFIER_{name.upper()}", str(value))
        spec = importlib.util.spec_from_file_location("authorizer", SHIM)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(module)
        return module

    yield load
    for module in loaded:
        for connection in module.kept:
            connection.close()


@pytest.fixture
def verifier() -> Iterator[StubVerifier]:
    with stub_verifier(answers(200, ALLOW)) as made:
        yield made


@pytest.fixture
def shim(load: Load, verifier: StubVerifier) -> ModuleType:
    return load(verifier.url)


def undecided(shim: ModuleType, event: object = EVENT, context: object = None) -> str:
    """What is said where there is no answer; nothing of it may be the event's or the secret."""
    with pytest.raises(shim.Undecided) as raised:
        shim.handler(event, context)
    told = "".join(traceback.format_exception(raised.value)) + repr(vars(raised.value))
    assert TOKEN not in told
    assert SECRET not in told
    return str(raised.value)


def hears(line: socket.socket, _asked: Asked) -> object:
    """Neither answers nor ends the connection."""
    return line.recv(1) != b""


def test_an_allow_is_handed_on_unchanged(shim: ModuleType) -> None:
    assert shim.handler(EVENT, None) == ALLOW


def test_a_denial_is_handed_on_unchanged(shim: ModuleType, verifier: StubVerifier) -> None:
    denial = {"isAuthorized": False, "context": {"verifier_reason": "route_denied"}}
    verifier.behave = answers(403, denial, "application/json; charset=utf-8")
    assert shim.handler(EVENT, None) == denial


def test_no_good_token_is_the_text_that_api_gateway_answers_401_to(shim: ModuleType, verifier: StubVerifier) -> None:
    verifier.behave = answers(401, {"reason": "expired"}, "application/problem+json")
    with pytest.raises(Exception, match=r"^Unauthorized$") as raised:
        shim.handler(EVENT, None)
    assert type(raised.value) is Exception


@pytest.mark.parametrize("status", [201, 301, 302, 307, 400, 404, 413, 429, 500, 502, 503])
def test_any_other_status_is_no_answer(status: int, shim: ModuleType, verifier: StubVerifier) -> None:
    verifier.behave = answers(status, ALLOW)
    assert undecided(shim) == f"the verifier answered {status}, and nothing for AWS"


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("content_type", ["application/problem+json", "text/html", "application/jsonp", ""])
def test_json_of_another_type_is_no_answer(
    status: int, content_type: str, shim: ModuleType, verifier: StubVerifier
) -> None:
    verifier.behave = answers(status, ALLOW, content_type)
    assert undecided(shim) == f"the verifier answered {status}, and nothing for AWS"


@pytest.mark.parametrize(
    "body", [b"", b"true", b"null", b"[]", b'"Allow"', b'{"isAuthorized": true', b"\xff", b"[" * 60_000, b"9" * 5_000]
)
def test_what_is_no_json_object_is_no_answer(body: bytes, shim: ModuleType, verifier: StubVerifier) -> None:
    verifier.behave = answers(200, body)
    undecided(shim)


def test_the_event_is_sent_as_it_came(load: Load, verifier: StubVerifier) -> None:
    event = {**EVENT, "headers": {"x": 'ünicode \ud800 "quoted"'}, "n": 1.5, "none": None}
    load(verifier.url).handler(event, None)
    [asked] = verifier.asked
    assert (asked.target, asked.event) == ("POST /aws/authorizer", event)
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["Host"] == f"localhost:{verifier.port}"


def test_a_long_event_is_sent_whole(shim: ModuleType, verifier: StubVerifier) -> None:
    event = {"body": "x" * 2_000_000}
    assert shim.handler(event, None) == ALLOW
    assert verifier.asked[0].event == event


def test_the_path_of_the_address_is_kept(load: Load, verifier: StubVerifier) -> None:
    load(f"{verifier.url}/behind/this/").handler(EVENT, None)
    assert verifier.asked[0].target == "POST /behind/this/aws/authorizer"


def test_the_secret_is_sent_without_the_end_of_its_line(load: Load, verifier: StubVerifier) -> None:
    load(verifier.url, secret=f"{SECRET}\n").handler(EVENT, None)
    assert verifier.asked[0].headers["X-Verifier-Secret"] == SECRET


def test_without_a_secret_there_is_no_header(load: Load, verifier: StubVerifier) -> None:
    load(verifier.url, secret="").handler(EVENT, None)
    assert "X-Verifier-Secret" not in verifier.asked[0].headers


def test_a_secret_that_no_header_can_hold_is_not_told(load: Load, verifier: StubVerifier) -> None:
    shim = load(verifier.url, secret=f"{SECRET}\r\nX-Other: 1")
    assert undecided(shim) == "the verifier could not be asked: ValueError"
    assert undecided(shim) == "the verifier could not be asked: ValueError"
    assert verifier.asked == []


def test_proxies_of_the_environment_are_not_used(
    load: Load, verifier: StubVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert load(verifier.url).handler(EVENT, None) == ALLOW


def test_a_redirect_is_not_followed(shim: ModuleType, verifier: StubVerifier) -> None:
    found = answer(307, ALLOW).replace(b"\r\n", f"\r\nLocation: {verifier.url}/aws/authorizer\r\n".encode(), 1)
    verifier.behave = lambda line, _asked: line.sendall(found)
    undecided(shim)
    assert len(verifier.asked) == 1


# The connection


def test_a_thousand_events_need_one_connection(shim: ModuleType, verifier: StubVerifier) -> None:
    verifier.behave = lambda line, asked: line.sendall(answer(200, asked.event))
    for number in range(1_000):
        assert shim.handler({"number": number}, None) == {"number": number}
    assert verifier.connections == 1


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refusal_that_came_whole_keeps_the_connection(status: int, shim: ModuleType, verifier: StubVerifier) -> None:
    verifier.behave = answers(status, {})
    for _ in range(3):
        if status == 403:
            shim.handler(EVENT, None)
        else:
            with pytest.raises(Exception, match=r"Unauthorized|answered"):
                shim.handler(EVENT, None)
    assert verifier.connections == 1


def test_a_connection_that_was_closed_while_idle_is_replaced(shim: ModuleType, verifier: StubVerifier) -> None:
    for _ in range(3):
        assert shim.handler(EVENT, None) == ALLOW
        verifier.hang_up()
        time.sleep(0.02)
    assert (len(verifier.asked), verifier.connections) == (3, 3)


def test_a_verifier_that_was_started_anew_is_asked_without_an_error(shim: ModuleType, verifier: StubVerifier) -> None:
    assert shim.handler(EVENT, None) == ALLOW
    verifier.stop()
    verifier.start()
    assert shim.handler(EVENT, None) == ALLOW


@pytest.mark.parametrize("last_words", [b"", b"HTTP/2 garbage\r\n\r\n", b"\x15\x03"])
def test_a_kept_connection_that_ends_at_the_question_is_replaced_once(
    last_words: bytes, shim: ModuleType, verifier: StubVerifier
) -> None:
    def first_only(line: socket.socket, asked: Asked) -> object:
        if sum(other.connection == asked.connection for other in verifier.asked) == 1:
            line.sendall(answer(200, {"connection": asked.connection}))
            return True
        line.sendall(last_words)
        return False

    verifier.behave = first_only
    assert [shim.handler(EVENT, None)["connection"] for _ in range(3)] == [1, 2, 3]
    assert [asked.connection for asked in verifier.asked] == [1, 1, 2, 2, 3]


def test_a_kept_connection_that_is_reset_at_the_question_is_replaced(shim: ModuleType, verifier: StubVerifier) -> None:
    def resets_the_second(line: socket.socket, asked: Asked) -> object:
        if len(verifier.asked) != 2:
            line.sendall(answer(200, {"connection": asked.connection}))
            return True
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        line.close()
        raise ConnectionError

    verifier.behave = resets_the_second
    assert [shim.handler(EVENT, None)["connection"] for _ in range(2)] == [1, 2]


def test_a_new_connection_that_ends_is_not_tried_again(shim: ModuleType, verifier: StubVerifier) -> None:
    verifier.behave = lambda _line, _asked: False
    assert undecided(shim).startswith("the verifier could not be asked: RemoteDisconnected")
    assert len(verifier.asked) == 1


def test_a_kept_connection_is_replaced_no_more_than_once(shim: ModuleType, verifier: StubVerifier) -> None:
    shim.handler(EVENT, None)
    verifier.behave = lambda _line, _asked: False
    undecided(shim)
    assert [asked.connection for asked in verifier.asked] == [1, 1, 2]


def test_a_kept_connection_without_an_answer_is_not_tried_again(shim: ModuleType, verifier: StubVerifier) -> None:
    shim.handler(EVENT, None)
    verifier.behave = hears
    undecided(shim)
    time.sleep(0.05)
    assert len(verifier.asked) == 2


def test_a_connection_that_the_answer_ends_is_not_kept(shim: ModuleType, verifier: StubVerifier) -> None:
    ending = answer(200, ALLOW).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    verifier.behave = lambda line, _asked: line.sendall(ending)
    for _ in range(2):
        assert shim.handler(EVENT, None) == ALLOW
    assert verifier.connections == 2


@pytest.mark.parametrize("unasked", [answer(200, {"for": "nobody"}), b"\n"])
def test_what_came_unasked_is_not_the_answer_to_the_next_question(
    unasked: bytes, shim: ModuleType, verifier: StubVerifier
) -> None:
    def says_more(line: socket.socket, asked: Asked) -> None:
        line.sendall(answer(200, asked.event))
        time.sleep(0.02)
        line.sendall(unasked)

    verifier.behave = says_more
    for number in range(3):
        assert shim.handler({"number": number}, None) == {"number": number}
        time.sleep(0.05)


@pytest.mark.parametrize("status", [102, 103])
def test_an_answer_after_an_interim_one_is_not_the_next(status: int, shim: ModuleType, verifier: StubVerifier) -> None:
    def early_and_late(line: socket.socket, asked: Asked) -> None:
        line.sendall(f"HTTP/1.1 {status} Wait\r\n\r\n".encode())
        time.sleep(0.05)
        line.sendall(answer(200, asked.event))

    verifier.behave = early_and_late
    undecided(shim, {"number": 1})
    verifier.behave = lambda line, asked: line.sendall(answer(200, asked.event))
    assert shim.handler({"number": 2}, None) == {"number": 2}


# Answers that are not whole


@pytest.mark.parametrize("sent", [0, 1, 60, 120, -1])
def test_an_answer_that_was_cut_off_is_none(sent: int, shim: ModuleType, verifier: StubVerifier) -> None:
    def cuts_off(line: socket.socket, _asked: Asked) -> bool:
        line.sendall(answer(200, ALLOW)[:sent])
        return False

    verifier.behave = cuts_off
    undecided(shim)


@pytest.mark.parametrize(("status", "content_type"), [(200, "application/json"), (401, "application/problem+json")])
@pytest.mark.parametrize("body", [b"{}", b""])
def test_an_answer_whose_body_is_shorter_than_it_says_is_none(
    status: int, content_type: str, body: bytes, shim: ModuleType, verifier: StubVerifier
) -> None:
    def cuts_off(line: socket.socket, _asked: Asked) -> bool:
        line.sendall(answer(status, body, content_type, length=2_000))
        return False

    verifier.behave = cuts_off
    assert undecided(shim) == "the verifier could not be asked: OSError: the answer is too long, or not whole"


def test_an_answer_without_an_end_of_its_own_is_none(shim: ModuleType, verifier: StubVerifier) -> None:
    def ends_with_the_connection(line: socket.socket, _asked: Asked) -> bool:
        line.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"isAuthorized": true}')
        return False

    verifier.behave = ends_with_the_connection
    assert "not whole" in undecided(shim)


@pytest.mark.parametrize(("chunks", "whole"), [(b"2\r\n{}\r\n0\r\n\r\n", True), (b"2\r\n{}\r\n", False)])
def test_an_answer_in_chunks_is_taken_with_its_last_chunk(
    chunks: bytes, whole: bool, shim: ModuleType, verifier: StubVerifier
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

    def in_chunks(line: socket.socket, _asked: Asked) -> bool:
        line.sendall(head + chunks)
        return whole

    verifier.behave = in_chunks
    if whole:
        assert shim.handler(EVENT, None) == {}
    else:
        assert undecided(shim) == "the verifier could not be asked: IncompleteRead"


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_an_answer_beyond_the_bound_is_not_read(framing: str, shim: ModuleType, verifier: StubVerifier) -> None:
    body = b'{"a": "' + b"x" * 65_536 + b'"}'
    long = answer(200, body)
    if framing == "chunks":
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        long = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    verifier.behave = lambda line, _asked: line.sendall(long)
    assert undecided(shim) == "the verifier could not be asked: OSError: the answer is too long, or not whole"
    verifier.behave = answers(200, ALLOW)
    assert shim.handler(EVENT, None) == ALLOW


# Time


def slow_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> list[Any]:
        time.sleep(3 * TIMEOUT)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", never)


def trickle(line: socket.socket, asked: Asked) -> None:
    trickle_bytes(line, answer(200, asked.event))


def trickle_the_body(line: socket.socket, asked: Asked) -> None:
    head, end, body = answer(200, asked.event).partition(b"\r\n\r\n")
    line.sendall(head + end)
    trickle_bytes(line, body)


def trickle_bytes(line: socket.socket, data: bytes) -> None:
    for byte in data:
        line.sendall(bytes([byte]))
        time.sleep(0.05)


def late(line: socket.socket, asked: Asked) -> None:
    time.sleep(1.2 * TIMEOUT)
    line.sendall(answer(200, asked.event))


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("behave", [hears, trickle, trickle_the_body, late])
def test_time_is_up_for_everything_at_once_and_the_next_event_gets_its_own_answer(
    behave: Callable[[socket.socket, Asked], object], kept: bool, shim: ModuleType, verifier: StubVerifier
) -> None:
    if kept:
        shim.handler(EVENT, None)
    verifier.behave = behave
    began = time.monotonic()
    undecided(shim, {"number": 1})
    assert TIMEOUT - 0.1 < time.monotonic() - began < TIMEOUT + 0.25
    verifier.behave = lambda line, asked: line.sendall(answer(200, asked.event))
    for number in range(2, 5):
        assert shim.handler({"number": number}, None) == {"number": number}
        time.sleep(0.05)


def test_who_was_left_ends_its_connection(shim: ModuleType, verifier: StubVerifier) -> None:
    ended = threading.Event()

    def trickles_on(line: socket.socket, _asked: Asked) -> bool:
        try:
            line.sendall(b"HTTP/1.1 200 OK\r\n")
            trickle_bytes(line, b"X: " + b"x" * 1_000)
        except OSError:
            ended.set()
        return False

    verifier.behave = trickles_on
    undecided(shim)
    assert ended.wait(1)
    deadline = time.monotonic() + 2
    while any(type(thread).__name__ == "Asking" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_look_up_of_a_name_is_left_in_time_too(
    shim: ModuleType, verifier: StubVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_name(monkeypatch)
    began = time.monotonic()
    assert undecided(shim) == "the verifier could not be asked: no answer in time"
    assert time.monotonic() - began < TIMEOUT + 0.25


def test_who_was_left_while_connecting_does_not_ask_any_more(
    shim: ModuleType, verifier: StubVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.create_connection

    def slow(*args: Any, **options: Any) -> socket.socket:
        time.sleep(1.5 * TIMEOUT)
        return connect(*args, **options)

    monkeypatch.setattr(socket, "create_connection", slow)
    undecided(shim)
    time.sleep(TIMEOUT)
    gc.collect()
    assert (verifier.asked, verifier.connections) == ([], 1)


def test_an_address_that_says_nothing_at_all_is_left_in_time(load: Load) -> None:
    with socket.socket() as full:  # its queue is full, so that connecting never ends
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(full.getsockname())
            began = time.monotonic()
            undecided(load(f"http://127.0.0.1:{full.getsockname()[1]}"))
            assert time.monotonic() - began < TIMEOUT + 0.25
            time.sleep(0.1)


def test_a_refused_connection_is_told_at_once(load: Load) -> None:
    shim = load(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert "ConnectionRefusedError" in undecided(shim)
    assert time.monotonic() - began < TIMEOUT


def test_what_lambda_leaves_of_its_time_is_not_used_up(load: Load, verifier: StubVerifier) -> None:
    shim = load(verifier.url, timeout=5)
    verifier.behave = hears
    began = time.monotonic()
    undecided(shim, context=Context(300))
    assert 0.1 < time.monotonic() - began < 0.3


def test_more_time_than_lambda_leaves_is_not_more_than_is_set(shim: ModuleType, verifier: StubVerifier) -> None:
    verifier.behave = hears
    began = time.monotonic()
    undecided(shim, context=Context(60_000))
    assert time.monotonic() - began < TIMEOUT + 0.25


def test_where_lambda_leaves_no_time_there_is_no_answer(shim: ModuleType, verifier: StubVerifier) -> None:
    verifier.behave = hears
    began = time.monotonic()
    undecided(shim, context=Context(0))
    assert time.monotonic() - began < 0.1
    verifier.behave = answers(200, ALLOW)
    assert shim.handler(EVENT, Context(3_000)) == ALLOW


# TLS


@pytest.fixture(scope="module")
def authority() -> tls.Authority:
    return tls.authority()


@pytest.fixture
def ca(authority: tls.Authority, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.pem)
    return path


def server_tls(authority: tls.Authority, ca: Path, host: str = "localhost") -> ssl.SSLContext:
    """Of a verifier that asks for certificates."""
    pair = ca.with_name("server.pem")
    pair.write_bytes(tls.certificate(authority, host))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.load_cert_chain(pair)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
def client_pair(authority: tls.Authority, tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key, in files of their own."""
    key, begin, certificate = tls.certificate(authority, "lambda").partition(b"-----BEGIN CERTIFICATE")
    paths = tmp_path / "client.pem", tmp_path / "client.key"
    paths[0].write_bytes(begin + certificate)
    paths[1].write_bytes(key)
    return paths


def test_a_client_certificate_is_shown_over_one_connection(
    load: Load, authority: tls.Authority, ca: Path, client_pair: tuple[Path, Path]
) -> None:
    with stub_verifier(answers(200, ALLOW), server_tls(authority, ca)) as verifier:
        shim = load(verifier.url, ca=ca, client_cert=client_pair[0], client_key=client_pair[1], timeout=2)
        for _ in range(20):
            assert shim.handler(EVENT, None) == ALLOW
        assert verifier.connections == 1
        verifier.hang_up()
        time.sleep(0.05)
        assert shim.handler(EVENT, None) == ALLOW
        verifier.behave = lambda _line, _asked: len({asked.connection for asked in verifier.asked}) > 2
        with pytest.raises(shim.Undecided):
            shim.handler(EVENT, Context(500))
        assert [asked.connection for asked in verifier.asked][-2:] == [2, 3]


def test_without_a_certificate_there_is_no_answer(load: Load, authority: tls.Authority, ca: Path) -> None:
    with stub_verifier(answers(200, ALLOW), server_tls(authority, ca)) as verifier:
        undecided(load(verifier.url, ca=ca, timeout=2))
        assert verifier.asked == []


@pytest.mark.parametrize(("host", "trusted"), [("other.example", True), ("localhost", False)])
def test_a_verifier_that_cannot_show_who_it_is_gets_no_token(
    host: str, trusted: bool, load: Load, authority: tls.Authority, ca: Path, client_pair: tuple[Path, Path]
) -> None:
    with stub_verifier(answers(200, ALLOW), server_tls(authority, ca, host)) as verifier:
        trust = {"ca": ca} if trusted else {}
        shim = load(verifier.url, client_cert=client_pair[0], client_key=client_pair[1], timeout=2, **trust)
        assert "SSLCertVerificationError" in undecided(shim)
        assert verifier.asked == []


def test_a_certificate_that_is_not_there_is_told(load: Load, verifier: StubVerifier) -> None:
    shim = load(f"https://localhost:{verifier.port}", ca="/nowhere/ca.pem")
    assert "FileNotFoundError" in undecided(shim)


def test_a_handshake_that_never_ends_is_left_in_time(load: Load, verifier: StubVerifier) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        undecided(load(f"https://127.0.0.1:{silent.getsockname()[1]}"))
        assert time.monotonic() - began < TIMEOUT + 0.25
        time.sleep(0.1)


# Settings


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://host", "http://", "http://user:pass@host", "http://host/?a=b", "http://host/#a"],
)
def test_an_address_that_cannot_be_asked_is_refused_at_the_start(url: str, load: Load) -> None:
    with pytest.raises(ValueError, match=r"^VERIFIER_URL must be"):
        load(url)


def test_a_port_that_is_none_is_refused_at_the_start(load: Load) -> None:
    with pytest.raises(ValueError, match="Port"):
        load("http://host:http")


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "4000", "4s"])
def test_a_timeout_that_makes_no_sense_is_refused_at_the_start(timeout: str, load: Load) -> None:
    with pytest.raises(ValueError, match=r"^VERIFIER_TIMEOUT must be"):
        load("http://host", timeout=timeout)


def test_an_empty_timeout_is_four_seconds(load: Load) -> None:
    assert load("http://host", timeout="").TIMEOUT == 4


@pytest.mark.parametrize(
    ("url", "address"),
    [("http://host", ("host", 80)), ("https://host", ("host", 443)), ("https://[::1]:8443/a", ("::1", 8443))],
)
def test_the_port_is_that_of_the_address_or_of_its_scheme(url: str, address: tuple[str, int], load: Load) -> None:
    asked = load(url).ADDRESS
    assert asked == address


def test_only_the_standard_library_is_imported_and_the_file_is_short() -> None:
    text = SHIM.read_text("utf-8")
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    assert len(text.splitlines()) < 100


def test_nothing_is_printed(shim: ModuleType, verifier: StubVerifier, capfd: pytest.CaptureFixture[str]) -> None:
    shim.handler(EVENT, None)
    verifier.behave = hears
    undecided(shim)
    time.sleep(0.05)
    assert capfd.readouterr() == ("", "")
