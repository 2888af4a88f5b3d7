"""nginx that holds decisions, with the lines of its page: what it asks about again, and what it never holds."""

import os
import re
import secrets
import time
from collections.abc import Iterator

import pytest

from tests import gateway_pages
from tests.e2e.gateways.gateways import Nginx
from tests.e2e.gateways.peers import ISSUER, request, token_of
from tests.e2e.gateways.scene import Scene, nobody_passed, scene

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("holding")]


class HoldingNginx(Nginx):
    def render(self) -> None:
        super().render()
        page = (gateway_pages.PAGES / "nginx.md").read_text("utf-8").partition("## Holding decisions")[2]
        around, within = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)[:2]
        around = around.replace("/run/nginx-verifier", str(self.folder / "held"))
        main = self.folder / "nginx.conf"
        if os.geteuid() == 0:  # its workers cannot write to the test's folder as somebody else
            main.write_text(f"user root;\n{main.read_text()}")
        file = self.folder / "verifier.conf"
        file.write_text(around + file.read_text().replace("internal;\n", f"internal;\n{within}", 1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    HoldingNginx.require()
    with scene(HoldingNginx, tmp_path_factory.mktemp("holding"), decision_max_age="60s") as running:
        yield running


def asking(*headers: str, token: str, target: str = "/pets", method: str = "GET", host: str = "api.example") -> bytes:
    return request(target, f"Authorization: Bearer {token}", *headers, method=method, host=host)


def reader() -> str:
    """A token that nothing is held for."""
    return ISSUER.token("EdDSA", scope="read", jti=secrets.token_hex(8))


def passed(made: Scene, sent: bytes) -> tuple[int, int]:
    """How many questions it took, and how often the application was asked."""
    seen = made.send(sent)
    return len(seen.asked), len(seen.got)


def test_what_was_allowed_is_asked_once_and_keeps_its_identity(made: Scene) -> None:
    sent = asking(token=reader())
    assert [passed(made, sent) for _ in range(3)] == [(1, 1), (0, 1), (0, 1)]
    assert made.let_pass_rightly(made.send(sent))


@pytest.mark.parametrize(
    "changed",
    [
        {"target": "/pets?b"},
        {"target": "/elsewhere"},
        {"method": "HEAD"},
        {"host": "other.example"},
    ],
)
def test_another_request_is_asked_about(made: Scene, changed: dict[str, str]) -> None:
    first = {"token": reader(), "target": "/pets?a"}
    assert passed(made, asking(**first)) == (1, 1)
    assert passed(made, asking(**{**first, **changed})) == (1, 1)


def test_another_token_is_asked_about(made: Scene) -> None:
    assert [passed(made, asking(token=reader())) for _ in range(2)] == [(1, 1), (1, 1)]


def test_a_place_that_the_same_token_may_not_go_to_stays_closed(made: Scene) -> None:
    token = reader()
    assert passed(made, asking(token=token)) == (1, 1)
    assert nobody_passed(made.send(asking(token=token, target="/admin")), 403)
    assert nobody_passed(made.send(asking(token=token, method="POST")), 403)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Rewrite-URL"])
def test_what_was_allowed_is_not_held_for_the_same_with_a_header_that_overrides(made: Scene, name: str) -> None:
    token = reader()
    assert passed(made, asking(token=token)) == (1, 1)
    assert nobody_passed(made.send(asking(f"{name}: DELETE", token=token)), 401)


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_what_changes_something_is_always_asked_about(made: Scene, method: str) -> None:
    sent = asking("Content-Length: 0", token=reader(), target="/elsewhere", method=method)
    assert [passed(made, sent) for _ in range(2)] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(("token", "target"), [("over", "/pets"), ("reader", "/admin"), ("partner", "/pets")])
def test_no_denial_and_no_outage_is_held(made: Scene, token: str, target: str) -> None:
    sent = asking(token=token_of(token), target=target)
    assert [passed(made, sent) for _ in range(2)] == [(1, 0), (1, 0)]


def test_nobody_passes_on_what_was_held_for_somebody(made: Scene) -> None:
    assert passed(made, asking(token=reader())) == (1, 1)
    assert nobody_passed(made.send(request()), 401)


def test_what_was_held_is_asked_about_again_when_its_time_is_over(tmp_path_factory: pytest.TempPathFactory) -> None:
    HoldingNginx.require()
    with scene(HoldingNginx, tmp_path_factory.mktemp("holding"), decision_max_age="1s") as made:
        sent = asking(token=reader())
        assert passed(made, sent) == (1, 1)
        time.sleep(2.1)
        with made.verifier.dead():
            assert nobody_passed(made.send(sent), 500)


def test_without_the_setting_nothing_is_held(tmp_path_factory: pytest.TempPathFactory) -> None:
    HoldingNginx.require()
    with scene(HoldingNginx, tmp_path_factory.mktemp("holding")) as made:
        sent = asking(token=reader())
        assert [passed(made, sent) for _ in range(2)] == [(1, 1), (1, 1)]
