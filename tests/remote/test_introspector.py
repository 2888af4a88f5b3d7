"""Asking an issuer about tokens over real HTTP: what is sent, what counts as an answer, and what bounds it."""

import asyncio
import base64
import json
import logging
import secrets
import socket
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote_plus

import pytest
from aiohttp import web
from joserfc import jwt

from tests.support import FakeIssuer, eventually, fake_issuer, opaque_issuer, private_key, serve, settings
from verifier.core.breaker import FAILURES, PAUSE
from verifier.ports import NoAnswer, SourceUnavailable
from verifier.remote.http import MAX_ANSWER_BYTES, Access, HttpClient, open_session
from verifier.remote.introspector import (
    ASSERTION_LIFE,
    Auth,
    CallLimits,
    Client,
    Endpoint,
    FixedEndpoint,
    HttpIntrospector,
)
from verifier.remote.metadata import DiscoveredAddress

ISSUER = "https://issuer.example/tenant"
ASKED = "opaque"
SHORT = 0.2
"""A deadline, in seconds, for a test that waits until it is over."""

SOON = SHORT + 1.0
"""By when a call of that deadline has surely ended, on a busy machine too."""


class Asking(Protocol):
    """Makes what asks ``issuer``, but for what the test changes."""

    def __call__(
        self,
        auth: Auth = Auth.BASIC,
        *,
        file: Path | None = None,
        client_id: str = "verifier",
        endpoint: Endpoint | None = None,
        deadline: float = 5.0,
        max_calls: int = 100,
        clock: list[float] | None = None,
    ) -> HttpIntrospector: ...


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    """With a deadline that is longer than any of ``CallLimits`` here."""
    async with open_session(per_host=0) as session:
        yield HttpClient(session, deadline=20.0)


@pytest.fixture
async def asking(http: HttpClient, issuer: FakeIssuer, secret_file: Path) -> AsyncIterator[Asking]:
    made: list[HttpIntrospector] = []

    def make(
        auth: Auth = Auth.BASIC,
        *,
        file: Path | None = None,
        client_id: str = "verifier",
        endpoint: Endpoint | None = None,
        deadline: float = 5.0,
        max_calls: int = 100,
        clock: list[float] | None = None,
    ) -> HttpIntrospector:
        one = HttpIntrospector(
            http=http,
            issuer=ISSUER,
            endpoint=endpoint or FixedEndpoint(f"{issuer.url}/introspect"),
            access=Access(),
            client=Client(auth, client_id, file or secret_file),
            limits=CallLimits(deadline, max_calls),
            clock=time.monotonic if clock is None else lambda: clock[0],
        )
        made.append(one)
        return one

    yield make
    for one in made:
        await one.stop()


@pytest.fixture
def token() -> str:
    return secrets.token_urlsafe()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Connections are accepted (by the kernel), and nobody reads or writes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def found_by(http: HttpClient, issuer: str, **how: Any) -> DiscoveredAddress:
    return DiscoveredAddress(http, issuer, Access(), "introspection_endpoint", **how)


async def outage(introspection: HttpIntrospector, token: str = ASKED) -> SourceUnavailable:
    with pytest.raises(SourceUnavailable) as raised:
        await introspection.ask(token)
    return raised.value


async def form(request: web.Request) -> dict[str, str]:
    return {name: str(value) for name, value in (await request.post()).items()}


def basic(request: web.Request) -> tuple[str, str]:
    """Id and secret as they stand inside Basic, still encoded."""
    scheme, _, credentials = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    client_id, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    return client_id, secret


async def shown(request: web.Request) -> list[str]:
    """All that may be a secret in a request."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    return [*(basic(request) if scheme == "Basic" else [credentials]), *(await form(request)).values()]


def held(path: Path) -> str:
    return path.read_text()


def keep(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def key_file(directory: Path, algorithm: str, **members: str) -> Path:
    """A private key without a name, as a JWK."""
    jwk = {**private_key(algorithm, None).as_dict(private=True), **members}
    return keep(directory / "client-key", json.dumps(jwk))


def pem_file(directory: Path, algorithm: str) -> Path:
    key = private_key(algorithm, None)
    return keep(directory / "client-key", key.as_pem(private=True))  # type: ignore[union-attr]


async def assertion(issuer: FakeIssuer, algorithm: str, which: int = 0) -> jwt.Token:
    """The assertion of a request, once its signature held."""
    sent = (await form(issuer.requests[which]))["client_assertion"]
    return jwt.decode(sent, private_key(algorithm, None), algorithms=[algorithm])


# What is sent.


async def test_the_question_is_a_form_by_post_that_asks_for_json(
    asking: Asking, issuer: FakeIssuer, token: str
) -> None:
    await asking().ask(token)
    request = issuer.requests[0]
    assert (request.method, request.path_qs) == ("POST", "/introspect")
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.headers["Accept"] == "application/json"


async def test_the_token_is_sent_with_the_hint_that_it_is_an_access_token(
    asking: Asking, issuer: FakeIssuer, token: str
) -> None:
    await asking().ask(token)
    assert await form(issuer.requests[0]) == {"token": token, "token_type_hint": "access_token"}


async def test_a_token_of_any_characters_arrives_as_it_is(asking: Asking, issuer: FakeIssuer) -> None:
    odd = "a+b/c==&token=other&x=%20 é€\N{GRINNING FACE}"
    await asking().ask(odd)
    assert (await form(issuer.requests[0]))["token"] == odd


async def test_nothing_of_the_token_is_in_the_address_or_a_header(
    asking: Asking, issuer: FakeIssuer, token: str
) -> None:
    await asking().ask(token)
    assert token not in f"{issuer.requests[0].raw_path} {issuer.requests[0].headers}"


async def test_basic_bears_id_and_secret(asking: Asking, issuer: FakeIssuer, secret_file: Path) -> None:
    await asking(Auth.BASIC).ask("opaque")
    assert basic(issuer.requests[0]) == ("verifier", held(secret_file))


async def test_inside_basic_id_and_secret_are_form_encoded(
    asking: Asking, issuer: FakeIssuer, secret_file: Path
) -> None:
    client_id, secret = "urn:client one/é+%", f'a:b c+d%41é€&="\\{secrets.token_hex()}'
    keep(secret_file, secret)
    await asking(Auth.BASIC, client_id=client_id).ask("opaque")
    sent = basic(issuer.requests[0])
    assert (unquote_plus(sent[0]), unquote_plus(sent[1])) == (client_id, secret)


async def test_inside_basic_a_space_is_a_plus_and_a_colon_is_escaped(
    asking: Asking, issuer: FakeIssuer, secret_file: Path
) -> None:
    keep(secret_file, "c d:é")
    await asking(Auth.BASIC, client_id="a:b").ask("opaque")
    assert basic(issuer.requests[0]) == ("a%3Ab", "c+d%3A%C3%A9")


async def test_with_basic_nothing_of_the_client_is_in_the_form(asking: Asking, issuer: FakeIssuer) -> None:
    await asking(Auth.BASIC).ask("opaque")
    assert (await form(issuer.requests[0])).keys() == {"token", "token_type_hint"}


async def test_with_post_id_and_secret_are_in_the_form(asking: Asking, issuer: FakeIssuer, secret_file: Path) -> None:
    secret = f"a:b c+d%41é&={secrets.token_hex()}"
    keep(secret_file, secret)
    await asking(Auth.POST, client_id="client one").ask("opaque")
    sent = await form(issuer.requests[0])
    assert (sent["client_id"], sent["client_secret"]) == ("client one", secret)


@pytest.mark.parametrize("auth", [Auth.POST, Auth.PRIVATE_KEY_JWT])
async def test_what_is_in_the_form_is_not_in_a_header_too(
    auth: Auth, asking: Asking, issuer: FakeIssuer, tmp_path: Path
) -> None:
    await asking(auth, file=key_file(tmp_path, "ES256")).ask("opaque")
    assert "Authorization" not in issuer.requests[0].headers


async def test_a_bearer_token_is_sent_as_such(asking: Asking, issuer: FakeIssuer, secret_file: Path) -> None:
    await asking(Auth.BEARER).ask("opaque")
    assert issuer.requests[0].headers["Authorization"] == f"Bearer {held(secret_file)}"


async def test_with_a_bearer_token_no_client_is_named(asking: Asking, issuer: FakeIssuer) -> None:
    await asking(Auth.BEARER, client_id="").ask("opaque")
    assert (await form(issuer.requests[0])).keys() == {"token", "token_type_hint"}


async def test_an_assertion_is_named_as_rfc_7523_demands(asking: Asking, issuer: FakeIssuer, tmp_path: Path) -> None:
    await asking(Auth.PRIVATE_KEY_JWT, file=key_file(tmp_path, "ES256")).ask("opaque")
    sent = await form(issuer.requests[0])
    assert sent.keys() == {"token", "token_type_hint", "client_id", "client_assertion_type", "client_assertion"}
    assert sent["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def test_an_assertion_names_the_client_twice_and_is_for_the_issuer_alone(
    asking: Asking, issuer: FakeIssuer, tmp_path: Path
) -> None:
    await asking(Auth.PRIVATE_KEY_JWT, file=key_file(tmp_path, "ES256"), client_id="us").ask("opaque")
    claims = (await assertion(issuer, "ES256")).claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("us", "us", ISSUER)


async def test_an_assertion_holds_for_a_minute_from_now(asking: Asking, issuer: FakeIssuer, tmp_path: Path) -> None:
    began = int(time.time())
    await asking(Auth.PRIVATE_KEY_JWT, file=key_file(tmp_path, "ES256")).ask("opaque")
    claims = (await assertion(issuer, "ES256")).claims
    assert began <= claims["iat"] <= time.time()
    assert claims["exp"] - claims["iat"] == ASSERTION_LIFE == 60


async def test_no_two_assertions_have_one_id(asking: Asking, issuer: FakeIssuer, tmp_path: Path) -> None:
    introspection = asking(Auth.PRIVATE_KEY_JWT, file=key_file(tmp_path, "ES256"))
    await asyncio.gather(*(introspection.ask("opaque") for _ in range(10)))
    ids = {(await assertion(issuer, "ES256", which)).claims["jti"] for which in range(10)}
    assert len(ids) == 10


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # joserfc says so; issuers know Ed25519 by that name
@pytest.mark.parametrize("file", [key_file, pem_file], ids=["jwk", "pem"])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "ES512", "EdDSA"])
async def test_without_a_choice_a_key_signs_with_the_usual_algorithm_of_its_type(
    algorithm: str, file: Callable[[Path, str], Path], asking: Asking, issuer: FakeIssuer, tmp_path: Path
) -> None:
    await asking(Auth.PRIVATE_KEY_JWT, file=file(tmp_path, algorithm)).ask("opaque")
    assert (await assertion(issuer, algorithm)).header["alg"] == algorithm


@pytest.mark.parametrize("algorithm", ["PS256", "RS512", "Ed25519"])
async def test_a_key_signs_with_the_algorithm_that_it_names(
    algorithm: str, asking: Asking, issuer: FakeIssuer, tmp_path: Path
) -> None:
    await asking(Auth.PRIVATE_KEY_JWT, file=key_file(tmp_path, algorithm, alg=algorithm)).ask("opaque")
    assert (await assertion(issuer, algorithm)).header["alg"] == algorithm


@pytest.mark.parametrize("kid", ["ours", None])
async def test_an_assertion_names_its_key_where_the_key_has_a_name(
    kid: str | None, asking: Asking, issuer: FakeIssuer, tmp_path: Path
) -> None:
    named = {} if kid is None else {"kid": kid}
    path = key_file(tmp_path, "ES256", **named)
    await asking(Auth.PRIVATE_KEY_JWT, file=path).ask("opaque")
    assert (await assertion(issuer, "ES256")).header.get("kid") == kid


async def test_nothing_private_of_a_key_is_sent(asking: Asking, issuer: FakeIssuer, tmp_path: Path) -> None:
    await asking(Auth.PRIVATE_KEY_JWT, file=key_file(tmp_path, "ES256")).ask("opaque")
    sent = (await form(issuer.requests[0]))["client_assertion"]
    assert jwt.decode(sent, private_key("ES256", None)).header.keys() <= {"alg", "typ", "kid"}


async def test_the_end_of_a_line_is_no_part_of_a_secret(asking: Asking, issuer: FakeIssuer, secret_file: Path) -> None:
    secret = held(secret_file)
    keep(secret_file, f"{secret}\r\n")
    await asking(Auth.BASIC).ask("opaque")
    assert basic(issuer.requests[0])[1] == secret


@pytest.mark.parametrize("auth", [Auth.BASIC, Auth.POST, Auth.BEARER])
async def test_a_secret_that_was_replaced_is_used_with_the_next_call(
    auth: Auth, asking: Asking, issuer: FakeIssuer, secret_file: Path
) -> None:
    introspection, new = asking(auth), secrets.token_hex()
    await introspection.ask("opaque")
    keep(secret_file, new)
    await introspection.ask("opaque")
    assert new in await shown(issuer.requests[1])


async def test_a_key_that_was_replaced_signs_the_next_call(asking: Asking, issuer: FakeIssuer, tmp_path: Path) -> None:
    introspection = asking(Auth.PRIVATE_KEY_JWT, file=key_file(tmp_path, "ES256"))
    await introspection.ask("opaque")
    key_file(tmp_path, "ES384")
    await introspection.ask("opaque")
    assert (await assertion(issuer, "ES384", 1)).header["alg"] == "ES384"


@pytest.mark.parametrize("auth", list(Auth))
async def test_without_its_secret_nothing_is_sent(
    auth: Auth, asking: Asking, issuer: FakeIssuer, tmp_path: Path
) -> None:
    refusal = await outage(asking(auth, file=tmp_path / "missing"))
    assert "No such file" in refusal.detail
    assert issuer.requests == []


@pytest.mark.parametrize(
    ("auth", "content"),
    [
        (Auth.BEARER, b"se\xc3\xa9cret"),
        (Auth.BEARER, b"secret\r\nX-Other: secret"),
        (Auth.BASIC, b"secret\xff"),
        (Auth.POST, b"secret\xff"),
        (Auth.PRIVATE_KEY_JWT, b"secret"),
        (Auth.PRIVATE_KEY_JWT, b'{"kty":"oct","k":"secret"}'),
        (Auth.PRIVATE_KEY_JWT, b'{"kty":"EC","crv":"secret"}'),
        (Auth.PRIVATE_KEY_JWT, b'{"kty":"EC",secret'),
    ],
)
async def test_a_secret_that_cannot_be_used_is_an_outage_that_does_not_tell_it(
    auth: Auth, content: bytes, asking: Asking, issuer: FakeIssuer, tmp_path: Path
) -> None:
    refusal = await outage(asking(auth, file=keep(tmp_path / "file", content)))
    assert "secret" not in told(refusal)
    assert issuer.requests == []


async def test_a_public_key_cannot_say_who_we_are(asking: Asking, issuer: FakeIssuer, tmp_path: Path) -> None:
    path = keep(tmp_path / "client-key", json.dumps(private_key("ES256").as_dict(private=False)))
    assert "expected a private key" in (await outage(asking(Auth.PRIVATE_KEY_JWT, file=path))).detail
    assert issuer.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_token_does_not_follow_a_redirect(status: int, asking: Asking, issuer: FakeIssuer) -> None:
    async with fake_issuer("EdDSA") as other:
        issuer.fault = lambda _: web.Response(status=status, headers={"Location": f"{other.url}/introspect"})
        assert f"answered {status}" in (await outage(asking())).detail
        assert (len(issuer.requests), other.requests) == (2, [])  # the second about a token that was made up


async def test_plain_http_beyond_loopback_is_refused_before_anything_is_sent(asking: Asking) -> None:
    refusal = await outage(asking(endpoint=FixedEndpoint("http://issuer.example/introspect")))
    assert "expected an https address" in refusal.detail


# What comes back.


async def test_an_active_token_comes_back_with_all_that_the_issuer_says(asking: Asking, issuer: FakeIssuer) -> None:
    token = issuer.opaque(secrets.token_urlsafe(), sub="bob", nested={"a": [1, None]})
    assert await asking().ask(token) == issuer.active[token]


@pytest.mark.parametrize(
    "answer", [{"active": False}, {"active": False, "error": "server_error"}, {}, {"active": "true"}]
)
async def test_the_word_of_the_issuer_is_passed_on_as_it_is(
    answer: dict[str, Any], asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.fault = lambda _: web.json_response(answer)
    assert await asking().ask("opaque") == answer


@pytest.mark.parametrize(
    "media_type", ["application/json", "text/html", "application/octet-stream", "application/json; charset=latin-1"]
)
async def test_json_is_read_whatever_its_media_type_says(media_type: str, asking: Asking, issuer: FakeIssuer) -> None:
    body = json.dumps({"active": True, "sub": "é"}, ensure_ascii=False).encode()
    issuer.fault = lambda _: web.Response(body=body, headers={"Content-Type": media_type})
    assert await asking().ask("opaque") == {"active": True, "sub": "é"}


@pytest.mark.parametrize("status", [201, 204, 304, 408, 429, 500, 502, 503])
async def test_any_status_but_200_and_400_is_an_outage_whatever_the_body_says(
    status: int, asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.fault = lambda _: web.Response(status=status, text=None if status in (204, 304) else '{"active":true}')
    assert (await outage(asking())).detail == f"{issuer.url}/introspect: answered {status}"


@pytest.mark.parametrize("status", [401, 403, 404, 405, 413, 414, 422])
async def test_a_status_for_every_token_is_an_outage(status: int, asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(status=status, text='{"active":true}')
    said = f"{issuer.url}/introspect: answered {status}, without an error"
    assert (await outage(asking())).detail == said


def but_for(token: str, answer: Callable[[], web.Response]) -> Callable[[web.Request], Any]:
    """Answers about all tokens, and ``answer`` about one."""

    async def told(request: web.Request) -> web.Response:
        asked = (await request.post())["token"]
        return answer() if asked == token else web.json_response({"active": False})

    return told


DISLIKED: list[Callable[[], web.Response]] = [
    *(partial(web.Response, status=status, text="blocked") for status in (403, 404, 413, 414, 422)),
    partial(web.Response, text="<html>blocked</html>"),
    partial(web.Response, text='{"active":true,"active":true}'),
    partial(web.Response, text='{"active":true,"sub":"\\ud800"}'),
]


@pytest.mark.parametrize("answer", DISLIKED)
async def test_a_token_that_alone_has_no_answer_is_no_outage(
    answer: Callable[[], web.Response], asking: Asking, issuer: FakeIssuer
) -> None:
    """A firewall dislikes its text, or what the issuer says about it cannot be read."""
    issuer.fault = but_for("a/../../etc/passwd", answer)
    asker = asking()
    for _ in range(5):
        with pytest.raises(NoAnswer):
            await asker.ask("a/../../etc/passwd")
    assert not asker.breaker_is_open


@pytest.mark.parametrize("answer", DISLIKED)
async def test_one_answer_that_is_odd_condemns_no_token(
    answer: Callable[[], web.Response], asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.opaque("opaque")
    answers: list[web.Response] = [answer()]
    issuer.fault = lambda request: answers.pop() if answers else issuer.usual(request)
    assert (await asking().ask("opaque"))["active"] is True


STUMBLES: list[Callable[[], web.Response]] = [
    *(partial(web.Response, status=status) for status in (401, 429, 500, 502, 503)),
    partial(web.Response, text=json.dumps({"active": True, "groups": "x" * MAX_ANSWER_BYTES})),
]


@pytest.mark.parametrize("answer", STUMBLES)
async def test_a_token_that_the_issuer_stumbles_over_is_an_outage_of_that_token_alone(
    answer: Callable[[], web.Response], asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.fault = but_for("stumble", answer)
    asker = asking()
    for _ in range(2 * FAILURES):
        await outage(asker, "stumble")
    assert not asker.breaker_is_open
    assert await asker.ask("opaque") == {"active": False}


@pytest.mark.parametrize("error", ["opaque", "x" * 30, 1, [], {}])
async def test_an_error_that_nobody_defined_is_not_repeated(error: object, asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.json_response({"error": error}, status=403)
    assert (await outage(asking(), "opaque")).detail.endswith("answered 403, without an error")


@pytest.mark.parametrize("content", [b"", b"\n"])
async def test_credentials_that_are_being_written_are_an_outage_and_are_not_sent(
    content: bytes, asking: Asking, issuer: FakeIssuer, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_bytes(content)
    made = asking(file=tmp_path / "empty")
    assert (await outage(made)).detail.endswith("empty")
    assert issuer.introspections == 0


@pytest.mark.parametrize("kind", ["chunk", "header", "status", "no HTTP"])
async def test_an_answer_that_repeats_the_token_and_is_no_http_is_not_quoted(
    kind: str, asking: Asking, issuer: FakeIssuer, token: str
) -> None:
    answers = {
        "chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + token.encode(),
        "header": HEAD + b"X-Echo \x00: " + token.encode() + b"\r\n\r\n",
        "status": b"HTTP/1.1 abc " + token.encode() + b"\r\n\r\n",
        "no HTTP": token.encode(),
    }
    issuer.fault = lambda request: raw(request, answers[kind])
    refusal = await outage(asking(), token)
    assert token not in told(refusal)


@pytest.mark.parametrize("status", [429, 503])
async def test_an_issuer_that_is_busy_says_when_to_come_again(status: int, asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(status=status, headers={"Retry-After": "7"})
    assert (await outage(asking())).retry_after == 7.0


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"invalid_request"}',
        b'{"error":"invalid_token"}',
        b'{"error":"unsupported_token_type"}',
        b'{"error":null}',
        b'{"error":["invalid_client"]}',
        b'{"error":{"invalid_client":1}}',
        b'{"active":true}',
        b'{"error":"invalid_client","error":"invalid_client"}',
        b"<html>invalid_client</html>",
        b'"invalid_client"',
        b"",
        b"\xff",
    ],
)
async def test_a_400_that_does_not_blame_us_makes_the_token_inactive(
    body: bytes, asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.fault = lambda _: web.Response(status=400, body=body)
    assert await asking().ask("opaque") == {"active": False}


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "access_denied", "server_error"])
async def test_a_400_that_blames_us_or_the_issuer_is_an_outage(error: str, asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.json_response({"error": error}, status=400)
    assert f"answered 400, {error}" in (await outage(asking())).detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "Expecting value"),
        (b"<html>sign in</html>", "Expecting value"),
        (b'{"active":tru', "Expecting value"),
        (b'{"active":true', "Expecting ','"),
        (b'{"active":true}{"active":true}', "Extra data"),
        (b'{"active":false,"active":true}', "repeated member name"),
        (b'{"active":true,"a":{"b":1,"b":1}}', "repeated member name"),
        (b'[{"active":true}]', "not a JSON object"),
        (b"true", "not a JSON object"),
        (b'"active"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"active":true,"exp":NaN}', "NaN"),
        (b'{"active":true,"exp":1e999}', "number out of range"),
        (b'{"active":true,"a":' + b"[" * 99 + b"]" * 99 + b"}", "nested too deep"),
        (b'\xef\xbb\xbf{"active":true}', "Expecting value"),
        ('{"active":true}'.encode("utf-16"), "utf-8"),
        (b'{"active":true,"sub":"\xff"}', "utf-8"),
        (b'{"active":true,"sub":"\\ud800"}', "surrogates"),
        (b"eyJhbGciOiJub25lIn0.eyJhY3RpdmUiOnRydWV9.", "Expecting value"),  # RFC 9701, which we did not ask for
    ],
)
async def test_a_200_that_can_be_read_in_no_way_or_in_two_is_an_outage(
    body: bytes, said: str, asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.fault = lambda _: web.Response(body=body, content_type="application/json")
    detail = (await outage(asking())).detail
    assert detail.startswith(f"{issuer.url}/introspect: answered 200, ")
    assert said in detail


@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_that_is_too_large_is_an_outage(status: int, asking: Asking, issuer: FakeIssuer) -> None:
    body = b'{"active":true}' + b" " * MAX_ANSWER_BYTES
    issuer.fault = lambda _: web.Response(status=status, body=body)
    assert "larger than" in (await outage(asking())).detail


async def test_an_answer_that_is_as_large_as_may_be_is_read(asking: Asking, issuer: FakeIssuer) -> None:
    body = b'{"active":true}'.ljust(MAX_ANSWER_BYTES)
    issuer.fault = lambda _: web.Response(body=body)
    assert await asking().ask("opaque") == {"active": True}


async def test_a_compressed_answer_is_an_outage(asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(body=b'{"active":true}', headers={"Content-Encoding": "gzip"})
    assert "compressed" in (await outage(asking())).detail


async def raw(request: web.Request, answer: bytes) -> web.StreamResponse:
    """Answer with exactly these bytes, and hang up."""
    await request.read()
    assert request.transport is not None
    request.transport.write(answer)
    request.transport.close()
    return web.Response()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        HEAD + b"Content-Length: 100\r\n\r\n" + b'{"active":true}',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nf\r\n" + b'{"active":true}',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b'{"active":true}',
        HEAD + b"Content-Length: 15\r\nContent-Length: 2\r\n\r\n" + b'{"active":true}',
        b'{"active":true}',
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ],
    ids=["nothing", "head", "body", "last chunk", "no chunks", "two lengths", "no http", "ssh"],
)
async def test_an_answer_that_was_cut_off_or_is_no_http_is_an_outage(
    answer: bytes, asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.fault = lambda request: raw(request, answer)
    assert (await outage(asking())).detail.startswith(f"{issuer.url}/introspect: ")


async def test_an_endpoint_where_nobody_listens_is_an_outage(asking: Asking) -> None:
    assert "http://127.0.0.1:1/" in (await outage(asking(endpoint=FixedEndpoint("http://127.0.0.1:1/")))).detail


# What is told of it.


def told(error: BaseException) -> str:
    """All that an exception can put into a log."""
    return f"{error!s} {error!r} {vars(error)} {''.join(traceback.format_exception(error))}"


@pytest.mark.parametrize("fault", ["500", "400", "redirect", "repeated", "cut off", "reset"])
async def test_no_log_line_and_no_exception_has_anything_of_the_token(
    fault: str, asking: Asking, issuer: FakeIssuer, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    echo = json.dumps({"error": "invalid_client", "token": token})
    issuer.fault = {
        "500": lambda _: web.Response(status=500, text=echo, reason=token),
        "400": lambda _: web.Response(status=400, text=echo),
        "redirect": lambda _: web.Response(status=302, headers={"Location": f"{issuer.url}/?token={token}"}),
        "repeated": lambda _: web.Response(text=f'{{"{token}":1,"{token}":2}}'),
        "cut off": lambda _: web.Response(text=f'{{"token":"{token}'),
        "reset": lambda request: raw(request, b""),
    }[fault]
    with caplog.at_level(logging.DEBUG):
        refusal = await outage(asking(), token)
    assert token not in told(refusal)
    assert token not in caplog.text


async def test_no_log_line_and_no_exception_has_the_secret(
    asking: Asking, issuer: FakeIssuer, secret_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.fault = lambda _: web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
    with caplog.at_level(logging.DEBUG):
        refusal = await outage(asking())
    assert held(secret_file) not in f"{told(refusal)} {caplog.text}"


async def test_the_service_logs_that_an_issuer_does_not_answer_and_nothing_of_the_token(
    issuer: FakeIssuer, secret_file: Path, token: str
) -> None:
    issuer.fault = lambda _: web.Response(status=500, text=token)
    configured = opaque_issuer("main", f"{issuer.url}/introspect", secret_file)
    async with serve(settings(configured, log={"denials": True})) as client:
        assert (await client.verify(token)).status == 503
        assert "introspection_unavailable" in client.log_stream.getvalue()
        assert token not in client.log_stream.getvalue()


# What bounds it.


async def hold(_request: web.Request) -> web.Response:
    """Read the question, and say nothing."""
    await asyncio.sleep(30)
    return web.Response()


async def drip_head(request: web.Request) -> web.Response:
    transport = request.transport
    assert transport is not None
    transport.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not transport.is_closing():
        transport.write(b"x")
        await asyncio.sleep(0.02)
    return web.Response()


async def drip_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while request.transport is not None and not request.transport.is_closing():
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


@pytest.mark.parametrize("fault", [hold, drip_head, drip_body], ids=["silence", "head", "body"])
async def test_the_deadline_holds_against_an_issuer_that_says_nothing_or_drips(
    fault: Any, asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.fault = fault
    began = time.monotonic()
    assert (await outage(asking(deadline=SHORT))).detail == "no answer in time"
    assert time.monotonic() - began + 0.02 >= SHORT
    assert time.monotonic() - began < SOON


async def test_the_deadline_holds_where_a_connection_is_accepted_and_not_read(asking: Asking, silent_port: int) -> None:
    began = time.monotonic()
    url = f"http://127.0.0.1:{silent_port}/introspect"
    assert (await outage(asking(endpoint=FixedEndpoint(url), deadline=SHORT))).detail == "no answer in time"
    assert time.monotonic() - began < SOON


async def test_a_call_that_is_out_of_time_is_over_where_the_exchange_has_the_same_deadline(
    issuer: FakeIssuer, secret_file: Path
) -> None:
    """Both end in one turn of the loop, as it stands still meanwhile. The issuer would be asked once more, and each
    token wait twice as long."""
    asked: list[str] = []

    async def silent(request: web.Request) -> web.Response:
        asked.append((await form(request))["token"])
        await asyncio.sleep(10 * SHORT)
        return web.Response(status=500)

    issuer.fault = silent
    tokens = [f"{ASKED}-{number}" for number in range(32)]
    async with open_session(per_host=0) as session:
        introspection = HttpIntrospector(
            http=HttpClient(session, SHORT),
            issuer=ISSUER,
            endpoint=FixedEndpoint(f"{issuer.url}/introspect"),
            access=Access(),
            client=Client(Auth.BASIC, "verifier", secret_file),
            limits=CallLimits(SHORT, len(tokens)),
        )
        asyncio.get_running_loop().call_later(SHORT / 2, time.sleep, SHORT)
        await asyncio.gather(*(outage(introspection, token) for token in tokens))
        await introspection.stop()
    assert len([token for token in asked if token not in tokens]) <= 1


async def test_the_deadline_covers_discovery(asking: Asking, http: HttpClient, silent_port: int) -> None:
    began = time.monotonic()
    endpoint = found_by(http, f"http://127.0.0.1:{silent_port}")
    assert (await outage(asking(endpoint=endpoint, deadline=SHORT))).detail == "no answer in time"
    assert time.monotonic() - began < SOON


async def test_no_more_calls_are_under_way_than_permitted(asking: Asking, issuer: FakeIssuer) -> None:
    under_way, most = 0, 0

    async def count(_request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return web.json_response({"active": False})

    issuer.fault = count
    introspection = asking(max_calls=3)
    await asyncio.gather(*(introspection.ask("opaque") for _ in range(20)))
    assert (most, len(issuer.requests)) == (3, 20)


async def test_a_call_that_gets_no_turn_in_time_is_told_so_and_not_sent(asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = hold
    introspection = asking(deadline=SHORT, max_calls=2)
    began = time.monotonic()
    refusals = await asyncio.gather(*(outage(introspection) for _ in range(3)))
    assert time.monotonic() - began < SOON
    assert {refusal.detail for refusal in refusals} == {"no answer in time"}
    assert len(issuer.requests) == 2


async def test_those_in_flight_are_those_that_have_a_turn(asking: Asking, issuer: FakeIssuer) -> None:
    """However they end."""
    issuer.fault = hold
    introspection = asking(max_calls=2)
    calls = [asyncio.create_task(introspection.ask("opaque")) for _ in range(3)]
    await eventually(lambda: len(issuer.requests) == 2)
    assert introspection.in_flight == 2
    issuer.fault = None
    calls[0].cancel()
    await calls[2]
    assert introspection.in_flight == 1
    calls[1].cancel()
    await asyncio.wait(calls)
    assert introspection.in_flight == 0


async def test_a_call_that_fails_gives_its_turn_to_the_next(asking: Asking, issuer: FakeIssuer) -> None:
    introspection = asking(max_calls=1)
    issuer.fault = lambda _: web.Response(status=500)
    await outage(introspection)
    issuer.fault = None
    assert await introspection.ask("opaque") == {"active": False}


async def test_a_caller_that_gives_up_gives_its_turn_to_the_next(asking: Asking, issuer: FakeIssuer) -> None:
    introspection = asking(max_calls=1)
    issuer.fault = hold
    quitter = asyncio.create_task(introspection.ask("one"))
    await eventually(lambda: issuer.requests)
    issuer.fault = None
    stayer = asyncio.create_task(introspection.ask("two"))
    quitter.cancel()
    assert await stayer == {"active": False}


async def test_calls_at_once_never_swap_answers(asking: Asking, issuer: FakeIssuer) -> None:
    number, arrived = 40, asyncio.Event()
    turns: list[str] = []

    async def backwards(request: web.Request) -> web.Response:
        token = (await form(request))["token"]
        turns.append(token)
        if len(turns) == number:
            arrived.set()
        await arrived.wait()
        await asyncio.sleep(0.001 * (number - turns.index(token)))
        return web.json_response({"active": True, "sub": token})

    issuer.fault = backwards
    introspection, tokens = asking(), [secrets.token_urlsafe() for _ in range(number)]
    answers = await asyncio.gather(*(introspection.ask(token) for token in tokens))
    assert [answer["sub"] for answer in answers] == tokens


async def test_what_is_left_of_an_answer_is_not_the_next_one(asking: Asking, issuer: FakeIssuer) -> None:
    surplus = HEAD + b'Content-Length: 16\r\n\r\n{"active":false}' + HEAD + b'Content-Length: 15\r\n\r\n{"active":true}'
    introspection = asking()
    issuer.fault = lambda request: raw(request, surplus)
    assert await introspection.ask("one") == {"active": False}
    issuer.fault = None
    assert await introspection.ask("two") == {"active": False}


async def test_an_answer_to_a_caller_that_gave_up_is_not_the_next_one(asking: Asking, issuer: FakeIssuer) -> None:
    release = asyncio.Event()

    async def late(request: web.Request) -> web.Response:
        token = (await form(request))["token"]
        if token == "one":
            await release.wait()
        return web.json_response({"active": True, "sub": token})

    issuer.fault = late
    introspection = asking()
    quitter = asyncio.create_task(introspection.ask("one"))
    await eventually(lambda: issuer.requests)
    quitter.cancel()
    stayer = asyncio.create_task(introspection.ask("two"))
    release.set()
    assert (await stayer)["sub"] == "two"


# When it is not asked at all.


async def fail(introspection: HttpIntrospector, issuer: FakeIssuer, times: int = FAILURES) -> None:
    issuer.fault = lambda _: web.Response(status=500)
    for _ in range(times):
        await outage(introspection)


async def test_after_some_failures_in_a_row_the_issuer_is_not_asked(asking: Asking, issuer: FakeIssuer) -> None:
    introspection = asking(clock=[1000.0])
    await fail(introspection, issuer)
    refusal = await outage(introspection)
    assert (refusal.detail, refusal.retry_after) == ("the issuer did not answer lately", PAUSE)
    assert len(issuer.requests) == 2 * FAILURES  # each time about a made-up token too


async def test_before_that_it_is_asked(asking: Asking, issuer: FakeIssuer) -> None:
    introspection = asking(clock=[1000.0])
    await fail(introspection, issuer, FAILURES - 1)
    issuer.fault = None
    assert await introspection.ask("opaque") == {"active": False}


async def test_whether_it_is_asked_can_be_seen(asking: Asking, issuer: FakeIssuer) -> None:
    introspection, seen = asking(clock=[1000.0]), []
    for _ in range(FAILURES):
        seen.append(introspection.breaker_is_open)
        await fail(introspection, issuer, 1)
    assert (seen, introspection.breaker_is_open) == ([False] * FAILURES, True)


async def test_failures_with_an_answer_between_them_are_not_in_a_row(asking: Asking, issuer: FakeIssuer) -> None:
    introspection = asking(clock=[1000.0])
    for _ in range(3):
        await fail(introspection, issuer, FAILURES - 1)
        issuer.fault = None
        await introspection.ask("opaque")
    assert not introspection.breaker_is_open


async def test_tokens_that_the_issuer_calls_bad_never_keep_it_from_being_asked(
    asking: Asking, issuer: FakeIssuer
) -> None:
    issuer.fault = lambda _: web.json_response({"error": "invalid_request"}, status=400)
    introspection = asking(clock=[1000.0])
    for _ in range(FAILURES * 2):
        await introspection.ask("opaque")
    assert not introspection.breaker_is_open


async def test_calls_that_ran_out_of_time_are_failures_too(asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = hold
    introspection = asking(deadline=SHORT)
    await asyncio.gather(*(outage(introspection) for _ in range(FAILURES)))
    await eventually(lambda: introspection.breaker_is_open)


async def test_a_token_that_alone_takes_too_long_is_no_failure_of_the_issuer(
    asking: Asking, issuer: FakeIssuer
) -> None:
    async def slow(request: web.Request) -> web.Response:
        if (await form(request))["token"].startswith("slow"):
            await asyncio.sleep(5.0)
        return web.json_response({"active": False})

    issuer.fault = slow
    introspection = asking(deadline=SHORT)
    for _ in range(2):
        await asyncio.gather(*(outage(introspection, f"slow{n}") for n in range(FAILURES)))
    assert await introspection.ask("opaque") == {"active": False}
    assert not introspection.breaker_is_open


async def test_calls_that_got_their_turn_late_are_no_failures_of_the_issuer(asking: Asking, issuer: FakeIssuer) -> None:
    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(1.0)
        return web.json_response({"active": False})

    issuer.fault = slow
    introspection = asking(max_calls=FAILURES, deadline=1.7)
    found = await asyncio.gather(*(introspection.ask("opaque") for _ in range(2 * FAILURES)), return_exceptions=True)
    assert [isinstance(one, SourceUnavailable) for one in found] == [False] * FAILURES + [True] * FAILURES
    assert not introspection.breaker_is_open


async def test_calls_that_got_no_turn_are_no_failures_of_the_issuer(asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = hold
    introspection = asking(deadline=SHORT, max_calls=1)
    await asyncio.gather(*(outage(introspection) for _ in range(FAILURES * 2)))
    assert not introspection.breaker_is_open


async def test_a_caller_that_gives_up_is_no_failure_of_the_issuer(asking: Asking, issuer: FakeIssuer) -> None:
    issuer.fault = hold
    introspection = asking()
    callers = [asyncio.create_task(introspection.ask("opaque")) for _ in range(FAILURES * 2)]
    await eventually(lambda: len(issuer.requests) == len(callers))
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert not introspection.breaker_is_open


async def test_after_a_pause_one_of_many_callers_asks(asking: Asking, issuer: FakeIssuer) -> None:
    clock = [1000.0]
    introspection = asking(clock=clock)
    await fail(introspection, issuer)
    clock[0] += PAUSE
    await asyncio.gather(*(outage(introspection) for _ in range(10)))
    assert len(issuer.requests) == 2 * (FAILURES + 1)


async def test_a_probe_that_fails_begins_another_pause(asking: Asking, issuer: FakeIssuer) -> None:
    clock = [1000.0]
    introspection = asking(clock=clock)
    await fail(introspection, issuer)
    clock[0] += PAUSE
    await outage(introspection)
    clock[0] += PAUSE - 0.001
    await outage(introspection)
    assert len(issuer.requests) == 2 * (FAILURES + 1)


async def test_a_probe_that_is_answered_ends_it(asking: Asking, issuer: FakeIssuer) -> None:
    clock = [1000.0]
    introspection = asking(clock=clock)
    await fail(introspection, issuer)
    issuer.fault = None
    clock[0] += PAUSE
    await introspection.ask("opaque")
    assert not introspection.breaker_is_open
    await asyncio.gather(*(introspection.ask("opaque") for _ in range(10)))
    assert issuer.introspections == 11


async def test_a_probe_whose_caller_gave_up_does_not_keep_the_next_from_asking(
    asking: Asking, issuer: FakeIssuer
) -> None:
    clock = [1000.0]
    introspection = asking(clock=clock)
    await fail(introspection, issuer)
    clock[0] += PAUSE
    issuer.fault = hold
    quitter = asyncio.create_task(introspection.ask("opaque"))
    await eventually(lambda: len(issuer.requests) == 2 * FAILURES + 1)
    quitter.cancel()
    issuer.fault = None
    clock[0] += PAUSE
    assert await introspection.ask("opaque") == {"active": False}


# Where it is asked.


async def test_a_fixed_endpoint_is_asked_without_metadata(asking: Asking, issuer: FakeIssuer) -> None:
    await asking(endpoint=FixedEndpoint(f"{issuer.url}/introspect")).ask("opaque")
    assert [request.path for request in issuer.requests] == ["/introspect"]


async def test_a_discovered_endpoint_is_the_one_in_the_metadata(
    asking: Asking, http: HttpClient, issuer: FakeIssuer
) -> None:
    await asking(endpoint=found_by(http, issuer.url)).ask("opaque")
    assert [request.path for request in issuer.requests] == ["/.well-known/openid-configuration", "/introspect"]


async def test_metadata_is_asked_for_without_token_and_secret(
    asking: Asking, http: HttpClient, issuer: FakeIssuer, secret_file: Path, token: str
) -> None:
    await asking(Auth.BEARER, endpoint=found_by(http, issuer.url)).ask(token)
    asked = f"{issuer.requests[0].raw_path} {issuer.requests[0].headers}"
    assert token not in asked
    assert held(secret_file) not in asked


async def test_an_endpoint_is_discovered_once_an_hour(asking: Asking, http: HttpClient, issuer: FakeIssuer) -> None:
    now, discoveries = [1000.0], []
    introspection = asking(endpoint=found_by(http, issuer.url, clock=lambda: now[0]))
    for now[0] in (1000.0, 4600.0, 4601.0, 8201.0):
        await introspection.ask("opaque")
        discoveries.append(issuer.discoveries)
    assert discoveries == [1, 1, 2, 2]


async def test_an_endpoint_that_moved_is_asked_at_its_new_place(
    asking: Asking, http: HttpClient, issuer: FakeIssuer
) -> None:
    now, place = [1000.0], ["one"]

    def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"issuer": issuer.url, "introspection_endpoint": f"{issuer.url}/{place[0]}"})
        return web.json_response({"active": request.path == f"/{place[0]}"})

    issuer.fault = answer
    introspection = asking(endpoint=found_by(http, issuer.url, clock=lambda: now[0]))
    await introspection.ask("opaque")
    now[0], place[0] = 4601.0, "two"
    assert await introspection.ask("opaque") == {"active": True}


async def test_an_endpoint_where_nobody_answers_is_looked_up_again(
    asking: Asking, http: HttpClient, issuer: FakeIssuer
) -> None:
    place = ["one"]

    def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"issuer": issuer.url, "introspection_endpoint": f"{issuer.url}/{place[0]}"})
        return web.json_response({"active": True}) if request.path == f"/{place[0]}" else web.Response(status=502)

    issuer.fault = answer
    introspection = asking(endpoint=found_by(http, issuer.url))
    await introspection.ask("opaque")
    place[0] = "two"
    await outage(introspection)
    assert await introspection.ask("opaque") == {"active": True}


async def test_many_first_calls_look_an_endpoint_up_once(asking: Asking, http: HttpClient, issuer: FakeIssuer) -> None:
    introspection = asking(endpoint=found_by(http, issuer.url))
    await asyncio.gather(*(introspection.ask("opaque") for _ in range(10)))
    assert issuer.discoveries == 1


async def test_metadata_that_cannot_be_had_is_an_outage_and_asked_for_again(
    asking: Asking, http: HttpClient, issuer: FakeIssuer
) -> None:
    introspection = asking(endpoint=found_by(http, issuer.url))
    issuer.fault = lambda _: web.Response(status=404)
    assert "openid-configuration: answered 404" in (await outage(introspection)).detail
    issuer.fault = None
    assert await introspection.ask("opaque") == {"active": False}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"issuer": "{url}"}, "no introspection_endpoint"),
        ({"issuer": "{url}", "introspection_endpoint": "/introspect"}, "no introspection_endpoint"),
        ({"issuer": "{url}", "introspection_endpoint": "http://issuer.example/"}, "expected an https address"),
        ({"issuer": "https://evil.example", "introspection_endpoint": "{url}/introspect"}, "its issuer is"),
    ],
)
async def test_metadata_that_names_no_fit_endpoint_sends_the_token_nowhere(
    document: dict[str, str], said: str, asking: Asking, http: HttpClient, issuer: FakeIssuer
) -> None:
    text = json.dumps(document).replace("{url}", issuer.url)
    issuer.fault = lambda _: web.Response(text=text)
    assert said in (await outage(asking(endpoint=found_by(http, issuer.url)))).detail
    assert {request.method for request in issuer.requests} == {"GET"}
