"""What of ingress-nginx is its own: entries that other hosts of the controller meet too, and annotations that change
what is asked, or whether anybody is asked."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from tests.e2e.gateways.ingress_nginx import IngressNginx
from tests.e2e.gateways.peers import request
from tests.e2e.gateways.scene import Scene, nobody_passed, scene

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    IngressNginx.require()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(IngressNginx, tmp_path_factory.mktemp("ingress")) as running:
        yield running


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://private.example/x", "public.example"),
        ("http://private.example/x", "private.example.public.example"),
        ("http://private.example:80/x", "public.example"),
        ("http://private.example/x", ""),
        ("http://private.example?x", "private.example"),
    ],
)
def test_a_request_for_one_host_is_not_judged_as_one_for_another(made: Scene, target: str, host: str) -> None:
    seen = made.send(request(target, token="reader", host=host))
    assert (seen.answer.status, len(seen.asked), len(seen.got)) == (400, 0, 0)


@pytest.mark.parametrize("host", ["api.example", "API.example", "api.example:8443", "api.example.", "[::1]:80"])
def test_one_host_is_no_two_hosts(made: Scene, host: str) -> None:
    for target in ("/pets", f"http://{host}/pets"):
        seen = made.send(request(target, token="reader", host=host))
        assert seen.answer.status == 200
        assert made.gateway.told_host(seen.asked[0]) == seen.got[0].values("Host")[0] == host


class _NoSnippets(IngressNginx):
    entries: ClassVar[Mapping[str, str]] = {"server-snippet": ""}


def test_without_the_server_snippet_another_host_is_told_than_the_one_that_is_asked(tmp_path: Path) -> None:
    with scene(_NoSnippets, tmp_path) as made:
        seen = made.send(request("http://private.example/x", token="reader"))
        assert [made.gateway.told_host(one) for one in seen.asked] == ["api.example"]


def test_a_websocket_passes(made: Scene) -> None:
    seen = made.send(request("/pets", "Upgrade: websocket", token="reader", connection="Upgrade, close"))
    assert seen.got[0].values("Upgrade") == ["websocket"]


class _AnyOfBoth(IngressNginx):
    annotations: ClassVar[Mapping[str, str]] = {"satisfy": "any", "whitelist-source-range": "127.0.0.0/8"}

    def asks(self) -> bool:
        return self.answers(200)


def test_satisfy_any_lets_whoever_is_on_the_list_pass_unasked(tmp_path: Path) -> None:
    with scene(_AnyOfBoth, tmp_path) as made:
        seen = made.send(request("/pets", "X-Auth-Subject: mallory"))
        assert (seen.answer.status, len(seen.asked), len(seen.got)) == (200, 0, 1)
        assert seen.got[0].values("X-Auth-Subject") == []


class _Rewriting(IngressNginx):
    annotations: ClassVar[Mapping[str, str]] = {"rewrite-target": "/app"}


def test_with_a_rewrite_the_path_before_it_is_judged(tmp_path: Path) -> None:
    with scene(_Rewriting, tmp_path) as made:
        seen = made.send(request("/pets", token="reader"))
        assert [made.gateway.told(one) for one in seen.asked] == ["/pets"]
        assert [one.target for one in seen.got] == ["/app"]


class _Preflights(IngressNginx):
    annotations: ClassVar[Mapping[str, str]] = {"enable-cors": "true"}


def test_with_cors_the_gateway_answers_options_itself(tmp_path: Path) -> None:
    with scene(_Preflights, tmp_path) as made:
        seen = made.send(request(method="OPTIONS"))
        assert (seen.answer.status, len(seen.asked), len(seen.got)) == (204, 0, 0)
        assert not made.send(request(token="forged")).got


class _ErrorPages(IngressNginx):
    annotations: ClassVar[Mapping[str, str]] = {"custom-http-errors": "401,403,500"}

    def asks(self) -> bool:
        return self.answers(200)


@pytest.mark.parametrize(("token", "challenged"), [("forged", True), ("admin", False), ("partner", False)])
def test_with_error_pages_the_status_is_that_of_the_page_and_it_gets_what_the_client_sent(
    tmp_path: Path, token: str, challenged: bool
) -> None:
    with scene(_ErrorPages, tmp_path) as made:
        seen = made.send(request("/pets", "X-Auth-Subject: mallory", token=token))
        assert (seen.answer.status, bool(seen.answer.values("WWW-Authenticate"))) == (200, challenged)
        assert [(one.target, one.values("X-Auth-Subject")) for one in seen.got] == [("/", ["mallory"])]


class _SmallBuffers(IngressNginx):
    annotations: ClassVar[Mapping[str, str]] = {"proxy-buffer-size": "4k"}


def test_all_that_the_verifier_may_say_of_somebody_needs_larger_buffers(made: Scene, tmp_path: Path) -> None:
    assert made.let_pass_rightly(made.send(request(token="long")))
    with scene(_SmallBuffers, tmp_path) as small:
        assert nobody_passed(small.send(request(token="long")), 500)
