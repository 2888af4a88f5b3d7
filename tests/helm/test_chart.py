"""What the chart promises, seen in what it renders for each set of values: see `tests/helm/chart.py`."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from tests.helm import generated
from tests.helm.chart import (
    SETS,
    SNAPSHOTS,
    Manifest,
    container,
    deployment,
    environment,
    of_kind,
    pods,
    rendered,
    service_container,
    values,
)
from tests.helm.mounted import Kubelet, contents
from tests.helm.restricted import violations
from verifier import __version__
from verifier.cli import main
from verifier.config import Settings, duration
from verifier.presets import presets

sets = pytest.mark.parametrize("name", SETS)
with_config = pytest.mark.parametrize("name", [name for name in SETS if values(name).get("config")])


def service_of(manifests: list[Manifest], ops: bool = False) -> Manifest:
    [found] = [one for one in of_kind(manifests, "Service") if one["metadata"]["name"].endswith("-ops") is ops]
    return found


def test_the_chart_has_the_version_of_the_product() -> None:
    chart = yaml.safe_load((generated.CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_every_set_of_values_has_a_snapshot_and_every_snapshot_its_set() -> None:
    assert sorted(path.stem for path in SNAPSHOTS.iterdir()) == SETS
    assert len(SETS) >= 12


# Values and their schema


def keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Those of the values that are the chart's own, down to what is Kubernetes' or the product's."""
    free = {"config", *(name for name, part in generated.schema()["properties"].items() if "properties" not in part)}
    for name, value in tree.items():
        yield prefix + name
        if isinstance(value, Mapping) and (prefix or name not in free):
            yield from keys(value, f"{prefix}{name}.")


def own_properties(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, part in schema["properties"].items():
        yield prefix + name
        if "properties" in part and name != "config":
            yield from own_properties(part, f"{prefix}{name}.")


def test_the_schema_and_the_values_know_the_same_keys() -> None:
    opened = ("resources.", "monitoring.dashboards.labels.")  # what is below them is named by others
    known = {path for path in own_properties(generated.schema()) if not path.startswith(opened)}
    written = {path for path in keys(generated.values()) if not path.startswith(opened)}
    # A probe may wait before it begins; helm adds `global`.
    assert known - {
        f"probes.{kind}.initialDelaySeconds" for kind in ("startup", "liveness", "readiness")
    } == written | {"global"}


def objects(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for name, part in schema["properties"].items():
        if "properties" in part and name != "config":
            yield from objects(part)


def test_unknown_keys_are_refused_at_every_level_that_is_the_charts_own() -> None:
    assert [one for one in objects(generated.schema()) if one.get("additionalProperties") is not False] == []


def test_every_value_is_described() -> None:
    described = {path for path, _ in generated.described()}
    leaves = {path for path in keys(generated.values()) if not isinstance(generated.value_at(path), dict)}
    parents = {path.rpartition(".")[0] for path in described}
    lacking = {leaf for leaf in leaves if not any(leaf == one or leaf.startswith(f"{one}.") for one in described)}
    assert lacking == set()
    assert parents  # some are described one by one


@sets
def test_the_schema_accepts_the_set(name: str) -> None:
    given = {"config": {}, **values(name)}  # as Helm puts it together with the defaults
    jsonschema.validate(given, generated.schema(), cls=jsonschema.Draft202012Validator)


def test_the_schema_accepts_the_defaults() -> None:
    jsonschema.validate(generated.values(), generated.schema(), cls=jsonschema.Draft202012Validator)


def configurations_of_pages() -> list[str]:
    pages = sorted((generated.ROOT / "docs").rglob("*.md"))
    written = (
        block
        for page in pages
        for block in re.findall(r"^```yaml\n(issuers:.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
    return list(written)


@pytest.mark.parametrize("text", configurations_of_pages())
def test_the_schema_accepts_what_the_documentation_shows(text: str) -> None:
    jsonschema.validate({"config": yaml.safe_load(text)}, generated.schema(), cls=jsonschema.Draft202012Validator)


def test_a_claim_may_be_demanded_by_one_value_without_a_list() -> None:
    issuer = {
        "name": "a",
        "issuer": "https://a.example",
        "audiences": "any",
        "required_claims": {"tier": "gold", "level": 3},
    }
    jsonschema.validate({"issuers": [issuer]}, Settings.model_json_schema(), cls=jsonschema.Draft202012Validator)
    assert Settings.model_validate({"issuers": [issuer]}).issuers[0].required_claims == {
        "tier": ("gold",),
        "level": (3,),
    }


# The configuration in the pod


@with_config
def test_the_configuration_arrives_as_it_was_written(name: str) -> None:
    [made] = [one for one in of_kind(rendered(name), "ConfigMap") if "verifier.yaml" in one["data"]]
    assert yaml.safe_load(made["data"]["verifier.yaml"]) == values(name)["config"]


@pytest.mark.parametrize("name", [name for name in SETS if name != "service-accounts"])
def test_the_verifier_can_use_its_configuration_with_the_files_that_are_mounted(name: str, tmp_path: Path) -> None:
    manifests = rendered(name)
    given = Kubelet(tmp_path, manifests, contents()).start(deployment(manifests)["spec"]["template"])
    done = CliRunner().invoke(main, ["check-config"], env=given)
    assert done.exit_code == 0, done.output


def test_the_preset_for_kubernetes_finds_the_projected_token_where_it_looks() -> None:
    pod = deployment(rendered("service-accounts"))["spec"]["template"]["spec"]
    [volume] = [one for one in pod["volumes"] if one["name"] == "token"]
    [mount] = [one for one in container({"spec": pod})["volumeMounts"] if one["name"] == "token"]
    token, *others = volume["projected"]["sources"]
    found = {
        token["serviceAccountToken"]["path"],
        *(item["path"] for one in others for part in one.values() for item in part["items"]),
    }
    wanted = {Path(presets()["kubernetes"].defaults[name]) for name in ("bearer_file", "ca_file")}
    assert {Path(mount["mountPath"], path) for path in found} >= wanted
    assert token["serviceAccountToken"]["audience"] == "https://kubernetes.default.svc"


@sets
def test_pods_listen_where_the_configuration_says_and_beyond_loopback(name: str) -> None:
    one = service_container(name)
    given, ports = environment(one), {port["name"]: port["containerPort"] for port in one["ports"]}
    variables = {"data": "VERIFIER__LISTEN", "ops": "VERIFIER__OPS__LISTEN", "grpc": "VERIFIER__GRPC__LISTEN"}
    listens = {port: given[variable] for port, variable in variables.items() if variable in given}
    assert {port: int(listen.rpartition(":")[2]) for port, listen in listens.items()} == ports
    assert {listen.rpartition(":")[0] for listen in listens.values()} <= {"", "0.0.0.0"}  # noqa: S104 - which is the point


@sets
def test_a_pod_has_the_time_to_drain_and_to_finish(name: str) -> None:
    config = values(name).get("config", {})
    needed = sum(
        duration.seconds(config.get(key, usual)) for key, usual in (("drain_delay", "5s"), ("stop_timeout", "10s"))
    )
    pod = deployment(rendered(name))["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= needed + 15


def test_a_changed_configuration_restarts_pods_unless_the_service_is_to_reload_it() -> None:
    restarting = {
        name
        for name in SETS
        if "checksum/config" in deployment(rendered(name))["spec"]["template"]["metadata"].get("annotations", {})
    }
    assert set(SETS) - restarting == {"existing-configmap", "reload"}


# Pods


@sets
def test_pods_meet_the_standard_restricted(name: str) -> None:
    found = list(pods(rendered(name)))
    assert [list(violations(pod["spec"])) for pod in found] == [[]] * 2  # the Deployment's, and the test's


@sets
def test_no_pod_gets_credentials_of_the_api_by_itself(name: str) -> None:
    manifests = rendered(name)
    specs = [pod["spec"] for pod in pods(manifests)]
    assert {one["automountServiceAccountToken"] for one in (*specs, *of_kind(manifests, "ServiceAccount"))} == {False}


@sets
def test_the_root_is_read_only_and_no_file_is_mounted_so_that_it_could_not_change(name: str) -> None:
    one = service_container(name)
    assert one["securityContext"]["readOnlyRootFilesystem"] is True
    assert [mount for mount in one["volumeMounts"] if "subPath" in mount] == []


@sets
def test_files_of_secrets_are_readable_for_the_group_of_the_pod_and_nobody_else(name: str) -> None:
    spec = deployment(rendered(name))["spec"]["template"]["spec"]
    modes = {one[kind]["defaultMode"] for one in spec["volumes"] for kind in ("secret", "projected") if kind in one}
    assert modes <= {0o440}
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]


@sets
def test_the_chart_makes_no_secret(name: str) -> None:
    assert of_kind(rendered(name), "Secret") == []


@sets
def test_probes_and_services_name_ports_that_are_there(name: str) -> None:
    manifests, one = rendered(name), service_container(name)
    there = {port["name"] for port in one["ports"]}
    probed = {one[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")}
    led_to = {port["targetPort"] for service in of_kind(manifests, "Service") for port in service["spec"]["ports"]}
    let_in = {
        port["port"]
        for policy in of_kind(manifests, "NetworkPolicy")
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert probed == {"ops"}
    assert led_to == there
    assert let_in <= there


@sets
def test_everything_that_selects_pods_selects_these(name: str) -> None:
    manifests = rendered(name)
    labels = deployment(manifests)["spec"]["template"]["metadata"]["labels"]
    selectors = [service["spec"]["selector"] for service in of_kind(manifests, "Service")]
    selectors += [
        one["spec"]["selector"]["matchLabels"]
        for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor")
        for one in of_kind(manifests, kind)
    ]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of_kind(manifests, "NetworkPolicy")]
    assert [one for one in selectors if not one.items() <= labels.items()] == []


@sets
def test_nothing_selects_the_pod_of_the_test(name: str) -> None:
    manifests = rendered(name)
    [asking] = of_kind(manifests, "Pod")
    selector = service_of(manifests)["spec"]["selector"]
    assert not selector.items() <= asking["metadata"]["labels"].items()


def test_a_pod_takes_the_memory_that_its_workers_and_their_caches_need() -> None:
    def mebibytes(name: str) -> int:
        return int(service_container(name)["resources"]["limits"]["memory"].removesuffix("Mi"))

    assert mebibytes("minimal") >= 75 + 190
    assert mebibytes("workers") >= 75 + 4 * (75 + 2 * 190)
    page = (generated.ROOT / "docs" / generated.PAGE).read_text("utf-8")
    assert f"{mebibytes('minimal')} Mi with the\n  defaults" in page


# How many, and where


def test_a_new_pod_is_ready_before_an_old_one_goes() -> None:
    assert deployment(rendered("minimal"))["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_one_pod_has_no_disruption_budget_as_its_node_could_never_be_drained() -> None:
    without = {name for name in SETS if not of_kind(rendered(name), "PodDisruptionBudget")}
    assert without == {"one-pod"}


def test_where_pods_are_scaled_nothing_else_says_how_many_there_are() -> None:
    manifests = rendered("autoscaling")
    [scaler] = of_kind(manifests, "HorizontalPodAutoscaler")
    assert "replicas" not in deployment(manifests)["spec"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment(manifests)["metadata"]["name"]


@pytest.mark.parametrize("name", sorted(set(SETS) - {"placement"}))
def test_a_cluster_of_one_node_can_run_all_pods(name: str) -> None:
    spec = deployment(rendered(name))["spec"]["template"]["spec"]
    assert {one["whenUnsatisfiable"] for one in spec["topologySpreadConstraints"]} == {"ScheduleAnyway"}
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in json.dumps(spec.get("affinity", {}))


# Who gets in, and what gets out


def egress_ports(name: str) -> set[int]:
    [policy] = of_kind(rendered(name), "NetworkPolicy")
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} - {53}


def test_pods_reach_the_ports_that_their_configuration_names_and_no_others() -> None:
    found = {
        name: egress_ports(name) for name in ("minimal", "redis", "sentinel", "cluster", "introspection", "tracing")
    }
    assert found == {
        "minimal": {443},
        "redis": {443, 6380},
        "sentinel": {443, 26379, 26380, 6379},
        "cluster": {443, 6379},
        "introspection": {443, 8443, 80},
        "tracing": {443, 4318},
    }


def test_pods_that_ask_the_api_server_reach_it_behind_its_service_too() -> None:
    assert 6443 in egress_ports("service-accounts")


def test_only_pods_of_the_same_namespace_may_ask_unless_it_is_said_who() -> None:
    [policy] = of_kind(rendered("minimal"), "NetworkPolicy")
    rules = [rule for rule in policy["spec"]["ingress"] if any(port["port"] == "data" for port in rule["ports"])]
    assert [rule["from"] for rule in rules[:1]] == [[{"podSelector": {}}]]
    assert all("namespaceSelector" not in peer for rule in rules for peer in rule["from"])


def test_the_ops_port_is_not_at_the_service_that_gateways_ask() -> None:
    manifests = rendered("minimal")
    assert [port["name"] for port in service_of(manifests)["spec"]["ports"]] == ["http"]
    assert [port["name"] for port in service_of(manifests, ops=True)["spec"]["ports"]] == ["ops"]


def test_a_gateway_learns_what_each_port_speaks() -> None:
    said = {
        name: {port["name"]: port["appProtocol"] for port in service_of(rendered(name))["spec"]["ports"]}
        for name in ("minimal", "mutual-tls", "grpc", "existing-configmap")
    }
    assert said == {
        "minimal": {"http": "http"},
        "mutual-tls": {"https": "https"},
        "grpc": {"http": "http", "grpc": "kubernetes.io/h2c"},
        "existing-configmap": {"http": "http", "grpc": "grpc"},
    }


# Monitoring


def test_prometheus_finds_the_ops_port_and_calls_the_job_what_the_alerts_expect() -> None:
    manifests = rendered("monitoring")
    [monitor] = of_kind(manifests, "ServiceMonitor")
    labels = service_of(manifests, ops=True)["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= service_of(manifests)["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("ops", "/metrics")
    [job] = [one["replacement"] for one in endpoint["relabelings"] if one.get("targetLabel") == "job"]
    assert "verifier" in job


def test_the_operators_objects_are_made_where_its_api_is_known_and_alerts_only_when_asked_for() -> None:
    made = {name: {one["kind"] for one in rendered(name)} for name in ("minimal", "monitoring")}
    assert "ServiceMonitor" not in made["minimal"]  # this cluster knows no such thing
    assert {"ServiceMonitor", "PodMonitor"} <= made["monitoring"]
