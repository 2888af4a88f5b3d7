"""What every gateway is held to, through Istio; and what of Istio must be set as ``deploy/gateways/istio`` sets it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from tests.e2e.gateways import test_gateways, test_table
from tests.e2e.gateways.findings import PAGE
from tests.e2e.gateways.gateways import running
from tests.e2e.gateways.istio import FILES, Istio, quiet_port, require, resource
from tests.e2e.gateways.peers import Message, application, exchange, request
from tests.e2e.gateways.scene import Scene, scene
from tests.gateway_table import ROUTES, TABLE
from tests.support import AUD, Client, FakeIssuer, eventually, fake_issuer, serve, settings

pytestmark = pytest.mark.e2e

_OTHERWISE = {"test_the_request_id_is_passed_to_both", "test_the_findings_are_as_written_down"}

# The tests of all gateways; they find the fixture `made` of this module.
globals().update(
    {
        name: test
        for name, test in vars(test_gateways).items()
        if name.startswith("test_") and "haproxy" not in name and name not in _OTHERWISE
    }
)

PARTNER = {
    "name": "partner",
    "issuer": "https://p.example",
    "audiences": [AUD],
    "jwks_uri": "http://127.0.0.1:1",
}
OVERRIDES = (
    *("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Rewrite-URL"),
    *("X-Original-URL", "X-Original-URI", "X-Original-Method"),
)
IDENTITY = (
    *("X-Auth-Subject", "X-Auth-Issuer", "X-Auth-Client-Id", "X-Auth-Scope", "X-Auth-Expires", "X-Auth-Omitted"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    Istio.require()
    with scene(Istio, tmp_path_factory.mktemp("istio")) as running:
        yield running


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


def test_the_request_id_is_istios_own_and_the_same_for_both(made: Scene) -> None:
    seen = made.send(request("/pets", "X-Request-Id: 4711", token="good"))
    [told], [got] = seen.asked[0].values("X-Request-Id"), seen.got[0].values("X-Request-Id")
    assert told == got != "4711"


def test_targets_are_read_as_by_envoy(made: Scene) -> None:
    section = PAGE.read_text().partition("## envoy\n\n")[2].partition("\n\n")[0]
    assert section.splitlines() == list(made.findings())


def test_the_verifier_is_told_what_it_needs_and_no_more(made: Scene) -> None:
    sent = ["Cookie: a=b", "X-Secret: c", "X-Forwarded-For: 192.0.2.7", "Origin: https://app.example", "Accept: */*"]
    [asked] = made.send(request("/pets", *sent, token="good")).asked
    assert {name.lower() for name, _ in asked.headers} == {
        *("host", "content-length", "authorization", "origin", "x-request-id"),
        *("x-envoy-internal", "x-envoy-expected-rq-timeout-ms"),
    }


def test_the_opening_of_a_websocket_is_judged_and_reaches_the_application(made: Scene) -> None:
    def opening(token: str) -> bytes:
        sent = request("/pets", "Upgrade: websocket", token=token)
        return sent.replace(b"Connection: close", b"Connection: Upgrade")

    assert [one.values("Upgrade") for one in made.send(opening("good")).got] == [["websocket"]]
    refused = made.send(opening("bad"))
    assert (refused.answer.status, refused.got) == (401, [])


def test_connect_is_refused_unasked(made: Scene) -> None:
    seen = made.send(request("api.example:443", token="good", method="CONNECT"))
    assert (seen.answer.status, seen.asked, seen.got) == (404, [], [])


@pytest.mark.parametrize("kind", [Istio, KeepingUnderscores, Normalising, Decoding])
async def test_istio_lets_pass_what_the_table_allows_and_nothing_else(kind: type[Istio], tmp_path: Path) -> None:
    await test_table.test_every_gateway_lets_pass_what_the_table_allows_and_nothing_else(kind, tmp_path)


def _spellings(name: str) -> Iterator[str]:
    """``name`` with underscores in place of one dash, some, or all."""
    parts = name.split("-")
    for marks in range(1, 2 ** (len(parts) - 1)):
        joined = parts[0]
        for place, part in enumerate(parts[1:]):
            joined += ("_" if marks >> place & 1 else "-") + part
        yield joined


@asynccontextmanager
async def _verifier(**changes: Any) -> AsyncIterator[tuple[Client, FakeIssuer]]:
    """The real one, over HTTP and gRPC."""
    async with fake_issuer("EdDSA") as issuer:
        main = {"name": "main", "issuer": issuer.url, "audiences": [AUD]}
        made = settings(main, PARTNER, grpc={"listen": "127.0.0.1:0"}, **changes)
        async with serve(made) as client:
            await eventually(lambda: _has_keys(client, issuer))
            yield client, issuer


@pytest.mark.parametrize("kind", [OverGrpc, OverGrpcKeepingUnderscores])
async def test_over_grpc_too(kind: type[Istio], tmp_path: Path) -> None:
    """The table; over gRPC the verifier is told every header."""
    kind.require()
    async with _verifier(routes=ROUTES, preflights="allow") as (client, issuer):
        sent = {row.name: test_table.request_of(row, issuer) for row in TABLE}
        seen = await asyncio.to_thread(_ask, kind, tmp_path, client, sent)
        passed, refused = [], []
        for row in TABLE:
            status, got = seen[row.name]
            if row.reason is None and status != 200:
                refused.append((row.name, status))
            for one in got:
                tricks = [name for name, _ in row.headers if one.values(name)]
                subject = [value for value in one.values("X-Auth-Subject") if value]
                if row.reason is not None and (tricks or not await test_table._may(client, row, one.target, issuer)):
                    passed.append((row.name, one.target))
                if subject != ([] if row.token is None else ["alice"]):
                    passed.append((row.name, "another subject"))
    assert (passed, refused) == ([], [])


@pytest.mark.parametrize("kind", [Istio, KeepingUnderscores, OverGrpc, OverGrpcKeepingUnderscores])
async def test_the_verifier_sees_every_trick_or_it_does_not_arrive(kind: type[Istio], tmp_path: Path) -> None:
    """An override is answered with 400. A name with underscores is dropped, or else answered with 400."""
    kind.require()
    drops = kind in {Istio, OverGrpc}
    tricks = [*OVERRIDES, *(one for name in (*OVERRIDES, *IDENTITY) for one in _spellings(name))]
    async with _verifier() as (client, issuer):
        token = issuer.token("EdDSA", sub="alice")
        sent = {name: request("/pets", f"{name}: mallory", token=token) for name in tricks}
        seen = await asyncio.to_thread(_ask, kind, tmp_path, client, sent)
    assert {name: seen[name][0] for name in tricks} == {name: 200 if "_" in name and drops else 400 for name in tricks}
    assert [name for name in tricks for got in seen[name][1] if got.values(name)] == []


@pytest.mark.parametrize("kind", [Istio, OverGrpc])
async def test_identity_that_the_client_sends_is_overwritten(kind: type[Istio], tmp_path: Path) -> None:
    kind.require()
    async with _verifier() as (client, issuer):
        token = issuer.token("EdDSA", sub="alice")
        sent = {name: request("/pets", f"{name}: mallory", f"{name}: eve", token=token) for name in IDENTITY}
        seen = await asyncio.to_thread(_ask, kind, tmp_path, client, sent)
    for name in IDENTITY:
        [got] = seen[name][1]
        assert not {"mallory", "eve"} & set(got.values(name))
        assert len(got.values(name)) <= 1
        assert got.values("X-Auth-Subject") == ["alice"]


@pytest.mark.parametrize(("kind", "retry_after"), [(Istio, 0), (OverGrpc, 1)])
async def test_no_decision_is_503(kind: type[Istio], retry_after: int, tmp_path: Path) -> None:
    """Over HTTP, Envoy takes a 503 of the verifier for its failure, and says nothing else that it said."""
    kind.require()
    async with _verifier() as (client, issuer):
        sent = request(token=issuer.token("EdDSA", iss=PARTNER["issuer"]))
        answer, got = await asyncio.to_thread(_ask_once, kind, tmp_path, client, sent)
    assert (answer.status, got) == (503, [])
    assert (len(answer.values("Retry-After")), bool(answer.body)) == (retry_after, bool(retry_after))


@pytest.mark.parametrize("kind", [Istio, OverGrpc])
async def test_two_tokens_do_not_pass(kind: type[Istio], tmp_path: Path) -> None:
    kind.require()
    async with _verifier() as (client, issuer):
        token = issuer.token("EdDSA", sub="alice")
        sent = {"": request("/pets", f"Authorization: Bearer {token}", token=token)}
        seen = await asyncio.to_thread(_ask, kind, tmp_path, client, sent)
    assert (seen[""][0] in {400, 401}, seen[""][1]) == (True, [])


def _ask(
    kind: type[Istio], folder: Path, client: Client, sent: Mapping[str, bytes]
) -> dict[str, tuple[int, list[Message]]]:
    """What comes of each request: the status, and what the application got."""
    return {name: (one.status, got) for name, (one, got) in _answers(kind, folder, client, sent).items()}


def _ask_once(kind: type[Istio], folder: Path, client: Client, sent: bytes) -> tuple[Message, list[Message]]:
    return _answers(kind, folder, client, {"": sent})[""]


def _answers(
    kind: type[Istio], folder: Path, client: Client, sent: Mapping[str, bytes]
) -> dict[str, tuple[Message, list[Message]]]:
    port, found = int(client.service.address.rpartition(":")[2]), {}
    assert client.service.grpc_address is not None
    made = type(kind.__name__, (kind,), {"grpc": int(client.service.grpc_address.rpartition(":")[2])})
    with application() as upstream, running(made(folder, port, upstream.port)) as gateway:
        for name, one in sent.items():
            upstream.got.clear()
            found[name] = (exchange(gateway.port, one), list(upstream.got))
    return found


async def _has_keys(client: Client, issuer: FakeIssuer) -> bool:
    return (await client.verify(issuer.token("EdDSA"))).status == 200


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
    with scene(Workload, tmp_path) as made:
        seen = made.send(request("/pets", "X-Auth-Subject: mallory", "X-Request-Id: 4711", token="good"))
        assert (seen.answer.status, test_gateways.identity(seen.got[0])) == (200, test_gateways.OURS)
        assert seen.asked[0].values("X-Request-Id") == seen.got[0].values("X-Request-Id") == ["4711"]
        for token, status in ((None, 401), ("bad", 401), ("short", 403), ("undecided", 503), ("slow", 503)):
            assert test_gateways.nobody_passed(made.send(request(token=token)), status)
        with made.verifier.dead():
            answer, got, _ = made.send_unasked(request(token="good"))
        assert (answer.status, got) == (503, [])
        for target in ("//x", "/a/../x", "/a%2Fb", "/%2e%2e/x"):
            seen = made.send(request(target, token="good"))
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
        seen = made.send(request(token="good"))
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
        for token in ("good", None):
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


async def test_nobody_passes_when_the_retry_is_merged_into_the_other_provider(tmp_path: Path) -> None:
    RetryOverGrpc.require()
    async with _verifier() as (client, issuer):
        sent = {"": request(token=issuer.token("EdDSA"))}
        assert await asyncio.to_thread(_ask, RetryOverGrpc, tmp_path, client, sent) == {"": (503, [])}


def test_nobody_passes_over_grpc_when_nothing_listens_there(tmp_path: Path) -> None:
    NothingOverGrpc.require()
    with scene(NothingOverGrpc, tmp_path) as made:
        seen = made.send(request(token="good"))
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
        seen = made.send(request(token="bad"))
        assert (seen.answer.status, seen.asked) == (200, [])


class WithoutRetry(Istio):
    applied = ("gateway.yaml", "verifier.yaml")


def test_without_the_retry_a_connection_closed_meanwhile_is_503(tmp_path: Path) -> None:
    WithoutRetry.require()
    with scene(WithoutRetry, tmp_path) as made:
        assert made.send(request(token="good")).answer.status == 200
        seen = made.send(request(token="kept"))
        assert (seen.answer.status, seen.got) == (503, [])


def test_without_the_setting_the_verifier_is_told_another_path_than_was_sent(tmp_path: Path) -> None:
    Normalising.require()
    with scene(Normalising, tmp_path) as made:
        for sent, told in (("/a/../x", "/x"), ("/a\\b", "/a/b"), ("/%78", "/x"), ("//x", "//x")):
            seen = made.send(request(sent, token="good"))
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
        seen = made.send(request("/pets", token="good"))
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
        [got] = made.send(request("/pets", "X-Auth-Subject: mallory", token="good")).got
        assert (got.target, got.values("X-Auth-Subject")) == ("/herspets", ["alice"])


class WithTcp(Istio):
    """The gateway has another port, which is not read as HTTP."""

    tcp: ClassVar[int] = 0

    def scaffolding(self) -> list[dict[str, Any]]:
        type(self).tcp = quiet_port()
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
        made.verifier.asked()
        assert exchange(WithTcp.tcp, request(token="bad")).status == 200
        assert made.verifier.asked() == []


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
