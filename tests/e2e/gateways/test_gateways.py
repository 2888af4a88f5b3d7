"""Every gateway, with the configuration that is handed out: who passes, what arrives, and what when nobody decides."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateways.findings import PAGE
from tests.e2e.gateways.gateways import GATEWAYS, Gateway, HAProxy, Nginx, Traefik
from tests.e2e.gateways.peers import Message, request
from tests.e2e.gateways.scene import TARGETS, Scene, Seen, scene
from tests.e2e.gateways.stub import BAD, IDENTITY, SHORT

pytestmark = pytest.mark.e2e

SPELLINGS = [
    changed
    for name in IDENTITY
    for changed in (name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", "_").lower())
] + ["X-Auth_Subject", "X_Auth-Subject", "x-auth-client_id", "X_AUTH-CLIENT-ID", "X-Auth_Client_Id"]


@pytest.fixture(scope="module", params=GATEWAYS, ids=lambda kind: kind.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    kind: type[Gateway] = request.param
    kind.require()
    with scene(kind, tmp_path_factory.mktemp(kind.name)) as running:
        yield running


def identity(got: Message) -> dict[str, list[str]]:
    """The identity headers as an application sees them that takes dashes and underscores for the same."""
    found: dict[str, list[str]] = {name: [] for name in IDENTITY}
    names = {name.lower(): name for name in IDENTITY}
    for name, value in got.headers:
        known = names.get(name.lower().replace("_", "-"))
        if known is not None and value:  # nginx takes an empty header away
            found[known].append(value)
    return found


OURS = {name: [value] if value else [] for name, value in IDENTITY.items()}


def nobody_passed(seen: Seen, status: int) -> bool:
    return (seen.answer.status, len(seen.got)) == (status, 0)


def test_a_good_token_passes_with_the_identity(made: Scene) -> None:
    seen = made.send(request(token="good"))
    assert (seen.answer.status, seen.answer.body) == (200, b"hello")
    assert len(seen.asked) == len(seen.got) == 1
    assert identity(seen.got[0]) == OURS
    assert seen.asked[0].values("Authorization") == seen.got[0].values("Authorization") == ["Bearer good"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_identity_that_the_client_sends_does_not_arrive(made: Scene, name: str) -> None:
    seen = made.send(request("/pets", f"{name}: mallory", f"{name}: eve", token="good"))
    if seen.answer.status != 400:
        assert identity(seen.got[0]) == OURS


def test_all_of_it_at_once_does_not_arrive(made: Scene) -> None:
    seen = made.send(request("/pets", *(f"{name}: mallory" for name in SPELLINGS), token="good"))
    assert identity(seen.got[0]) == OURS


@pytest.mark.parametrize("name", IDENTITY)
def test_the_client_cannot_have_the_identity_taken_away(made: Scene, name: str) -> None:
    sent = request("/pets", token="good").replace(b"Connection: close", f"Connection: close, {name}".encode())
    assert identity(made.send(sent).got[0]) == OURS


@pytest.mark.parametrize("name", ["Authorization", "X-Forwarded-Uri", "X-Original-URL", "X-Request-Id", "Host"])
def test_the_client_cannot_have_the_question_changed(made: Scene, name: str) -> None:
    sent = request("/pets", token="good").replace(b"Connection: close", f"Connection: close, {name}".encode())
    seen = made.send(sent)
    if seen.answer.status == 400:
        assert not seen.got
        return
    assert [made.gateway.told(one) for one in seen.asked] == ["/pets"]
    if not seen.asked[0].values("Authorization"):
        assert nobody_passed(seen, 401)
    else:
        assert identity(seen.got[0]) == OURS


def test_what_the_client_says_of_the_request_is_not_believed(made: Scene) -> None:
    lies = [
        *("X-Forwarded-Uri: /lie", "X-Forwarded-Method: LIE", "X-Forwarded-Host: lie", "X-Forwarded-Proto: lie"),
        *("X-Original-URL: http://lie/lie", "X-Original-Method: LIE", "X-Original-URI: /lie"),
        *("X_Forwarded_Uri: /lie", "X_Original_URL: http://lie/lie", "X-Envoy-Original-Path: /lie"),
    ]
    asked = made.send(request("/pets", *lies, token="good")).asked[0]
    told = (made.gateway.told_method(asked), made.gateway.told_host(asked), made.gateway.told(asked))
    assert told == ("GET", "api.example", "/pets")


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "DELETE", "PURGE"])
def test_the_method_is_told(made: Scene, method: str) -> None:
    seen = made.send(request("/pets", "Content-Length: 0", token="good", method=method))
    assert [made.gateway.told_method(one) for one in seen.asked] == [method]
    assert [one.first[0] for one in seen.got] == [method]


def test_a_body_goes_to_the_application_alone(made: Scene) -> None:
    seen = made.send(request("/pets", "Content-Length: 4", token="good", method="POST") + b"body")
    assert [one.body for one in seen.got] == [b"body"]
    assert seen.asked[0].values("Content-Length") in ([], ["0"])
    assert seen.asked[0].values("Transfer-Encoding") == []


def upgrade(protocol: str) -> bytes:
    sent = request("/pets", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAAQAAP__", token="good")
    return sent.replace(b"Connection: close", b"Connection: Upgrade, HTTP2-Settings, close")


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "websocket, h2c", "h2c, websocket"])
def test_the_connection_is_not_handed_over_to_the_application(made: Scene, protocol: str) -> None:
    for got in made.send(upgrade(protocol)).got:
        assert "h2c" not in "".join(got.values("Upgrade")).lower()


def test_the_verifier_is_not_asked_for_another_protocol(made: Scene) -> None:
    for asked in made.send(upgrade("websocket")).asked:
        assert asked.values("Upgrade") == []


def test_the_request_id_is_passed_to_both(made: Scene) -> None:
    seen = made.send(request("/pets", "X-Request-Id: 4711", token="good"))
    assert seen.asked[0].values("X-Request-Id") == seen.got[0].values("X-Request-Id") == ["4711"]


def test_a_request_without_an_id_gets_one(made: Scene) -> None:
    seen = made.send(request("/pets", token="good"))
    ids = seen.asked[0].values("X-Request-Id")
    assert ids == seen.got[0].values("X-Request-Id")
    assert len(ids) == (0 if isinstance(made.gateway, Traefik) else 1)  # Traefik makes none


@pytest.mark.parametrize(
    ("token", "status", "challenge"),
    [(None, 401, 'Bearer realm="api"'), ("bad", 401, BAD), ("short", 403, SHORT)],
)
def test_a_denial_reaches_the_client_with_its_challenge(
    made: Scene, token: str | None, status: int, challenge: str
) -> None:
    seen = made.send(request(token=token))
    assert nobody_passed(seen, status)
    assert seen.answer.values("WWW-Authenticate") == [challenge]


def test_two_authorization_headers_do_not_pass(made: Scene) -> None:
    seen = made.send(request("/pets", "Authorization: Bearer good", token="good"))
    assert seen.answer.status in {400, 401}
    assert not seen.got


def test_nobody_passes_when_the_verifier_cannot_decide(made: Scene) -> None:
    assert nobody_passed(made.send(request(token="undecided")), made.gateway.when_undecided)


def test_nobody_passes_when_the_verifier_is_slow_and_it_is_asked_once(made: Scene) -> None:
    seen = made.send(request(token="slow"))
    assert nobody_passed(seen, made.gateway.when_slow)
    assert 0.5 < seen.seconds < 2.5
    assert len(seen.asked) == 1


def test_a_connection_that_the_verifier_closed_meanwhile_is_no_denial(made: Scene) -> None:
    for _ in range(3):
        assert made.send(request(token="good")).answer.status == 200
        seen = made.send(request(token="kept"))
        assert (seen.answer.status, identity(seen.got[0])) == (200, OURS)


def test_nobody_passes_when_the_verifier_answers_nothing(made: Scene) -> None:
    with made.verifier.paused():
        answer, got, seconds = made.send_unasked(request(token="good"))
    assert (answer.status, got) == (made.gateway.when_slow, [])
    assert seconds < 2.5


def test_nobody_passes_when_the_verifier_is_dead_until_it_is_back(made: Scene) -> None:
    with made.verifier.dead():
        answer, got, seconds = made.send_unasked(request(token="good"))
    assert (answer.status, got) == (made.gateway.when_dead, [])
    assert seconds < 2.5
    assert made.send(request(token="good")).answer.status == 200


@pytest.mark.parametrize("target", TARGETS)
def test_the_verifier_judges_what_the_application_gets(made: Scene, target: str) -> None:
    seen = made.send(request(target, token="good"))
    if seen.answer.status == 200:
        [asked], [got] = seen.asked, seen.got
        assert (made.gateway.told(asked), [made.gateway.told_host(asked)]) == (got.target, got.values("Host"))
    else:
        assert not seen.got


def test_the_findings_are_as_written_down(made: Scene) -> None:
    section = PAGE.read_text().partition(f"## {made.gateway.name}\n\n")[2].partition("\n\n")[0]
    assert section.splitlines() == list(made.findings())


def test_http_1_0_without_a_host(made: Scene) -> None:
    seen = made.send(request(token="good", version="1.0"))
    assert seen.answer.status == made.gateway.to_http_1_0
    assert len(seen.got) == (seen.answer.status == 200)
    if seen.got:
        assert identity(seen.got[0]) == OURS
    assert not made.send(request(token="bad", version="1.0")).got


def test_two_hosts_do_not_pass_or_are_judged_as_they_arrive(made: Scene) -> None:
    seen = made.send(request("/pets", "Host: other.example", token="good"))
    if seen.answer.status != 400:
        assert [made.gateway.told_host(one) for one in seen.asked] == seen.got[0].values("Host")


def test_the_verifier_cannot_be_reached_through_it(made: Scene) -> None:
    for target in ("/_verifier", "/auth-request", "/forward-auth", "/ext-authz/x"):
        seen = made.send(request(target, token="good"))
        if isinstance(made.gateway, Nginx) and target == "/_verifier":
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
        assert nobody_passed(made.send(request(token="good")), 503)
        assert "broken" in made.gateway.output()
