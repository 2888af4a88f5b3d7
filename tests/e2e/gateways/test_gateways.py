"""Every gateway, with the configuration that is handed out: who passes, what arrives, and what when nobody decides."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateways.findings import PAGE
from tests.e2e.gateways.gateways import Gateway, HAProxy, Traefik
from tests.e2e.gateways.peers import parse, request
from tests.e2e.gateways.scene import EVERY_FORM, TARGETS, Scene, identity, nobody_passed, scene
from tests.gateway_table import IDENTITY, ODD_NAMES, TABLE

pytestmark = pytest.mark.e2e


#: Each identity header says something for one of these.
SAYING_ALL = ("writer", "wordy")


@pytest.fixture(scope="module")
def made(kind: type[Gateway], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(kind, tmp_path_factory.mktemp(kind.name), path_forms=EVERY_FORM) as running:
        yield running


def test_a_good_token_passes_with_the_identity(made: Scene) -> None:
    seen = made.send(sent := request(token="writer"))
    assert made.let_pass_rightly(seen)
    assert identity(seen.got[0])["X-Auth-Subject"] == ["alice"]
    [asked] = seen.asked
    assert asked.values("Authorization") == seen.got[0].values("Authorization") == parse(sent).values("Authorization")


def test_every_identity_that_the_client_could_send_at_once_does_not_arrive(made: Scene) -> None:
    posed = [f"{name}: {value}" for row in TABLE for name, value in row.headers if value == "mallory"]
    assert len(posed) > 5 * len(IDENTITY)
    for token in SAYING_ALL:
        seen = made.send(request("/pets", *posed, token=token))
        assert made.let_pass_rightly(seen) or nobody_passed(seen, 400)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_that_some_applications_take_for_others_do_not_arrive(made: Scene, name: str) -> None:
    """But where the page says so."""
    seen = made.send(request("/pets", f"{name}: root", token="reader"))
    assert any(got.values(name) for got in seen.got) == made.gateway.hands_on_odd_names


@pytest.mark.parametrize("name", IDENTITY)
def test_the_client_cannot_have_the_identity_taken_away(made: Scene, name: str) -> None:
    for token in SAYING_ALL:
        assert made.let_pass_rightly(made.send(request("/pets", token=token, connection=f"close, {name}")))


@pytest.mark.parametrize("name", ["Authorization", "X-Forwarded-Uri", "X-Original-URL", "X-Request-Id", "Host"])
def test_the_client_cannot_have_the_question_changed(made: Scene, name: str) -> None:
    seen = made.send(request("/pets", token="writer", connection=f"close, {name}"))
    if seen.answer.status == 400:
        assert not seen.got
        return
    assert [made.gateway.told(one) for one in seen.asked] == ["/pets"]
    if not seen.asked[0].values("Authorization"):
        assert nobody_passed(seen, 401)
    else:
        assert made.let_pass_rightly(seen)


def test_what_the_client_says_of_the_request_is_not_believed(made: Scene) -> None:
    lies = [
        *("X-Forwarded-Uri: /lie", "X-Forwarded-Method: LIE", "X-Forwarded-Host: lie", "X-Forwarded-Proto: lie"),
        *("X-Original-URL: http://lie/lie", "X-Original-Method: LIE", "X-Original-URI: /lie"),
        *("X_Forwarded_Uri: /lie", "X_Original_URL: http://lie/lie", "X-Envoy-Original-Path: /lie"),
    ]
    asked = made.send(request("/pets", *lies, token="writer")).asked[0]
    told = (made.gateway.told_method(asked), made.gateway.told_host(asked), made.gateway.told(asked))
    assert told == ("GET", "api.example", "/pets")


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "DELETE", "PURGE"])
def test_the_method_is_told(made: Scene, method: str) -> None:
    seen = made.send(request("/pets", "Content-Length: 0", token="writer", method=method))
    assert [made.gateway.told_method(one) for one in seen.asked] == [method]
    assert [one.first[0] for one in seen.got] == [method]


def test_a_body_goes_to_the_application_alone(made: Scene) -> None:
    seen = made.send(request("/pets", "Content-Length: 4", token="writer", method="POST") + b"body")
    assert [one.body for one in seen.got] == [b"body"]
    assert seen.asked[0].values("Content-Length") in ([], ["0"])
    assert seen.asked[0].values("Transfer-Encoding") == []


def upgrade(protocol: str) -> bytes:
    headers = (f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAAQAAP__")
    return request("/pets", *headers, token="writer", connection="Upgrade, HTTP2-Settings, close")


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "websocket, h2c", "h2c, websocket"])
def test_the_connection_is_not_handed_over_to_the_application(made: Scene, protocol: str) -> None:
    for got in made.send(upgrade(protocol)).got:
        assert "h2c" not in "".join(got.values("Upgrade")).lower()


def test_the_verifier_is_not_asked_for_another_protocol(made: Scene) -> None:
    for asked in made.send(upgrade("websocket")).asked:
        assert asked.values("Upgrade") == []


def test_the_request_id_is_passed_to_both(made: Scene) -> None:
    seen = made.send(request("/pets", "X-Request-Id: 4711", token="writer"))
    assert seen.asked[0].values("X-Request-Id") == seen.got[0].values("X-Request-Id") == ["4711"]


def test_a_request_without_an_id_gets_one(made: Scene) -> None:
    seen = made.send(request("/pets", token="writer"))
    ids = seen.asked[0].values("X-Request-Id")
    assert ids == seen.got[0].values("X-Request-Id")
    assert len(ids) == (0 if isinstance(made.gateway, Traefik) else 1)  # Traefik makes none


@pytest.mark.parametrize(
    ("token", "status", "challenge"),
    [
        (None, 401, 'Bearer realm="verifier"'),
        ("forged", 401, 'Bearer realm="verifier", error="invalid_token", error_description="[^"]+"'),
        (
            "admin",
            403,
            'Bearer realm="verifier", error="insufficient_scope", error_description="[^"]+", scope="read"',
        ),
    ],
)
def test_a_denial_reaches_the_client_with_its_challenge(
    made: Scene, token: str | None, status: int, challenge: str
) -> None:
    seen = made.send(request(token=token))
    assert nobody_passed(seen, status)
    [said] = seen.answer.values("WWW-Authenticate")
    assert re.fullmatch(challenge, said)


@pytest.mark.parametrize("target", TARGETS)
def test_the_verifier_judges_what_the_application_gets(made: Scene, target: str) -> None:
    seen = made.send(request(target, token="writer"))
    if seen.answer.status == 200:
        [asked], [got] = seen.asked, seen.got
        assert (made.gateway.told(asked), [made.gateway.told_host(asked)]) == (got.target, got.values("Host"))
    else:
        assert not seen.got


def test_the_findings_are_as_written_down(made: Scene) -> None:
    section = PAGE.read_text().partition(f"## {made.gateway.name}\n\n")[2].partition("\n\n")[0]
    assert section.splitlines() == list(made.findings())


def test_the_verifier_cannot_be_reached_through_it(made: Scene) -> None:
    for target in ("/_verifier", "/auth-request", "/forward-auth", "/ext-authz/x"):
        seen = made.send(request(target, token="writer"))
        if made.gateway.name == "nginx" and target == "/_verifier":
            assert nobody_passed(seen, 404)
            assert not seen.asked
        else:
            assert [one.target for one in seen.got] == [target]


class _BrokenScript(HAProxy):
    def render(self) -> None:
        super().render()
        script = self.folder / "verifier.lua"
        script.write_text(script.read_text().replace("local from = ", 'error("broken")\n    local from = ', 1))

    def asks(self) -> bool:
        return self.answers(503)


def test_nobody_passes_haproxy_when_its_script_breaks(tmp_path: Path) -> None:
    _BrokenScript.require()
    with scene(_BrokenScript, tmp_path) as made:
        assert nobody_passed(made.send(request(token="writer")), 503)
        assert "broken" in made.gateway.output()


@pytest.mark.parametrize("kilobytes", [8, 16, 18, 20, 22, 24, 30])
def test_the_identity_arrives_whole_or_nothing_does(made: Scene, kilobytes: int) -> None:
    """However little room the client's own headers leave for it."""
    fillers = (f"X-Filler-{number}: {'a' * 1_000}" for number in range(kilobytes))
    seen = made.send(request("/pets", *fillers, token="long"))
    if seen.answer.status == 200:
        assert made.let_pass_rightly(seen)
    else:
        assert seen.answer.status in {400, 431}
        assert not seen.got
