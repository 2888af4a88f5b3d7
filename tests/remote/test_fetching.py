"""Fetching from an issuer over real HTTP that answers as the test says."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support import FakeIssuer, fake_issuer, private_key, public_jwk
from tests.tls import authority, certificate
from verifier.core.keys import load_jwks
from verifier.ports import SourceUnavailable
from verifier.remote import http
from verifier.remote.http import Access, HttpClient, may_fetch, open_session
from verifier.remote.metadata import discover, locations
from verifier.remote.origins import Discovered, Fetched, JwksUri, jwks_file, pem_files, secret_file

ANY = Access()
KEYS = {"keys": [public_jwk(private_key("EdDSA"))]}


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with open_session() as session:
        yield HttpClient(session, deadline=0.5, connect=0.3)


async def refused(client: HttpClient, url: str, access: Access = ANY) -> SourceUnavailable:
    with pytest.raises(SourceUnavailable) as refusal:
        await client.get(url, access)
    return refusal.value


@pytest.mark.parametrize(
    ("url", "insecure", "allowed"),
    [
        ("https://issuer.example/jwks", False, True),
        ("http://issuer.example/jwks", False, False),
        ("http://issuer.example/jwks", True, True),
        ("http://127.0.0.1:8081", False, True),
        ("http://[::1]:8081", False, True),
        ("http://localhost/", False, True),
        ("http://127.0.0.1.example/", False, False),
        ("http://localhost.example/", False, False),
        ("file:///etc/passwd", True, False),
        ("ftp://issuer.example", True, False),
        ("https://", False, False),
        ("https://bob:secret@issuer.example/jwks", False, False),
        ("https://[bad", False, False),
        ("", True, False),
    ],
)
def test_keys_come_over_tls_or_loopback_unless_it_was_permitted(url: str, insecure: bool, allowed: bool) -> None:
    assert may_fetch(url, insecure_http=insecure) is allowed


async def test_plain_http_is_refused_before_anything_is_sent(client: HttpClient) -> None:
    assert "expected an https address" in (await refused(client, "http://issuer.example/jwks")).detail


async def test_a_variable_of_the_environment_does_not_permit_plain_http(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    assert "expected an https address" in (await refused(client, "http://issuer.example/jwks")).detail


async def test_a_redirect_is_not_followed(client: HttpClient, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(status=302, headers={"Location": f"{issuer.url}/other"})
    assert "answered 302" in (await refused(client, f"{issuer.url}/jwks")).detail
    assert [request.path for request in issuer.requests] == ["/jwks"]


@pytest.mark.parametrize("status", [201, 204, 400, 403, 404, 429, 500, 503])
async def test_any_status_but_200_is_no_document(status: int, client: HttpClient, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(status=status)
    assert f"answered {status}" in (await refused(client, f"{issuer.url}/jwks")).detail


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("17", 17.0), ("0", 1.0), ("86400", 300.0), ("soon", 1.0), ("-5", 1.0), ("²", 1.0), ("", 1.0)],
)
async def test_retry_after_is_taken_within_bounds(
    value: str, seconds: float, client: HttpClient, issuer: FakeIssuer
) -> None:
    issuer.fault = lambda _: web.Response(status=503, headers={"Retry-After": value})
    assert (await refused(client, f"{issuer.url}/jwks")).retry_after == seconds


async def test_retry_after_may_be_a_date(client: HttpClient, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(
        status=503, headers={"Retry-After": formatdate(time.time() + 60, usegmt=True)}
    )
    assert 50 < (await refused(client, f"{issuer.url}/jwks")).retry_after <= 60


async def test_a_document_larger_than_the_limit_is_refused(
    client: HttpClient, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.fault = lambda _: web.Response(body=b" " * (http.MAX_BYTES + 1))
    assert "larger" in (await refused(client, f"{issuer.url}/jwks")).detail


async def test_a_compressed_document_is_refused_and_never_asked_for(client: HttpClient, issuer: FakeIssuer) -> None:
    def zipped(_request: web.Request) -> web.Response:
        return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})

    issuer.fault = zipped
    assert "compressed" in (await refused(client, f"{issuer.url}/jwks")).detail
    assert issuer.requests[0].headers["Accept-Encoding"] == "identity"


async def test_an_issuer_that_accepts_and_says_nothing_is_given_up(client: HttpClient, issuer: FakeIssuer) -> None:
    async def silent(_request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return web.Response()

    issuer.fault = silent
    assert "no answer in time" in (await refused(client, f"{issuer.url}/jwks")).detail


async def test_an_issuer_that_trickles_is_given_up(client: HttpClient, issuer: FakeIssuer) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(40):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    issuer.fault = trickle
    assert "no answer in time" in (await refused(client, f"{issuer.url}/jwks")).detail


async def test_an_address_where_nobody_listens_is_unavailable(client: HttpClient) -> None:
    assert "http://127.0.0.1:1/jwks" in (await refused(client, "http://127.0.0.1:1/jwks")).detail


async def test_cookies_of_an_issuer_are_not_kept(client: HttpClient, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(text="{}", headers={"Set-Cookie": "a=b"})
    for _ in range(2):
        await client.get(f"{issuer.url}/jwks", ANY)
    assert "Cookie" not in issuer.requests[1].headers


async def test_a_bearer_token_is_read_anew_for_each_fetch(
    client: HttpClient, issuer: FakeIssuer, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    for value in ("one", "two"):
        path.write_text(f"{value}\n")
        await client.get(f"{issuer.url}/jwks", Access(bearer_file=path))
    assert [request.headers["Authorization"] for request in issuer.requests] == ["Bearer one", "Bearer two"]


async def test_a_bearer_token_is_not_for_another_host_that_metadata_names(
    client: HttpClient, issuer: FakeIssuer, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret")
    async with fake_issuer("EdDSA") as other:
        issuer.fault = lambda _: web.json_response({"issuer": issuer.url, "jwks_uri": f"{other.url}/jwks"})
        await Discovered(client, issuer.url, Access(bearer_file=tmp_path / "token")).fetch(None)
        assert "Authorization" in issuer.requests[0].headers
        assert "Authorization" not in other.requests[0].headers


async def test_a_proxy_of_the_environment_sees_nothing(
    client: HttpClient, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fake_issuer() as proxy, open_session() as session:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        await HttpClient(session).get(f"{issuer.url}/jwks", ANY)
        assert proxy.requests == []


async def test_an_etag_is_not_sent_to_another_address(client: HttpClient, issuer: FakeIssuer) -> None:
    now, place = [0.0], ["one"]

    def answer(request: web.Request) -> web.Response:
        if "openid" in request.path:
            return web.json_response({"issuer": issuer.url, "jwks_uri": f"{issuer.url}/{place[0]}"})
        if "If-None-Match" in request.headers:
            return web.Response(status=304)
        return web.json_response(KEYS if request.path == "/one" else {"keys": []}, headers={"ETag": '"same"'})

    issuer.fault = answer
    origin = Discovered(client, issuer.url, ANY, clock=lambda: now[0])
    first = await origin.fetch(None)
    now[0], place[0] = 3601.0, "two"
    assert (await origin.fetch(first)).keys.keys == ()


async def test_a_bearer_file_that_is_missing_makes_the_source_unavailable(
    client: HttpClient, issuer: FakeIssuer, tmp_path: Path
) -> None:
    assert "No such file" in (await refused(client, f"{issuer.url}/jwks", Access(bearer_file=tmp_path / "no"))).detail


async def test_an_issuer_behind_a_private_authority_is_fetched_with_its_ca_file_alone(
    client: HttpClient, tmp_path: Path
) -> None:
    ca = authority()
    ca_path = tmp_path / "ca.pem"
    ca_path.write_bytes(ca.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    chain = tmp_path / "server.pem"
    chain.write_bytes(certificate(ca, "localhost"))
    context.load_cert_chain(chain)
    app = web.Application()

    async def jwks(_request: web.Request) -> web.Response:
        return web.json_response(KEYS)

    app.router.add_get("/jwks", jwks)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://localhost:{runner.addresses[0][1]}/jwks"
    try:
        assert (await client.get(url, Access(ca_file=ca_path))).body
        expires = await http.certificate_expires(url, Access(ca_file=ca_path))
        assert expires is not None
        assert 0 < expires - time.time() < 2 * 86_400
        with pytest.raises(SourceUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await http.certificate_expires(url, ANY)
        assert "CERTIFICATE_VERIFY_FAILED" in (await refused(client, url)).detail
        by_address = url.replace("localhost", "127.0.0.1")
        assert "certificate" in (await refused(client, by_address, Access(ca_file=ca_path))).detail.lower()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        (
            "https://a.example",
            [
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ],
        ),
        (
            "https://a.example/t/1/",
            [
                "https://a.example/t/1/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/t/1",
                "https://a.example/t/1/.well-known/oauth-authorization-server",
            ],
        ),
    ],
)
def test_metadata_is_looked_for_as_openid_connect_and_then_as_rfc_8414(issuer: str, expected: list[str]) -> None:
    assert list(locations(issuer)) == expected


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_metadata_is_found_in_each_place(place: int, client: HttpClient, issuer: FakeIssuer) -> None:
    own = f"{issuer.url}/tenant"

    def answer(request: web.Request) -> web.Response:
        if str(request.url) == locations(own)[place]:
            return web.json_response({"issuer": own, "jwks_uri": f"{issuer.url}/jwks"})
        return web.Response(status=404)

    issuer.fault = answer
    assert await discover(client, own, ANY, "jwks_uri") == f"{issuer.url}/jwks"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"issuer": "{url}/", "jwks_uri": "{url}/jwks"}, "its issuer is"),
        ({"issuer": "https://evil.example", "jwks_uri": "{url}/jwks"}, "its issuer is"),
        ({"jwks_uri": "{url}/jwks"}, "its issuer is"),
        ({"issuer": "{url}"}, "no jwks_uri"),
        ({"issuer": "{url}", "jwks_uri": 1}, "no jwks_uri"),
        ({"issuer": "{url}", "jwks_uri": "/jwks"}, "no jwks_uri"),
        ({"issuer": "{url}", "jwks_uri": "http://issuer.example/jwks"}, "https"),
        ([], "not a JSON object"),
    ],
)
async def test_metadata_that_is_not_of_this_issuer_is_refused(
    document: Any, said: str, client: HttpClient, issuer: FakeIssuer
) -> None:
    text = json.dumps(document).replace("{url}", issuer.url)
    issuer.fault = lambda _: web.Response(text=text)
    with pytest.raises(SourceUnavailable, match=said):
        await discover(client, issuer.url, ANY, "jwks_uri")


@pytest.mark.parametrize("body", [b"", b"<html>sign in</html>", b'{"issuer":', b"\xff\xfe", b'{"a":1,"a":2}'])
async def test_a_page_that_is_no_metadata_is_refused(body: bytes, client: HttpClient, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(body=body)
    with pytest.raises(SourceUnavailable, match="openid-configuration"):
        await discover(client, issuer.url, ANY, "jwks_uri")


class Answers(HttpClient):
    """Answers every address with one document; stands in for hosts that cannot be had here."""

    def __init__(self, document: dict[str, str]) -> None:
        self.document = document
        self.asked: list[str] = []

    async def get(self, url: str, access: Access, etag: str | None = None) -> http.Reply:
        self.asked.append(url)
        return http.Reply(200, json.dumps(self.document).encode(), None, None, None)


async def test_metadata_served_over_tls_cannot_send_us_to_plain_http_even_on_loopback() -> None:
    answers = Answers({"issuer": "https://a.example", "jwks_uri": "http://127.0.0.1:9/jwks"})
    with pytest.raises(SourceUnavailable, match="from https to"):
        await discover(answers, "https://a.example", ANY, "jwks_uri")


async def test_plain_http_metadata_is_taken_where_it_was_permitted() -> None:
    document = {"issuer": "http://a.example", "jwks_uri": "http://a.example/jwks"}
    insecure = Access(insecure_http=True)
    assert await discover(Answers(document), "http://a.example", insecure, "jwks_uri") == document["jwks_uri"]
    with pytest.raises(SourceUnavailable, match="https"):
        await discover(Answers(document), "http://a.example", ANY, "jwks_uri")


async def test_metadata_of_many_tenants_is_asked_for_elsewhere_and_names_the_template() -> None:
    template = "https://login.example/{tenantid}/v2.0"
    answers = Answers({"issuer": template, "jwks_uri": "https://login.example/keys"})
    await discover(answers, template, ANY, "jwks_uri", base="https://login.example/common/v2.0")
    assert answers.asked == ["https://login.example/common/v2.0/.well-known/openid-configuration"]


async def test_keys_are_discovered_once_and_then_fetched(client: HttpClient, issuer: FakeIssuer) -> None:
    origin = Discovered(client, issuer.url, ANY)
    fetched = await origin.fetch(None)
    await origin.fetch(fetched)
    assert (issuer.discoveries, issuer.key_fetches, len(fetched.keys.keys)) == (1, 2, 1)


async def test_metadata_is_taken_again_after_a_failure(client: HttpClient, issuer: FakeIssuer) -> None:
    origin = Discovered(client, issuer.url, ANY)
    await origin.fetch(None)
    issuer.fault = lambda _: web.Response(status=404)
    with pytest.raises(SourceUnavailable):
        await origin.fetch(None)
    issuer.fault = None
    await origin.fetch(None)
    assert issuer.discoveries == 2


async def test_metadata_is_taken_again_after_its_time(client: HttpClient, issuer: FakeIssuer) -> None:
    now = [0.0]
    origin = Discovered(client, issuer.url, ANY, clock=lambda: now[0])
    await origin.fetch(None)
    now[0] = 3601.0
    await origin.fetch(None)
    assert issuer.discoveries == 2


async def test_an_etag_saves_the_transfer(client: HttpClient, issuer: FakeIssuer) -> None:
    def answer(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == '"v1"':
            return web.Response(status=304, headers={"Cache-Control": "max-age=90"})
        return web.json_response(KEYS, headers={"ETag": '"v1"', "Cache-Control": "max-age=30"})

    issuer.fault = answer
    origin = JwksUri(client, f"{issuer.url}/jwks", ANY)
    first = await origin.fetch(None)
    second = await origin.fetch(first)
    assert (second.keys is first.keys, first.max_age, second.max_age) == (True, 30.0, 90.0)


async def test_304_to_an_unconditional_request_is_no_answer(client: HttpClient, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(status=304)
    origin = JwksUri(client, f"{issuer.url}/jwks", ANY)
    for previous in (None, Fetched(load_jwks(KEYS))):
        with pytest.raises(SourceUnavailable, match="304"):
            await origin.fetch(previous)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60.0),
        ("public, MAX-AGE=5", 5.0),
        ("no-store", 0.0),
        ("no-cache, max-age=9", 0.0),
        ("private", None),
        ("", None),
        ("max-age=x", None),
        ('max-age="7"', 7.0),
    ],
)
async def test_cache_control_is_read(value: str, seconds: float | None, client: HttpClient, issuer: FakeIssuer) -> None:
    issuer.jwks_headers = {"Cache-Control": value}
    assert (await JwksUri(client, f"{issuer.url}/jwks", ANY).fetch(None)).max_age == seconds


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b'{"keys":[{"kty":"RS']
)
async def test_what_is_no_key_set_is_refused(body: bytes, client: HttpClient, issuer: FakeIssuer) -> None:
    issuer.fault = lambda _: web.Response(body=body)
    with pytest.raises(SourceUnavailable, match="jwks"):
        await JwksUri(client, f"{issuer.url}/jwks", ANY).fetch(None)


async def test_a_transfer_that_is_cut_off_is_refused(client: HttpClient, issuer: FakeIssuer) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"keys":[]}')
        assert request.transport is not None
        request.transport.abort()
        return response

    issuer.fault = cut
    with pytest.raises(SourceUnavailable):
        await JwksUri(client, f"{issuer.url}/jwks", ANY).fetch(None)


async def test_a_key_file_is_loaded_again_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(KEYS))
    origin = jwks_file(path)
    first = await origin.fetch(None)
    same = await origin.fetch(first)
    path.write_text(json.dumps({"keys": []}))
    changed = await origin.fetch(same)
    assert (same.keys is first.keys, len(changed.keys.keys)) == (True, 0)


async def test_a_key_file_that_is_missing_or_broken_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    with pytest.raises(SourceUnavailable, match=r"jwks\.json"):
        await jwks_file(path).fetch(None)
    path.write_text("{")
    with pytest.raises(SourceUnavailable, match=r"jwks\.json"):
        await jwks_file(path).fetch(None)


async def test_pem_files_and_a_secret_are_keys_too(tmp_path: Path) -> None:
    pem, secret = tmp_path / "key.pem", tmp_path / "secret"
    pem.write_bytes(private_key("ES256").as_pem(private=False))  # type: ignore[union-attr]
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    fetched: list[Fetched] = [await pem_files((pem,)).fetch(None), await secret_file(secret, ["HS256"]).fetch(None)]
    assert [found.keys.keys[0].type.kty for found in fetched] == ["EC", "oct"]


async def test_where_there_is_no_tls_no_certificate_ends() -> None:
    assert await http.certificate_expires("http://127.0.0.1:1/jwks", ANY) is None


def test_a_time_limit_is_described_in_words() -> None:
    assert http.describe(TimeoutError()) == "no answer in time"
    assert http.describe(aiohttp.ClientError()) == "ClientError"
