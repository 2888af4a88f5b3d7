"""What of Istio must be set as ``deploy/gateways/istio`` sets it, and what comes of it otherwise: its page says so."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.e2e.gateways.istio import Istio
from tests.e2e.gateways.peers import exchange, request
from tests.e2e.gateways.scene import EVERY_FORM, nobody_passed, scene
from tests.e2e.gateways.test_istio import Normalising, OverGrpc, Workload, scene_with_grpc
from tests.support import free_port

pytestmark = pytest.mark.e2e


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
    with scene_with_grpc(RetryOverGrpc, tmp_path) as made:
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
