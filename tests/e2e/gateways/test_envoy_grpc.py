"""What of Envoy over gRPC is its own: connections, metadata, and paths that are no text."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateways.gateways import EnvoyGrpc, running
from tests.e2e.gateways.peers import ISSUER, application, relay, request, verifier
from tests.e2e.gateways.scene import Scene, nobody_passed, scene

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("envoy-grpc")]

LOGGED = """                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
                      log_format:
                        text_format_source: {inline_string: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%\\n"}
"""


class Logging(EnvoyGrpc):
    def command(self) -> list[str]:
        return [*super().command(), "--file-flush-interval-msec", "50"]

    def render(self) -> None:
        super().render()
        file = self.folder / "envoy.yaml"
        file.write_text(
            file.read_text().replace("                http_filters:\n", f"{LOGGED}                http_filters:\n")
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    EnvoyGrpc.require()
    mapped = {"X-User-Groups": "groups"}
    with scene(
        Logging, tmp_path_factory.mktemp("envoy"), identity_headers=mapped, path_forms=["letter_case"]
    ) as running:
        yield running


def test_the_claims_and_the_reason_of_a_denial_are_there_for_the_access_log(made: Scene) -> None:
    made.send(request(token="staff"))
    made.send(request(token="over"))
    deadline = time.monotonic() + 5
    while '"reason":"expired"' not in (logged := made.gateway.output()):
        assert time.monotonic() < deadline, logged
        time.sleep(0.05)
    assert '"groups":["staff"]' in logged


def test_a_header_out_of_a_claim_needs_nothing_in_the_file(made: Scene) -> None:
    for token, groups in (("staff", ['["staff"]']), ("reader", [])):
        seen = made.send(request("/pets", "X-User-Groups: admins", token=token))
        assert [one.values("X-User-Groups") for one in seen.got] == [groups]


@pytest.mark.parametrize("target", ["/public/\xff", "/admin\xff", "/public/.\xff./admin"])
def test_a_path_that_is_no_text_does_not_pass_over_http_2(made: Scene, target: str, tmp_path: Path) -> None:
    """Over HTTP/1, Envoy refuses it itself. Over HTTP/2, it tells an exclamation mark, and byte by byte."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    made.application.got.clear()
    url = b"http://127.0.0.1:%d" % made.gateway.port + target.encode("latin-1")
    config = tmp_path / "curl"
    config.write_bytes(
        b'url = "'
        + url
        + b'"\nhttp2-prior-knowledge\npath-as-is\nsilent\nwrite-out = "%{http_code}"\noutput = /dev/null\n'
    )
    token = ISSUER.token("EdDSA", scope="read")
    done = subprocess.run(
        [curl, "-K", config, "-H", f"Authorization: Bearer {token}"], capture_output=True, check=False
    )
    assert done.stdout == b"403"
    assert made.application.got == []


def test_a_connection_that_breaks_as_the_question_comes_is_no_denial(tmp_path: Path) -> None:
    EnvoyGrpc.require()
    with (
        application() as app,
        verifier(tmp_path, app.port) as asked,
        relay(asked.grpc_port) as between,
        running(EnvoyGrpc(tmp_path, between.port, app.port)) as gateway,
    ):
        made = Scene(gateway, asked, between, app)
        for _ in range(6):
            assert made.let_pass_rightly(made.send(request(token="reader")))
            between.closes_next = True
        assert between.closed > 0


def test_nobody_passes_where_errors_may_and_nobody_can_decide(tmp_path: Path) -> None:
    """The verifier's 503 is a denial to Envoy."""

    class Open(EnvoyGrpc):
        def render(self) -> None:
            super().render()
            file = self.folder / "envoy.yaml"
            file.write_text(file.read_text().replace("failure_mode_allow: false", "failure_mode_allow: true"))

    EnvoyGrpc.require()
    with scene(Open, tmp_path) as made:
        for token in ("partner", "slow"):
            seen = made.send(request(token=token))
            assert nobody_passed(seen, 503)
            assert seen.answer.values("Retry-After")
