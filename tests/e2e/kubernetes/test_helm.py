"""The chart, rendered by Helm itself."""

import hashlib
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.e2e.gateways import programs
from tests.e2e.kubernetes.helm import GO, HOW_TO_GET, helm, snapshot, template
from tests.e2e.kubernetes.pod import FILES
from tests.helm.chart import SETS, SNAPSHOTS, pods, values_file
from tests.helm.generated import CHART, copies

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("helm")]

KNOWN = (
    "--api-versions",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "--api-versions",
    "monitoring.coreos.com/v1/PrometheusRule",
)


def with_values(name: str = "minimal", *arguments: str) -> str:
    return template("--values", str(values_file(name)), *arguments)


@pytest.mark.parametrize("name", SETS)
def test_lint_finds_nothing(name: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(values_file(name)))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("program", ["helm", "helm3"])
@pytest.mark.parametrize("name", SETS)
def test_helm_4_and_helm_3_render_the_snapshot(name: str, program: str) -> None:
    assert snapshot(name, program) == (SNAPSHOTS / f"{name}.yaml").read_text("utf-8"), "run: make helm-snapshots"


REFUSALS = {
    "config.cache.max_entrys=3": "additional properties 'max_entrys' not allowed",
    "config.cache.max_ttl=300": "at '/config/cache/max_ttl'",
    "image.tga=1": "additional properties 'tga' not allowed",
    "replica=2": "additional properties 'replica' not allowed",
    "replicas=two": "got string, want integer",
    "onConfigChange=sometimes": "value must be one of 'restart', 'reload'",
    "service.port=80800": "at '/service/port': maximum",
    "secrets.adminToken.value=x": "additional properties 'value' not allowed",
    "callers[0].name=gateway": "at '/callers/0': missing properties 'secretName', 'key'",
    "files[0].name=idp": "at '/files/0'",
    "config=null": "missing property 'config'",
    "existingConfigMap.name=mine": "existingConfigMap.name and config are both given",
    "config.listen=127.0.0.1:8080": "config.listen is 127.0.0.1:8080: neither Service nor kubelet could reach it",
    "config.ops.listen=localhost:9090": "config.ops.listen is localhost:9090",
    "config.grpc.listen=[::1]:9191": "config.grpc.listen is [::1]:9191",
    "config.listen=unix:/run/verifier.sock": "a Service reaches no Unix socket",
    "env[0].name=VERIFIER__LISTEN": "env sets VERIFIER__LISTEN, which the chart sets",
    "secrets.tlsClientCa.name=ca": "secrets.tlsClientCa needs secrets.tls",
    "config.redis.url=redis://cache": "config.redis.url needs secrets.redisKey",
    "config.listen=:80800": "at '/config/listen'",
    "config.redis.url=redis://user:secret@cache": "config.redis.url holds a password",
    "httpRoute.enabled=true": "httpRoute.parentRefs is empty",
    "config.issuers[0].required_claims.level=12345678901234567": "16 digits or more, which Helm would round",
}


@pytest.mark.parametrize("change", REFUSALS)
def test_values_that_cannot_work_are_refused_with_what_to_do(change: str) -> None:
    with pytest.raises(ValueError, match="Error:") as refused:
        with_values("minimal", "--set", change)
    assert REFUSALS[change] in str(refused.value)


def test_an_installation_without_any_issuer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"config\.issuers is missing: name at least one issuer"):
        template()


def test_callers_are_not_named_twice() -> None:
    listed = "config.callers[0].name=a,config.callers[0].secret_file=/a"
    with pytest.raises(ValueError, match=r"callers and config\.callers are both given"):
        with_values("callers", "--set", listed)


def test_an_issuer_of_the_cluster_needs_a_token_to_fetch_its_keys_with() -> None:
    with pytest.raises(ValueError, match=r"issuer cluster has the preset kubernetes.*projectedToken\.enabled"):
        with_values("service-accounts", "--set", "serviceAccount.projectedToken.enabled=false")


def test_a_large_number_in_quotes_stays_what_it_is() -> None:
    rendered = with_values("minimal", "--set-string", "config.issuers[0].required_claims.level=12345678901234567")
    assert '"12345678901234567"' in rendered


def test_another_configuration_is_another_pod() -> None:
    def checksum(*arguments: str) -> str:
        [line] = [line for line in with_values("minimal", *arguments).splitlines() if "checksum/config" in line]
        return line

    assert checksum() != checksum("--set", "config.decision_max_age=5s")
    assert checksum() == checksum("--set", "service.port=81")


def test_a_platform_that_gives_out_user_ids_may_do_so() -> None:
    taken = ",".join(f"podSecurityContext.{key}=null" for key in ("runAsUser", "runAsGroup", "fsGroup"))
    specs = [
        pod["spec"]["securityContext"] for pod in pods(list(yaml.safe_load_all(with_values("minimal", "--set", taken))))
    ]
    assert [{"runAsUser", "runAsGroup", "fsGroup"} & spec.keys() for spec in specs] == [set()] * 2


def test_a_release_of_any_name_has_names_that_kubernetes_takes() -> None:
    long = "a" * 53
    done = helm("template", long, str(CHART), "--values", str(values_file("monitoring")), *KNOWN)
    named = [one["metadata"]["name"] for one in yaml.safe_load_all(done.stdout) if one and one["kind"] == "Service"]
    assert len(named) == 2
    assert max(map(len, named)) <= 63


def test_a_monitor_is_made_where_the_cluster_knows_the_operator() -> None:
    kinds = {one["kind"] for one in yaml.safe_load_all(with_values("minimal", *KNOWN)) if one}
    assert "ServiceMonitor" in kinds
    assert "PrometheusRule" not in kinds  # nobody is woken unasked


def test_the_rules_are_those_of_deploy_and_prometheus_takes_them(tmp_path: Path) -> None:
    promtool = programs.require("promtool", "apt-get install prometheus")
    made = [
        one for one in yaml.safe_load_all(with_values("monitoring", *KNOWN)) if one and one["kind"] == "PrometheusRule"
    ]
    sources = [source for copy, source in copies().items() if copy.parent.name == "prometheus"]
    assert [one["spec"] for one in made] == [yaml.safe_load(source.read_text("utf-8")) for source in sorted(sources)]
    for one in made:
        path = tmp_path / f"{one['metadata']['name']}.yml"
        path.write_text(yaml.safe_dump(one["spec"]))
        done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboards_are_those_of_deploy() -> None:
    made = [
        one
        for one in yaml.safe_load_all(with_values("monitoring"))
        if one and one["metadata"]["labels"].get("grafana_dashboard")
    ]
    shown = {name: text.strip() for one in made for name, text in one["data"].items()}
    sources = {
        copy.name: source.read_text("utf-8").strip() for copy, source in copies().items() if copy.suffix == ".json"
    }
    assert shown == sources


def test_the_package_has_rules_and_dashboards_and_no_values_of_tests(tmp_path: Path) -> None:
    done = helm("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    [package] = tmp_path.iterdir()
    with tarfile.open(package) as packed:
        names = {name.removeprefix("verifier/") for name in packed.getnames()}
    assert {str(copy.relative_to(CHART)) for copy in copies()} <= names
    assert {name for name in names if name.startswith("ci/")} == set()
    alone = template_of(package)
    assert digest(alone) == digest(with_values("minimal", *KNOWN))


def template_of(package: Path) -> str:
    done = helm(
        "template", "verifier", str(package), "--namespace", "auth", "--kube-version", "1.33", "--values",
        str(values_file("minimal")), *KNOWN,
    )  # fmt: skip
    return done.stdout


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_manifests_without_helm_are_one_application_for_kustomize() -> None:
    kustomize = programs.require("kustomize", HOW_TO_GET, GO)
    done = subprocess.run([kustomize, "build", str(FILES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    volumes = {one["name"]: one for one in made["Deployment"]["spec"]["template"]["spec"]["volumes"]}
    names = {one["metadata"]["name"] for one in yaml.safe_load_all(done.stdout) if one["kind"] == "ConfigMap"}
    assert {volumes["verifier"]["configMap"]["name"], volumes["nginx"]["configMap"]["name"]} == names
