"""The chart and the manifests, given to Kubernetes' own API server, with Pod Security's `restricted` enforced."""

import copy
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.gateways import programs
from tests.e2e.kubernetes.cluster import Cluster, running
from tests.e2e.kubernetes.helm import GO, HOW_TO_GET, RELEASE, helm
from tests.e2e.kubernetes.pod import FILES
from tests.helm.chart import NAMESPACE, SETS, Manifest, deployment, pods, rendered, values_file
from tests.helm.generated import CHART, copies

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("cluster"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as made:
        for name in (NAMESPACE, "grafana"):
            made.namespace(name)
        for account in ("default", "verifier", "token-verifier", "tokens"):
            one = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}
            assert made.create(one, NAMESPACE, kept=True).status == 201
        yield made


def run(cluster: Cluster, *arguments: str, program: str = "helm") -> str:
    """What Helm says at the cluster; it must do it."""
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(cluster.folder)}
    done = helm(*arguments, program=program, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pod_of(template: Manifest, name: str) -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(dict(template))
    made.update(apiVersion="v1", kind="Pod")
    made["metadata"] = {**made["metadata"], "name": name}
    return made


@pytest.mark.parametrize("name", SETS)
def test_every_object_is_taken_without_a_warning(cluster: Cluster, name: str) -> None:
    """Strictly: a field that Kubernetes does not know is refused. The accounts are there already, for the pods."""
    own = [one for one in rendered(name) if one["kind"] != "ServiceAccount"]
    answers = {f"{one['kind']}/{one['metadata']['name']}": cluster.create(one, NAMESPACE) for one in own}
    assert {what: (answer.status, answer.body.get("message")) for what, answer in answers.items()} == dict.fromkeys(
        answers, (201, None)
    )
    assert {what: answer.warnings for what, answer in answers.items() if answer.warnings} == {}


@pytest.mark.parametrize("name", SETS)
def test_pods_are_admitted_where_the_standard_restricted_is_enforced(cluster: Cluster, name: str) -> None:
    for number, template in enumerate(pods(rendered(name))):
        answer = cluster.create(pod_of(template, f"pod-{number}"), NAMESPACE)
        assert answer.status == 201, answer.body["message"]


def test_the_standard_is_enforced_here(cluster: Cluster) -> None:
    """What the tests above would not notice if admission were switched off."""
    pod = pod_of(deployment(rendered("minimal"))["spec"]["template"], "root")
    pod["spec"]["securityContext"]["runAsUser"] = 0
    answer = cluster.create(pod, NAMESPACE)
    assert (answer.status, "violates PodSecurity" in answer.body["message"]) == (403, True)


@pytest.mark.parametrize("program", ["helm", "helm3"])
def test_a_release_is_installed_changed_and_rolled_back(cluster: Cluster, program: str) -> None:
    namespace = f"with-{program}"
    cluster.namespace(namespace)
    place = ("--namespace", namespace)

    def replicas_and_redis() -> tuple[int, bool]:
        found = cluster.ask(f"/apis/apps/v1/namespaces/{namespace}/deployments/{RELEASE}").body
        [one] = found["spec"]["template"]["spec"]["containers"]
        return found["spec"]["replicas"], any(entry["name"] == "VERIFIER__REDIS__KEY_FILE" for entry in one["env"])

    def modes() -> set[int]:
        found = cluster.ask(f"/apis/apps/v1/namespaces/{namespace}/deployments/{RELEASE}").body
        return {
            one["projected"]["defaultMode"]
            for one in found["spec"]["template"]["spec"]["volumes"]
            if "projected" in one
        }

    run(cluster, "install", RELEASE, str(CHART), *place, "--values", str(values_file("minimal")), program=program)
    assert replicas_and_redis() == (2, False)
    changed = ("--values", str(values_file("redis")), "--set", "replicas=3")
    run(cluster, "upgrade", RELEASE, str(CHART), *place, *changed, program=program)
    assert replicas_and_redis() == (3, True)
    assert modes() == {0o440}
    run(cluster, "rollback", RELEASE, "1", *place, program=program)
    assert replicas_and_redis() == (2, False)
    run(cluster, "uninstall", RELEASE, *place, program=program)
    assert cluster.ask(f"/apis/apps/v1/namespaces/{namespace}/deployments/{RELEASE}").status == 404


def test_everything_for_monitoring_is_installed_where_the_cluster_knows_it(cluster: Cluster) -> None:
    cluster.namespace("monitored")
    switches = ("--set", "monitoring.rules.enabled=auto,monitoring.dashboards.enabled=true")
    given = ("--namespace", "monitored", "--values", str(values_file("minimal")), *switches)
    run(cluster, "install", RELEASE, str(CHART), *given)
    root = "/apis/monitoring.coreos.com/v1/namespaces/monitored"
    made = {kind: cluster.ask(f"{root}/{kind}").body for kind in ("servicemonitors", "prometheusrules")}
    rules = [copy for copy in copies() if copy.parent.name == "prometheus"]
    assert [len(made[kind]["items"]) for kind in made] == [1, len(rules)]


def notes(cluster: Cluster, name: str, *arguments: str) -> str:
    given = ("--namespace", NAMESPACE, "--values", str(values_file(name)), *arguments)
    return run(cluster, "install", "noted", str(CHART), "--dry-run=client", *given).partition("NOTES:")[2]


def test_the_notes_say_how_to_ask_and_what_is_missing(cluster: Cluster) -> None:
    said = notes(cluster, "minimal")
    assert "http://noted-verifier.auth:8080" in said
    assert "helm test noted --namespace auth" in said
    assert said.count("WARNING") == 3
    for missing in ("there are 2 pods and no Redis", "there is no admin token", "config.trusted_proxies is not set"):
        assert missing in said


def test_the_notes_show_what_a_caller_has_to_send(cluster: Cluster) -> None:
    token, address = '-H "Authorization: Bearer $TOKEN"', "127.0.0.1:8080/verify\n"
    assert f"curl -i {token} http://{address}" in notes(cluster, "minimal")
    secret = '-H "X-Verifier-Secret: $SECRET"'
    assert f"curl -i --insecure {secret} {token} https://{address}" in notes(cluster, "callers")
    assert f"curl -i --insecure --cert client.pem {token} https://{address}" in notes(cluster, "mutual-tls")


def test_the_notes_of_a_release_that_lacks_nothing_have_no_warning(cluster: Cluster) -> None:
    assert "WARNING" not in notes(cluster, "redis")


def test_the_notes_warn_of_an_open_door(cluster: Cluster) -> None:
    assert "there is no NetworkPolicy" in notes(cluster, "one-pod")
    parents = ("--set", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=public")
    assert "nobody has to show who they are" in notes(cluster, "minimal", *parents)
    assert "whoever can write to Redis" in notes(cluster, "cluster")


def test_the_manifests_without_helm_are_taken_and_their_pods_admitted(cluster: Cluster) -> None:
    kustomize = programs.require("kustomize", HOW_TO_GET, GO)
    built = subprocess.run([kustomize, "build", str(FILES)], capture_output=True, text=True, check=True).stdout
    manifests = list(yaml.safe_load_all(built))
    templates = [pod_of(template, "application") for template in pods(manifests)]
    answers = [cluster.create(one, NAMESPACE) for one in (*manifests, *templates)]
    assert [(answer.status, answer.body.get("message"), answer.warnings) for answer in answers] == [(201, None, ())] * 5


def test_the_chart_says_of_an_old_cluster_that_it_is_too_old(tmp_path: Path) -> None:
    done = helm("template", str(CHART), "--kube-version", "1.26.0", "--values", str(values_file("minimal")))
    assert done.returncode != 0
    assert "chart requires kubeVersion: >=1.27.0-0" in done.stderr
