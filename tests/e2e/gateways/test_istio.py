"""What every gateway is held to, through Istio; what is set wrongly there is in test_istio_set_wrongly.py."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from tests.e2e.gateways import test_gateways, test_outages
from tests.e2e.gateways.findings import PAGE
from tests.e2e.gateways.istio import FILES, OVERRIDES, Istio, require, resource
from tests.e2e.gateways.peers import request
from tests.e2e.gateways.scene import EVERY_FORM, Scene, identity, nobody_passed, scene
from tests.e2e.gateways.test_table import request_of
from tests.gateway_table import IDENTITY, TABLE, Row
from tests.support import free_port

pytestmark = pytest.mark.e2e

_OTHERWISE = {"test_the_request_id_is_passed_to_both", "test_the_findings_are_as_written_down"}

# The tests of all gateways, with their fixtures; those find the fixture `kind` of this module.
globals().update(
    {
        name: one
        for name, one in {**vars(test_gateways), **vars(test_outages)}.items()
        if (name.startswith("test_") and "haproxy" not in name and name not in _OTHERWISE)
        or name in {"made", "relayed", "direct", "keeping"}
    }
)


@pytest.fixture(scope="module")
def kind() -> type[Istio]:
    Istio.require()
    return Istio


class KeepingUnderscores(Istio):
    """Without gateway-values.yaml, which Istio 1.29 does not understand."""

    def pod(self) -> dict[str, Any]:
        return {}


class OverGrpc(Istio):
    """The other provider of mesh.yaml. retry.yaml would put the one over HTTP in its place, half of it."""

    provider = "verifier-grpc"
    applied: ClassVar[tuple[str, ...]] = ("gateway.yaml", "verifier.yaml")


class OverGrpcKeepingUnderscores(OverGrpc):
    def pod(self) -> dict[str, Any]:
        return {}


class Normalising(Istio):
    """As Istio does of itself."""

    def mesh(self) -> dict[str, Any]:
        mesh = super().mesh()
        del mesh["pathNormalization"]
        return mesh


class Decoding(Istio):
    """The other end of what Istio can be told to do with paths."""

    def mesh(self) -> dict[str, Any]:
        return {**super().mesh(), "pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"}}


@contextmanager
def scene_with_grpc(kind: type[Istio], folder: Path) -> Iterator[Scene]:
    """With a verifier that answers over gRPC too."""
    port = free_port()
    made: type[Istio] = type(kind.__name__, (kind,), {"grpc": port})
    with scene(made, folder, grpc={"listen": f"127.0.0.1:{port}"}) as running:
        yield running


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_istio_answers_as_the_table_says(relayed: Scene, row: Row) -> None:
    seen = relayed.send(request_of(row))
    assert seen.answer.status == relayed.gateway.status(row)
    if seen.answer.status == 200:
        assert relayed.let_pass_rightly(seen)
    else:
        assert not seen.got


@pytest.mark.parametrize(
    "kind",
    [KeepingUnderscores, OverGrpc, OverGrpcKeepingUnderscores, Normalising, Decoding],
    ids=lambda kind: kind.__name__,
)
def test_however_it_is_set_up_nobody_else_passes(kind: type[Istio], tmp_path: Path) -> None:
    kind.require()
    with scene_with_grpc(kind, tmp_path) as made:
        wrong = []
        for row in TABLE:
            seen = made.send(request_of(row))
            if seen.got and not made.let_pass_rightly(seen):
                wrong.append((row.name, "passed"))
            if row.reason is None and Istio.status(row) == 200 != seen.answer.status:
                wrong.append((row.name, "refused"))
    assert wrong == []


def _spellings(name: str) -> Iterator[str]:
    """``name`` with underscores in place of one dash, some, or all."""
    parts = name.split("-")
    for marks in range(1, 2 ** (len(parts) - 1)):
        joined = parts[0]
        for place, part in enumerate(parts[1:]):
            joined += ("_" if marks >> place & 1 else "-") + part
        yield joined


@pytest.mark.parametrize(
    "kind", [Istio, KeepingUnderscores, OverGrpc, OverGrpcKeepingUnderscores], ids=lambda kind: kind.__name__
)
def test_the_verifier_sees_every_trick_or_it_does_not_arrive(kind: type[Istio], tmp_path: Path) -> None:
    """An override is answered with 400. A name with underscores is dropped, or else answered with 400."""
    kind.require()
    drops = kind in {Istio, OverGrpc}
    wrong = []
    with scene_with_grpc(kind, tmp_path) as made:
        for name in (*OVERRIDES, *(one for dashed in (*OVERRIDES, *IDENTITY) for one in _spellings(dashed))):
            seen = made.send(request("/pets", f"{name}: mallory", token="writer"))
            expected = 200 if "_" in name and drops else 400
            if seen.answer.status != expected or any(got.values(name) for got in seen.got):
                wrong.append((name, seen.answer.status))
        for name in IDENTITY:
            assert made.let_pass_rightly(made.send(request("/pets", f"{name}: a", f"{name}: b", token="writer")))
        assert made.send(request("/pets", "Authorization: Bearer a", token="writer")).got == []
    assert wrong == []


@pytest.mark.parametrize(("kind", "retry_after"), [(Istio, 0), (OverGrpc, 1)])
def test_no_decision_is_503(kind: type[Istio], retry_after: int, tmp_path: Path) -> None:
    """Over HTTP, Envoy takes a 503 of the verifier for its failure, and says nothing else that it said."""
    kind.require()
    with scene_with_grpc(kind, tmp_path) as made:
        [row] = [row for row in TABLE if row.status("ext_authz") == 503][:1]
        seen = made.send(request_of(row))
    assert nobody_passed(seen, 503)
    assert (len(seen.answer.values("Retry-After")), bool(seen.answer.body)) == (retry_after, bool(retry_after))


def test_the_request_id_is_istios_own_and_the_same_for_both(made: Scene) -> None:
    seen = made.send(request("/pets", "X-Request-Id: 4711", token="writer"))
    [told], [got] = seen.asked[0].values("X-Request-Id"), seen.got[0].values("X-Request-Id")
    assert told == got != "4711"


def test_targets_are_read_as_by_envoy(made: Scene) -> None:
    section = PAGE.read_text().partition("## envoy\n\n")[2].partition("\n\n")[0]
    assert section.splitlines() == list(made.findings())


def test_the_verifier_is_told_what_it_needs_and_no_more(made: Scene) -> None:
    sent = ["Cookie: a=b", "X-Secret: c", "X-Forwarded-For: 192.0.2.7", "Origin: https://app.example", "Accept: */*"]
    [asked] = made.send(request("/pets", *sent, token="writer")).asked
    assert {name.lower() for name, _ in asked.headers} == {
        *("host", "content-length", "authorization", "origin", "x-request-id"),
        *("x-envoy-internal", "x-envoy-expected-rq-timeout-ms"),
    }


def test_the_opening_of_a_websocket_is_judged_and_reaches_the_application(made: Scene) -> None:
    def opening(token: str) -> bytes:
        return request("/pets", "Upgrade: websocket", token=token, connection="Upgrade")

    assert [one.values("Upgrade") for one in made.send(opening("writer")).got] == [["websocket"]]
    assert nobody_passed(made.send(opening("forged")), 401)


class Workload(Istio):
    """The sidecar of the application asks, and no gateway does. It is told its ports (INTERCEPTION_MODE NONE), where a
    cluster would have iptables lead everything to it."""

    applied = ("workload.yaml", "verifier.yaml")
    proxy = "sidecar"
    namespace = "default"
    labels: ClassVar[dict[str, str]] = {"app": "application"}

    def pod(self) -> dict[str, Any]:
        return {}

    def scaffolding(self) -> list[dict[str, Any]]:
        kept = [one for one in super().scaffolding() if one["metadata"]["namespace"] == "verifier"]
        inbound = {
            "port": {"number": self.port, "name": "http", "protocol": "HTTP"},
            "bind": "127.0.0.1",
            "captureMode": "NONE",
            "defaultEndpoint": f"127.0.0.1:{self.application}",
        }
        outbound = {
            "port": {"number": 0, "name": "http", "protocol": "HTTP"},
            "bind": f"unix://{self.folder}/out",
            "captureMode": "NONE",
            "hosts": ["verifier/*"],
        }
        sidecar = {
            "workloadSelector": {"labels": self.labels},
            "ingress": [inbound],
            "egress": [outbound],
        }
        return [
            *kept,
            resource("networking.istio.io/v1", "Sidecar", "application", "default", sidecar),
            # Certificates need Istio's agent.
            resource("security.istio.io/v1", "PeerAuthentication", "plain", "default", {"mtls": {"mode": "DISABLE"}}),
        ]


def test_a_sidecar_asks_as_the_gateway_does(tmp_path: Path) -> None:
    Workload.require()
    with scene(Workload, tmp_path, path_forms=EVERY_FORM) as made:
        seen = made.send(request("/pets", "X-Auth-Subject: mallory", "X-Request-Id: 4711", token="writer"))
        assert made.let_pass_rightly(seen)
        assert identity(seen.got[0])["X-Auth-Subject"] == ["alice"]
        assert seen.asked[0].values("X-Request-Id") == seen.got[0].values("X-Request-Id") == ["4711"]
        for token, status in ((None, 401), ("forged", 401), ("admin", 403), ("slow", 503)):
            assert nobody_passed(made.send(request(token=token)), status)
        with made.verifier.dead():
            assert nobody_passed(made.send(request(token="writer")), 503)
        for target in ("//x", "/a/../x", "/a%2Fb", "/%2e%2e/x"):
            seen = made.send(request(target, token="writer"))
            assert [made.gateway.told(one) for one in seen.asked] == [one.target for one in seen.got] == [target]


# What Istio's checker says


@pytest.mark.parametrize("name", sorted(one.name for one in FILES.glob("*.yaml") if "kind:" in one.read_text()))
def test_istioctl_finds_the_file_valid(name: str) -> None:
    checked = subprocess.run(
        [require("istioctl"), "validate", "-f", str(FILES / name)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_istioctl_analyses_all_of_it_together(tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(yaml.safe_dump(yaml.safe_load((FILES / "mesh.yaml").read_text())["meshConfig"]))
    files = [str(one) for one in FILES.glob("*.yaml") if "kind:" in one.read_text()]
    command = [require("istioctl"), "analyze", "--use-kube=false", f"--meshConfigFile={mesh}", *files]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
