"""The fast lane answers what aiohttp would: the same streams of bytes go to a server with it and to one without."""

import asyncio
import io
import os
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_bench import Source
from tests.support import ISS, NOW, claims, issuer, private_key, public_jwk, sign
from verifier.core import keys
from verifier.core.issuer import Issuers
from verifier.core.policy import Requirement
from verifier.core.revocation import Kind, Revocation
from verifier.core.routes import Access, Route, Routes, parse
from verifier.core.verdict import Verdict
from verifier.engine import Engine, Question
from verifier.observability.log import open_log
from verifier.observability.metrics import Metrics, exposition
from verifier.observability.observer import Observer
from verifier.ports import Limits, Sources
from verifier.server import data_port
from verifier.server.callers import Callers
from verifier.server.deciding import Decisions
from verifier.server.head import MOST_SHAPES, Head, shape_of
from verifier.server.http import Bounds, Door, HttpServer, Offer
from verifier.server.lane import LONGEST, MOST_PIPELINED, Lane, Peer
from verifier.server.wire import written
from verifier.store.memory import MemoryCache
from verifier.store.revocations import LocalList
from verifier.store.shared import NotShared
from verifier.surfaces import surfaces
from verifier.surfaces.identity_headers import IdentityHeaders
from verifier.surfaces.surface import Answer

KEYS = keys.load_jwks({"keys": [public_jwk(private_key("EdDSA"), alg="EdDSA")]})
TABLE = Routes(
    [
        Route("public", parse("/public/**"), access=Access.ANONYMOUS),
        Route("written", parse("/pets"), frozenset({"POST"}), requirement=Requirement(scopes=("write", "admin"))),
    ],
    default=Access.AUTHENTICATED,
)


class Transport(asyncio.Transport):
    """What a client would read, of a connection without a network."""

    def __init__(self, address: object = ("127.0.0.1", 4_711)) -> None:
        super().__init__({"peername": address, "socket": None})
        self.received = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.received += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Server:
    """One data port on keys that are known, without a network."""

    def __init__(self, *, fast_lane: bool, callers: Any = None, **engine: Any) -> None:
        self.metrics = Metrics()
        observer = Observer(self.metrics, open_log("json", "error", io.StringIO()), log_denials=False)
        self.source = Source(KEYS)
        self.revocations = LocalList(10)
        self.engine = Engine(
            issuers=Issuers([issuer()]),
            sources=Sources({"main": self.source}, {}, NotShared(), self.revocations),
            cache=MemoryCache(1_000, 300, lambda: 0.0),
            observer=observer,
            limits=Limits(),
            clock=lambda: NOW,
            **{"routes": TABLE, **engine},
        )
        decisions = Decisions(self.engine, observer, IdentityHeaders(), lambda: NOW)
        known = None if callers is None else Callers(callers, lambda _: False, observer)
        offer = Offer(
            data_port.routes(surfaces(), decisions),
            Bounds(header_bytes=20_000, body_bytes=2_000, connections=10, read_timeout=30, keepalive_timeout=75),
            unreadable=data_port.unreadable(surfaces()),
            door=Door(known, fast_lane=fast_lane),
        )
        self.http = HttpServer(offer, observer)

    async def feed(self, pieces: Sequence[bytes], transport: Transport | None = None) -> tuple[bytes, bool]:
        """What comes back, dates and ids that were made up apart; and whether the connection was closed."""
        transport = transport or Transport()
        connection = self.http()
        connection.connection_made(transport)
        await _rest()
        for piece in pieces:
            if not transport.closed:
                connection.data_received(piece)
            await _rest()
        received, closed = transport.received, transport.closed
        connection.connection_lost(None)
        await _rest()
        return _comparable(received), closed

    def counts(self) -> str:
        exposed = exposition(self.metrics.registry.collect(), "")[0].decode()
        return "\n".join(line for line in exposed.splitlines() if re.match(r"verifier_\w+(_total|_count)\b", line))


async def _rest() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


def _comparable(received: bytes) -> bytes:
    received = re.sub(rb"Date: [^\r]*", b"Date: D", received)
    return re.sub(rb"X-Request-Id: [0-9a-f]{32}\b", b"X-Request-Id: MADE-UP", received)


def token(**changes: Any) -> bytes:
    return sign(claims(NOW, **changes), private_key("EdDSA"), "EdDSA").encode()


TOKENS = [token(), token(sub="bob"), token(sub="bob")[:-4] + b"AAAA", token(exp=NOW - 100), b"a.b.c", b"opaque", b""]
LINES = [
    b"GET /verify HTTP/1.1",
    b"GET /verify?x=1 HTTP/1.1",
    b"HEAD /verify HTTP/1.1",
    b"POST /verify HTTP/1.1",
    b"DELETE /verify HTTP/1.1",
    b"GET /nothing HTTP/1.1",
    b"GET /openapi.json HTTP/1.1",
    b"GET /forward-auth HTTP/1.1",
    b"GET /auth-request HTTP/1.1",
    b"GET /ext-authz/pets?x=1 HTTP/1.1",
    b"POST /ext-authz/pets HTTP/1.1",
    b"OPTIONS /ext-authz/public/x HTTP/1.1",
    b"HEAD /ext-authz/pets HTTP/1.1",
    b"GET /ext-authz/a%2Fb HTTP/1.1",
    b"GET /ext-authz//a#b HTTP/1.1",
    b"GET http://x/verify HTTP/1.1",
    b"GET //x/verify HTTP/1.1",
    b"GET /verify HTTP/1.0",
    b"GET /verify HTTP/2.0",
    b"GET /verify HTTP/1.2",
    b"GET  /verify HTTP/1.1",
    b"GET /verify  HTTP/1.1",
    b"GET /verify HTTP/1.1 ",
    b" GET /verify HTTP/1.1",
    b"\r\nGET /verify HTTP/1.1",
    b"get /verify HTTP/1.1",
    b"GET /verify",
    b"GET /ver\xc3\xa9 HTTP/1.1",
    b"GET /ext-authz/\xff HTTP/1.1",
    b"CONNECT x:1 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"OPTIONS * HTTP/1.1",
    b"BREW /verify HTTP/1.1",
]
PLAIN = [
    b"X-Request-Id: one",
    b"x-request-id: no good",
    b"User-Agent: tests/1.0",
    b"Accept: */*",
    b"X-Forwarded-Method: GET",
    b"X-Forwarded-Host: api.example",
    b"X-Forwarded-Uri: /pets?a=b",
    b"X-Original-Method: POST",
    b"X-Original-URL: https://api.example/pets",
    b"X_Auth_Subject: mallory",
    b"Origin: https://a.example",
    b"Access-Control-Request-Method: POST",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"Cookie: a=b",
    b"Content-Length: 0",
    b"Connection: keep-alive",
    b"Connection: Keep-Alive",
    b"Keep-Alive: timeout=5",
]
ODD = [
    b"Host: y",
    b"Host:",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Connection: keep-alive, close",
    b"Connection: x-forwarded-host",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Content-Length: 5",
    b"Content-Length: +0",
    b"Content-Length: 0, 0",
    b"Content-Length: 00",
    b"Content-Length: -1",
    b"Content-Length:",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding : chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer_Encoding: chunked",
    b"Content-Encoding: gzip",
    b"Content-Type: application/json",
    b"TE: trailers",
    b"Trailer: Authorization",
    b"Proxy-Connection: close",
    b"Authorization: Basic eDp5",
    b"AUTHORIZATION: Bearer opaque",
    b"Authorization: bearer  opaque",
    b"X-Folded: a\r\n b",
    b"X-Folded: a\r\n\tb",
    b"X-Tab: a\tb",
    b"X-Spaces:   a   ",
    b"X-Close:a",
    b"X-Bare: a\rb",
    b"X-Nul: a\0b",
    b"X-Del: a\x7fb",
    b"X-High: \xff\xfe",
    b"X-Text: \xc3\xa9",
    b"X-Request-Id: \xff",
    b"X-Name : a",
    b"X(Name): a",
    b"X-N\xc3\xa9: a",
    b": a",
    b"Sec-WebSocket-Key1: a",
    b"no colon",
    b"",
    b"X-Long: " + b"a" * LONGEST,
    b"X-Longer: " + b"a" * 30_000,
    b"\r\n".join(b"X-%d: a" % number for number in range(70)),
    b"\r\n".join(b"X-%d: a" % number for number in range(140)),
]
BEHIND = [
    b"{}",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"\r\n",
    b"\r\n\r\n",
    b"G",  # of a request that another one would be taken for the rest of
    b"GET /verify HTTP/1.1\r\nX-A: ",
    b"GET / HTTP/1.1\r\nHost:x\r\nX-Injected: ",
    b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
    b"POST /verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"\x16\x03\x01\x02\x00",
]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request: mostly plain, so that the lane has something to do, and often with one thing that is not."""
    line = draw(st.one_of(st.sampled_from(LINES[:11]), st.sampled_from(LINES)))
    fields = draw(st.lists(st.sampled_from(PLAIN), max_size=5))
    if draw(st.integers(0, 4)):
        fields.append(b"Authorization: Bearer " + draw(st.sampled_from([TOKENS[0], *TOKENS])))
    if draw(st.integers(0, 9)):
        fields.append(b"Host: x")
    if not draw(st.integers(0, 2)):
        fields.append(draw(st.sampled_from(ODD)))
    if not draw(st.integers(0, 14)):
        fields.append(draw(st.sampled_from(fields or [b"A: b"])))
    if not draw(st.integers(0, 3)):
        fields = [draw(spaced(field)) for field in fields]
    fields = draw(st.permutations(fields))
    end = draw(st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r"]))
    return end.join([line, *fields, b"", b""]) + (draw(st.sampled_from(BEHIND)) if not draw(st.integers(0, 3)) else b"")


def spaced(field: bytes) -> st.SearchStrategy[bytes]:
    """Blanks in front of a value and behind it are none of it (RFC 9110 §5.5)."""
    before = st.sampled_from([b": ", b":", b":  ", b":      ", b":\t"])
    after = st.sampled_from([b"", b"", b" ", b"\t", b"  \t "])
    name, _, value = field.partition(b": ")
    return st.tuples(before, after).map(lambda around: name + around[0] + value + around[1])


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Requests behind each other, cut anywhere or nowhere."""
    asked = draw(st.lists(requests(), min_size=1, max_size=4))
    if draw(st.booleans()):
        return asked
    whole = b"".join(asked)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True) if begin < end]


@settings(max_examples=int(os.environ.get("LANE_EXAMPLES", "250")), derandomize=True, deadline=None)
@given(st.lists(streams(), min_size=1, max_size=3))
def test_the_same_bytes_get_the_same_answers_with_the_lane_and_without(connections: list[list[bytes]]) -> None:
    async def compare() -> None:
        fast, slow = Server(fast_lane=True), Server(fast_lane=False)
        for pieces in connections * 3:  # again, when its tokens are known and their answers written
            assert await fast.feed(pieces) == await slow.feed(pieces)
        assert fast.counts() == slow.counts()

    asyncio.run(compare())


UNUSUAL = ["content-encoding", "expect", "http2-settings", "keep-alive", "proxy-connection", "sec-websocket-key1"]
UNUSUAL += ["te", "trailer", "transfer-encoding", "upgrade"]


def get(path: bytes = b"/verify", *fields: bytes, bearer: bytes = TOKENS[0]) -> bytes:
    return b"\r\n".join(
        [b"GET " + path + b" HTTP/1.1", b"Host: x", b"Authorization: Bearer " + bearer, *fields, b"", b""]
    )


@pytest.mark.parametrize(
    "asked",
    [
        get(),
        get(b"/verify?x"),
        get(b"/ext-authz/pets"),
        get(b"/forward-auth", b"X-Forwarded-Method: GET", b"X-Forwarded-Host: a.example", b"X-Forwarded-Uri: /pets"),
        get(b"/auth-request", b"X-Original-Method: GET", b"X-Original-URL: https://a.example/pets"),
        get(bearer=b"opaque"),
        get(b"/verify", b"Content-Length: 0", b"Connection: keep-alive"),
        b"POST /ext-authz/pets HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_plain_takes_the_lane(asked: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(fast_lane=True)
    monkeypatch.setattr(HttpServer, "_answer", None)  # aiohttp's way
    for _ in range(3):
        received, closed = await server.feed([asked])
        assert received.count(b"HTTP/1.1 ") == 1
        assert not closed


@pytest.mark.parametrize(
    "asked",
    [
        get().replace(b"HTTP/1.1", b"HTTP/1.0"),
        get(b"/ext-authz/a").replace(b"HTTP/1.1", b"HTTP/1.0"),
        get(b"http://x/ext-authz/a"),
        get(b"/ext-authz/a#b"),
        get().replace(b"GET", b"HEAD", 1),
        get(b"/ext-authz/" + b"a" * LONGEST),
        get(b"/verify", b"Content-Length: 1"),
        get(b"/verify", b"Connection: close"),
    ],
)
async def test_what_is_not_plain_is_left_to_aiohttp(asked: bytes) -> None:
    lane = Server(fast_lane=True).http.lane
    assert lane is not None
    assert lane.answer(asked, Peer("127.0.0.1", is_trusted=True)) is None


async def test_a_defect_in_the_lane_is_counted_and_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(fast_lane=True)
    monkeypatch.setattr(Lane, "_by_shortcut", None)
    assert (await server.feed([get()]))[0].startswith(b"HTTP/1.1 200 ")
    assert "verifier_defects_total 1.0" in server.counts()


async def test_a_trace_that_is_no_text_is_no_reason_to_decide_twice() -> None:
    fast, slow = Server(fast_lane=True), Server(fast_lane=False)
    asked = get(b"/verify", b"traceparent: \xff")
    assert await fast.feed([asked]) == await slow.feed([asked])
    assert fast.counts() == slow.counts()


async def test_a_request_that_waits_is_decided_once_before_aiohttp_decides_it() -> None:
    server = Server(fast_lane=True)
    server.source.keys, server.source.upcoming = None, [KEYS]
    asked: list[Question] = []
    decide_now = server.engine.decide_now

    def watch(question: Question) -> Verdict | None:
        asked.append(question)
        return decide_now(question)

    server.engine.decide_now = watch  # type: ignore[method-assign]
    lane = server.http.lane
    assert lane is not None
    assert lane.answer_first(get(b"/ext-authz/a"), Peer("127.0.0.1", is_trusted=True)) == (b"", get(b"/ext-authz/a"))
    assert asked == []
    assert (await server.feed([get(b"/ext-authz/a")]))[0].startswith(b"HTTP/1.1 200 ")
    assert len(asked) == 2


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    asked = [
        get(b"/verify", b"X-Request-Id: %d" % number, *odd) for number, odd in enumerate([(), (), (b"TE: a",), ()])
    ]
    received, _ = await Server(fast_lane=True).feed([b"".join(asked)])
    assert re.findall(rb"X-Request-Id: (\d)", received) == [b"0", b"1", b"2", b"3"]


async def test_whoever_sends_very_many_at_once_waits_for_aiohttp() -> None:
    asked = b"".join(get(b"/verify", b"X-Request-Id: %d" % number) for number in range(MOST_PIPELINED + 1))
    transport = Transport()
    connection = Server(fast_lane=True).http()
    connection.connection_made(transport)
    await _rest()
    connection.data_received(asked)
    assert transport.received == b""
    connection.connection_lost(None)


async def test_the_lane_does_not_overtake_half_a_request() -> None:
    half = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /verify HTTP/1.1\r\nX-A: "
    for pieces in ([half, get()], [half[:-8], get(), get()], [half + get()[:20], get()[20:], get()]):
        assert await Server(fast_lane=True).feed(pieces) == await Server(fast_lane=False).feed(pieces)


@pytest.mark.parametrize("behind", [b"G", b"GET / HTTP/1.1\r\nHost:x\r\nX-Injected: a "])
def test_what_is_behind_a_request_is_never_taken_for_a_part_of_it(behind: bytes) -> None:
    head = Head()
    asked = b"GET / HTTP/1.1\r\nHost:x\r\n" + b"".join(b"a%d:\r\n" % number for number in range(len(behind)))
    for surplus in range(len(behind) + 2):
        assert not head.read(asked[: 24 + 5 * surplus] + b"\r\n" + behind)
        assert head.read(get())
        assert head.value("host") == b"x"


async def test_blanks_behind_a_value_are_none_of_it() -> None:
    server = Server(fast_lane=True)
    for blank in (b" ", b"\t"):
        for _ in range(3):
            assert (await server.feed([get(bearer=TOKENS[0] + blank)]))[0].startswith(b"HTTP/1.1 200 ")


async def test_whoever_reads_no_answers_gets_no_more_of_them_from_the_lane() -> None:
    server, transport = Server(fast_lane=True), Transport()
    connection = server.http()
    connection.connection_made(transport)
    await _rest()
    connection.pause_writing()
    connection.data_received(get())
    assert transport.received == b""
    connection.resume_writing()
    await _rest()
    assert transport.received.startswith(b"HTTP/1.1 200 ")
    connection.connection_lost(None)


async def test_a_keep_alive_begins_anew_with_each_answer() -> None:
    server, transport = Server(fast_lane=True), Transport()
    connection = server.http()
    connection.connection_made(transport)
    await _rest()
    before = connection._next_keepalive_close_time
    await asyncio.sleep(0.01)
    connection.data_received(get())
    assert connection._next_keepalive_close_time > before
    connection.connection_lost(None)


async def test_a_connection_that_is_to_end_gets_no_more_answers() -> None:
    server, transport = Server(fast_lane=True), Transport()
    connection = server.http()
    connection.connection_made(transport)
    await _rest()
    connection.close()
    connection.data_received(get())
    assert transport.received == b""
    connection.connection_lost(None)


async def test_a_prepared_answer_is_good_only_as_long_as_what_it_rests_on() -> None:
    server = Server(fast_lane=True)
    for _ in range(3):
        assert b"HTTP/1.1 200 " in (await server.feed([get()]))[0]
    made = Revocation("r1", (ISS,), Kind.SUBJECT, "alice", NOW, NOW + 300)
    await server.revocations.revoke(made)
    assert b'"reason":"revoked"' in (await server.feed([get()]))[0]
    await server.revocations.lift("r1")
    assert b"HTTP/1.1 200 " in (await server.feed([get()]))[0]
    server.source.keys = keys.load_jwks({"keys": [public_jwk(private_key("EdDSA", which=1), alg="EdDSA")]})
    assert b'"reason":"bad_signature"' in (await server.feed([get()]))[0]


@pytest.mark.parametrize("scheme", [b"Digest ", b"bearer ", b"Bearer\t", b"1234567"])
async def test_an_allow_is_not_repeated_for_another_scheme(scheme: bytes) -> None:
    fast, slow = Server(fast_lane=True), Server(fast_lane=False)
    asked = get().replace(b"Bearer ", scheme)
    for _ in range(3):
        assert b"HTTP/1.1 200 " in (await fast.feed([get()]))[0]
    assert await fast.feed([asked]) == await slow.feed([asked])


def test_each_answer_bears_the_date_of_its_second() -> None:
    now = [784_111_777.0]
    lane = Lane({b"GET / HTTP/1.1": lambda _, date: date}, lambda *_: None, None, LONGEST, print, lambda: now[0])
    for date in (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 1994 08:49:38 GMT"):
        assert lane.answer(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Peer("", is_trusted=True)) == date
        now[0] += 1


def test_names_that_are_plain_have_a_shape() -> None:
    shape = shape_of([b"Host", b"X-Request-Id", b"AUTHORIZATION"])
    assert shape is not None
    assert shape.names == ("host", "x-request-id", "authorization")
    assert shape.places["authorization"] == 2


@pytest.mark.parametrize(
    "names",
    [
        [b"Accept"],
        [b"Host", b"host"],
        [b"Host", b"Authorization", b"authorization"],
        *([b"Host", name.title().encode()] for name in UNUSUAL),
        [b"Host", *(b"X-%d" % number for number in range(64))],
    ],
)
def test_names_that_change_how_a_request_is_read_have_none(names: list[bytes]) -> None:
    assert shape_of(names) is None


def test_names_that_are_long_are_not_kept() -> None:
    head = Head()
    assert head.read(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X" * 3_000 + b": a\r\n\r\n")
    assert not head._shapes


def test_shapes_take_no_more_memory_than_they_may() -> None:
    head = Head()
    for number in range(3_000):
        assert head.read(b"GET / HTTP/1.1\r\nHost: x\r\nX-%d: a\r\n\r\n" % number)
    assert len(head._shapes) <= MOST_SHAPES


@pytest.mark.parametrize(
    "answered",
    [
        Answer(204, (), b""),
        Answer(200, (), b"no type"),
        Answer(200, (("X", "a\r\nSet-Cookie: b"),), b""),
        Answer(200, (("X", "a\nb"),), b""),
        Answer(200, (("X", "a\rb"),), b""),
        Answer(200, (("X", "a\0b"),), b""),
    ],
)
def test_what_aiohttp_would_refuse_or_write_in_another_way_is_not_written(answered: Answer) -> None:
    with pytest.raises((LookupError, ValueError)):
        written(answered, b"Date: D")
