"""What every gateway is held to, through Istio; and what of Istio must be set as ``deploy/gateways/istio`` sets it."""

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
from tests.e2e.gateways.peers import exchange, request
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
def _scene(kind: type[Istio], folder: Path) -> Iterator[Scene]:
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
    with _scene(kind, tmp_path) as made:
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
    with _scene(kind, tmp_path) as made:
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
    with _scene(kind, tmp_path) as made:
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


class Secluded(Workload):
    """A Sidecar resource that does not let the pods reach the verifier's namespace."""

    def scaffolding(self) -> list[dict[str, Any]]:
        mine = super().scaffolding()
        for one in mine:
            if one["kind"] == "Sidecar":
                one["spec"]["egress"][0]["hosts"] = ["elsewhere/*"]
        return mine

    def asks(self) -> bool:
        return self.answers(503) or self.answers(403)


def test_nobody_passes_a_sidecar_that_does_not_reach_the_verifier(tmp_path: Path) -> None:
    Secluded.require()
    with scene(Secluded, tmp_path) as made:
        seen = made.send(request(token="writer"))
        assert (seen.answer.status, seen.asked, seen.got) == (503, [], [])


# What is set wrongly


class UnknownProvider(Istio):
    provider = "misspelt"

    def asks(self) -> bool:
        return self.answers(403)


class UnknownVerifier(UnknownProvider):
    """No Service has the verifier's name."""

    provider = "verifier-http"

    def scaffolding(self) -> list[dict[str, Any]]:
        return [one for one in super().scaffolding() if one["metadata"]["namespace"] != "verifier"]


class TwoProviders(UnknownProvider):
    """Two policies of the action CUSTOM apply to the same pods."""

    provider = "verifier-http"

    def policies(self) -> list[dict[str, Any]]:
        mine = super().policies()
        [policy] = [one for one in mine if one["kind"] == "AuthorizationPolicy"]
        other = {**policy, "metadata": {**policy["metadata"], "name": "other"}}
        return [*mine, {**other, "spec": {**policy["spec"], "provider": {"name": "verifier-grpc"}}}]


@pytest.mark.parametrize("kind", [UnknownProvider, UnknownVerifier, TwoProviders])
def test_nobody_passes_when_the_provider_cannot_be_asked(kind: type[Istio], tmp_path: Path) -> None:
    kind.require()
    with scene(kind, tmp_path) as made:
        for token in ("writer", None):
            seen = made.send(request(token=token))
            assert (seen.answer.status, seen.asked, seen.got) == (403, [], [])
            assert seen.answer.body == b"RBAC: access denied"


class NothingOverGrpc(OverGrpc):
    """Nothing listens where the verifier would answer gRPC."""

    def asks(self) -> bool:
        # Before it has any configuration, nothing listens.
        return self.answers(503)


class RetryOverGrpc(NothingOverGrpc):
    applied = ("gateway.yaml", "verifier.yaml", "retry.yaml")


def test_nobody_passes_when_the_retry_is_merged_into_the_other_provider(tmp_path: Path) -> None:
    RetryOverGrpc.require()
    with _scene(RetryOverGrpc, tmp_path) as made:
        assert nobody_passed(made.send(request(token="writer")), 503)


def test_nobody_passes_over_grpc_when_nothing_listens_there(tmp_path: Path) -> None:
    NothingOverGrpc.require()
    with scene(NothingOverGrpc, tmp_path) as made:
        seen = made.send(request(token="writer"))
        assert (seen.answer.status, seen.asked, seen.got) == (503, [], [])
        assert isinstance(made.gateway, Istio)
        assert "outbound|9191||verifier.verifier.svc.cluster.local" in made.gateway.configuration()


class OtherLabels(Istio):
    def policies(self) -> list[dict[str, Any]]:
        mine = super().policies()
        for one in mine:
            if one["kind"] == "AuthorizationPolicy":
                one["spec"]["selector"]["matchLabels"] = {"istio": "another"}
        return mine

    def asks(self) -> bool:
        return self.answers(200)


def test_a_policy_that_selects_no_pod_guards_nothing(tmp_path: Path) -> None:
    """The page says so; this is why it says how to see that the gateway asks."""
    OtherLabels.require()
    with scene(OtherLabels, tmp_path) as made:
        seen = made.send(request(token="forged"))
        assert (seen.answer.status, seen.asked) == (200, [])


class WithoutRetry(Istio):
    applied = ("gateway.yaml", "verifier.yaml")


def test_without_the_retry_a_connection_closed_meanwhile_is_503(tmp_path: Path) -> None:
    WithoutRetry.require()
    with scene(WithoutRetry, tmp_path) as made:
        assert made.send(request(token="writer")).answer.status == 200
        made.relay.closes_next = True
        assert nobody_passed(made.send(request(token="writer")), 503)


def test_without_the_setting_the_verifier_is_told_another_path_than_was_sent(tmp_path: Path) -> None:
    Normalising.require()
    with scene(Normalising, tmp_path, path_forms=EVERY_FORM) as made:
        for sent, told in (("/a/../x", "/x"), ("/a\\b", "/a/b"), ("/%78", "/x"), ("//x", "//x")):
            seen = made.send(request(sent, token="writer"))
            assert [made.gateway.told(one) for one in seen.asked] == [one.target for one in seen.got] == [told]


class Rewriting(Istio):
    def scaffolding(self) -> list[dict[str, Any]]:
        mine = super().scaffolding()
        for one in mine:
            if one["kind"] == "VirtualService":
                one["spec"]["http"][0]["rewrite"] = {"uri": "/v2"}
                one["spec"]["http"][0]["match"] = [{"uri": {"prefix": "/"}}]
        return mine


def test_a_rewrite_is_made_after_the_question(tmp_path: Path) -> None:
    Rewriting.require()
    with scene(Rewriting, tmp_path) as made:
        seen = made.send(request("/pets", token="writer"))
        assert [made.gateway.told(one) for one in seen.asked] == ["/pets"]
        assert [one.target for one in seen.got] == ["/v2pets"]


class RoutingByIdentity(Istio):
    """A VirtualService that looks at a header of the verifier."""

    def scaffolding(self) -> list[dict[str, Any]]:
        mine = super().scaffolding()
        for one in mine:
            if one["kind"] == "VirtualService":
                [route] = one["spec"]["http"]
                matching = {
                    "match": [{"headers": {"x-auth-subject": {"exact": "mallory"}}}],
                    "rewrite": {"uri": "/hers"},
                }
                one["spec"]["http"] = [{**route, **matching}, route]
        return mine


def test_the_route_is_chosen_by_what_the_client_sent(tmp_path: Path) -> None:
    """The page says so: before the verifier's headers are there."""
    RoutingByIdentity.require()
    with scene(RoutingByIdentity, tmp_path) as made:
        [got] = made.send(request("/pets", "X-Auth-Subject: mallory", token="writer")).got
        assert (got.target, got.values("X-Auth-Subject")) == ("/herspets", ["alice"])


class WithTcp(Istio):
    """The gateway has another port, which is not read as HTTP."""

    tcp: ClassVar[int] = 0

    def scaffolding(self) -> list[dict[str, Any]]:
        type(self).tcp = free_port()
        mine = super().scaffolding()
        for one in mine:
            if one["kind"] == "Gateway":
                port = {"number": self.tcp, "name": "tcp", "protocol": "TCP"}
                one["spec"]["servers"].append({"port": port, "bind": "127.0.0.1", "hosts": ["*"]})
            if one["kind"] == "VirtualService":
                route = one["spec"]["http"][0]["route"]
                one["spec"]["tcp"] = [{"match": [{"port": self.tcp}], "route": route}]
        return mine


def test_a_port_that_is_not_read_as_http_is_not_guarded(tmp_path: Path) -> None:
    """The page says so."""
    WithTcp.require()
    with scene(WithTcp, tmp_path) as made:
        made.relay.asked.clear()
        assert exchange(WithTcp.tcp, request(token="forged")).status == 200
        assert made.relay.asked == []


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
