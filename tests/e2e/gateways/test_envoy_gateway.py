"""What is peculiar to Envoy Gateway; test_gateways.py and test_table.py are run through it too."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.e2e.gateways import envoy_gateway, programs
from tests.e2e.gateways.envoy_gateway import GRPC, HTTP, Object, objects
from tests.e2e.gateways.gateways import Envoy, EnvoyGateway
from tests.e2e.gateways.peers import request
from tests.e2e.gateways.scene import EVERY_FORM, TARGETS, Scene, identity, scene
from tests.gateway_table import IDENTITY


@pytest.mark.parametrize("policy", [HTTP, GRPC])
def test_the_stored_translation_is_of_these_files(policy: str) -> None:
    """If not: ``python -m tests.e2e.gateways.envoy_gateway``."""
    assert envoy_gateway.stored(policy).read_text().startswith(f"# {envoy_gateway.digest(policy)}\n")


@pytest.fixture
def egctl() -> None:
    if programs.find("egctl") is None:
        pytest.skip("egctl is not installed: envoy_gateway.py says how to get it, or name it with EGCTL=/path/to/it")


needs_egctl = pytest.mark.usefixtures("egctl")


@pytest.mark.e2e
@needs_egctl
@pytest.mark.parametrize("policy", [HTTP, GRPC])
def test_the_stored_translation_is_what_egctl_makes_of_the_files(policy: str) -> None:
    made = envoy_gateway.stored(policy).read_text().partition("\n")[2]
    assert made == envoy_gateway.written(objects(policy))


@pytest.mark.e2e
def test_envoy_accepts_what_is_made_for_grpc(tmp_path: Path) -> None:
    Envoy.require()
    source = tmp_path / "envoy.yaml"
    source.write_text(envoy_gateway.stored(GRPC).read_text())
    program = Envoy.found()
    assert program is not None
    subprocess.run([program, "--mode", "validate", "-c", str(source)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    EnvoyGateway.require()
    with scene(EnvoyGateway, tmp_path_factory.mktemp("envoy-gateway")) as running:
        yield running


@pytest.mark.e2e
@pytest.mark.parametrize(("token", "status"), [("forged", 401), ("admin", 403)])
def test_a_denial_reaches_the_client_whole(made: Scene, token: str, status: int) -> None:
    answer = made.send(request(token=token)).answer
    assert (answer.status, answer.values("Content-Type")) == (status, ["application/problem+json"])
    assert answer.values("Cache-Control") == ["no-store"]
    assert b'"allowed":false' in answer.body


@pytest.mark.e2e
def test_an_answer_without_a_decision_is_not_passed_on(made: Scene) -> None:
    answer = made.send(request(token="partner")).answer
    assert (answer.status, answer.body, answer.values("Retry-After")) == (503, b"", [])


@pytest.mark.e2e
def test_the_client_is_not_told_the_identity(made: Scene) -> None:
    answer = made.send(request(token="writer")).answer
    assert [name for name, _ in answer.headers if name.lower().startswith("x-auth-")] == []


@contextmanager
def other(folder: Path, *applied: Object, ready: int = 401) -> Iterator[Scene]:
    """With these objects applied in the place of the files."""
    made, _ = envoy_gateway.translate(list(applied))
    text = yaml.safe_dump(made)

    class Other(EnvoyGateway):
        def render(self) -> None:
            written = envoy_gateway.configuration(self.port, self.verifier, self.application, text)
            (self.folder / "envoy.yaml").write_text(written)

        def asks(self) -> bool:
            return self.answers(ready)

    Other.require()
    with scene(Other, folder, path_forms=EVERY_FORM) as running:
        yield running


def one(applied: list[Object], kind: str) -> Object:
    [found] = [made for made in applied if made["kind"] == kind]
    return found


@pytest.mark.e2e
@needs_egctl
@pytest.mark.parametrize(
    ("route", "lacking", "said"),
    [
        ({}, "ReferenceGrant", "not permitted"),
        ({"route": "httproute-external-auth"}, "SecurityPolicy", "unsupported filter type ExternalAuth"),
    ],
    ids=["without the grant", "with a filter that it does not have"],
)
def test_nobody_passes_and_nobody_is_asked_where_the_policy_cannot_be_had(
    tmp_path: Path, route: dict[str, str], lacking: str, said: str
) -> None:
    applied = [made for made in objects(**route) if made["kind"] != lacking]
    _, refused = envoy_gateway.translate(applied)
    assert said in "".join(refused)
    with other(tmp_path, *applied, ready=500) as made:
        seen = made.send(request(token="writer"))
        assert (seen.answer.status, seen.asked, seen.got) == (500, [], [])


@pytest.mark.e2e
@needs_egctl
@pytest.mark.parametrize("path", [{}, {"escapedSlashesAction": "UnescapeAndForward"}], ids=["default", "unescape"])
def test_with_other_path_settings_too_the_verifier_judges_what_the_application_gets(
    tmp_path: Path, path: Object
) -> None:
    applied = objects()
    one(applied, "ClientTrafficPolicy")["spec"]["path"] = path
    with other(tmp_path, *applied) as made:
        for target in (*TARGETS, "/a/..%2Fx", "/a%2F..%2F..%2Fx", "/a/%2e%2e%5Cx", "//a//..%2F/x"):
            seen = made.send(request(target, token="writer"))
            if seen.answer.status == 200:
                assert [made.gateway.told(asked) for asked in seen.asked] == [got.target for got in seen.got]
            else:
                assert not seen.got


@pytest.mark.e2e
@needs_egctl
def test_the_verifier_is_asked_about_the_path_before_a_route_rewrites_it(tmp_path: Path) -> None:
    applied = objects()
    [rule] = one(applied, "HTTPRoute")["spec"]["rules"]
    path = {"type": "ReplaceFullPath", "replaceFullPath": "/elsewhere"}
    rule["filters"] = [{"type": "URLRewrite", "urlRewrite": {"path": path}}]
    with other(tmp_path, *applied) as made:
        seen = made.send(request("/pets", token="writer"))
        assert [made.gateway.told(asked) for asked in seen.asked] == ["/pets"]
        assert [got.target for got in seen.got] == ["/elsewhere"]


@pytest.mark.e2e
@needs_egctl
@pytest.mark.parametrize(("merge", "status"), [({}, 200), ({"mergeType": "StrategicMerge"}, 401)], ids=str)
def test_a_policy_of_a_route_replaces_the_one_of_the_gateway_unless_it_is_merged(
    tmp_path: Path, merge: Object, status: int
) -> None:
    of_route = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": {"name": "cors", "namespace": "application"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "application"}],
            "cors": {"allowOrigins": ["https://app.example"]},
            **merge,
        },
    }
    with other(tmp_path, *objects(), of_route, ready=status) as made:
        assert bool(made.send(request()).asked) == (status == 401)


@pytest.mark.e2e
@needs_egctl
def test_a_policy_of_clients_for_one_listener_replaces_the_one_of_the_gateway(tmp_path: Path) -> None:
    """Identity is still the verifier's, but what overrides the method arrives."""
    applied = objects()
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "sectionName": "http"}
    of_listener = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "ClientTrafficPolicy",
        "metadata": {"name": "http", "namespace": "gateway"},
        "spec": {"targetRefs": [target], "timeout": {"http": {"idleTimeout": "1h"}}},
    }
    with other(tmp_path, *applied, of_listener) as made:
        forged = [f"{name}: mallory" for name in IDENTITY]
        [got] = made.send(request("/pets", *forged, "X-HTTP-Method-Override: PUT", token="writer")).got
        assert "mallory" not in str(identity(got))
        assert got.values("X-Auth-Subject") == ["alice"]
        assert got.values("X-HTTP-Method-Override") == ["PUT"]


@pytest.mark.e2e
@needs_egctl
def test_a_route_can_set_the_headers_of_the_verifier(tmp_path: Path) -> None:
    applied = objects()
    [rule] = one(applied, "HTTPRoute")["spec"]["rules"]
    modifier = {"set": [{"name": "X-Auth-Subject", "value": "root"}]}
    rule["filters"] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}]
    with other(tmp_path, *applied) as made:
        [got] = made.send(request("/pets", token="writer")).got
        assert got.values("X-Auth-Subject") == ["root"]


@pytest.mark.e2e
def test_the_verifier_is_asked_before_a_websocket_is_opened(made: Scene) -> None:
    def upgrade(token: str) -> bytes:
        return request("/pets", "Upgrade: websocket", token=token, connection="Upgrade, close")

    seen = made.send(upgrade("forged"))
    assert (seen.answer.status, len(seen.asked), seen.got) == (401, 1, [])
    seen = made.send(upgrade("writer"))
    assert (len(seen.asked), [got.values("Upgrade") for got in seen.got]) == (1, [["websocket"]])
