"""What Envoy Gateway makes of its files of ``deploy/gateways/``, as the configuration of one Envoy.

``python -m tests.e2e.gateways.envoy_gateway`` has ``egctl`` translate the files, and writes
``envoy_gateway.<policy>.yaml`` beside this module. Tests run Envoy with that, and need no ``egctl`` for it. One fails
when the files have changed since, and one, where there is an ``egctl``, when it makes something else of them.

``egctl`` comes with Envoy Gateway, and can be had with Go::

    CGO_ENABLED=0 GOBIN=$PWD/.tools go install -trimpath github.com/envoyproxy/gateway/cmd/egctl@v1.9.1

Of the files, one thing is changed before: any namespace may attach routes, as ``egctl`` forgets the labels of
namespaces. Of the translation, what Envoy would ask a server for is put in its place (routes, endpoints), it listens on
loopback, and access logs are left out. Nothing in it is written by hand.
"""

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.gateways import programs

ROOT = Path(__file__).parents[3]
FILES = ROOT / "deploy" / "gateways" / "envoy-gateway"
HTTP, GRPC = "security-policy", "security-policy-grpc"

Object = dict[str, Any]

#: Where Envoy Gateway has Envoy listen for port 80, and where the Services below are.
LISTENS, VERIFIER_HTTP, VERIFIER_GRPC, APPLICATION = 10080, 8080, 9191, 3000

_CLUSTER = f"""
{{apiVersion: v1, kind: Namespace, metadata: {{name: gateway}}}}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: verifier}}}}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: application}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: verifier, namespace: verifier}}
spec:
  clusterIP: 127.0.0.1
  ports: [{{name: http, port: {VERIFIER_HTTP}}}, {{name: grpc, port: {VERIFIER_GRPC}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: application, namespace: application}}
spec:
  clusterIP: 127.0.0.1
  ports: [{{name: http, port: {APPLICATION}}}]
"""


def objects(policy: str = HTTP, route: str = "httproute") -> list[Object]:
    """What is applied to a cluster."""
    names = ("gateway", policy, route)
    return [made for name in names for made in yaml.safe_load_all((FILES / f"{name}.yaml").read_text())]


def digest(policy: str) -> str:
    return hashlib.sha256(yaml.safe_dump_all(objects(policy)).encode()).hexdigest()


def stored(policy: str) -> Path:
    return Path(__file__).with_name(f"envoy_gateway.{policy}.yaml")


def translate(applied: list[Object]) -> tuple[Object, list[str]]:
    """Envoy's configuration, and what Envoy Gateway would write into the status of the objects that it refuses."""
    program = programs.find("egctl")
    assert program is not None
    for made in applied:
        if made["kind"] == "Gateway":
            for listener in made["spec"]["listeners"]:
                listener["allowedRoutes"] = {"namespaces": {"from": "All"}}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "applied.yaml"
        source.write_text(yaml.safe_dump_all([*applied, *yaml.safe_load_all(_CLUSTER)]))
        command = [program, "experimental", "translate", "--from", "gateway-api", "--to", "gateway-api,xds"]
        command += ["--type", "all", "--output", "yaml", "--file", str(source)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    translated = yaml.safe_load(output)
    [xds] = translated.pop("xds").values()
    refused = [
        condition["message"]
        for condition in _conditions(translated)
        if condition["status"] != "True" and condition["type"] in {"Accepted", "ResolvedRefs", "Programmed"}
    ]
    return _static({part["@type"].rpartition(".")[2]: part for part in xds["configs"]}), refused


def _conditions(found: Any) -> Iterator[Object]:
    if isinstance(found, dict):
        yield from found.get("conditions") or ()
        for value in found.values():
            yield from _conditions(value)
    elif isinstance(found, list):
        for value in found:
            yield from _conditions(value)


def _static(parts: Mapping[str, Object]) -> Object:
    routes = {
        one["routeConfig"]["name"]: _without_type(one["routeConfig"])
        for one in parts["RoutesConfigDump"]["dynamicRouteConfigs"]
    }
    endpoints = {
        one["endpointConfig"]["clusterName"]: _without_type(one["endpointConfig"])
        for one in parts["EndpointsConfigDump"].get("dynamicEndpointConfigs", [])
    }
    clusters = [_without_type(one["cluster"]) for one in parts["ClustersConfigDump"].get("dynamicActiveClusters", [])]
    for cluster in clusters:
        if cluster["type"] == "EDS":
            cluster["type"] = "STATIC"
            cluster["loadAssignment"] = endpoints[cluster.pop("edsClusterConfig")["serviceName"]]
    listeners = [
        _without_type(one["activeState"]["listener"]) for one in parts["ListenersConfigDump"]["dynamicListeners"]
    ]
    listeners = [one for one in listeners if one["address"]["socketAddress"]["portValue"] == LISTENS]
    for listener in listeners:
        listener["address"]["socketAddress"]["address"] = "127.0.0.1"
        listener.pop("accessLog", None)
        for networking in listener["defaultFilterChain"]["filters"]:
            manager = networking["typedConfig"]
            manager.pop("accessLog", None)
            manager["routeConfig"] = routes[manager.pop("rds")["routeConfigName"]]
    return {
        "layeredRuntime": parts["BootstrapConfigDump"]["bootstrap"]["layeredRuntime"],
        "staticResources": {"listeners": listeners, "clusters": clusters},
    }


def _without_type(made: Object) -> Object:
    return {key: value for key, value in made.items() if key != "@type"}


def configuration(listens: int, verifier: int, application: int, text: str | None = None) -> str:
    """The translation ``text``, by default the stored one, with these ports."""
    ports = {LISTENS: listens, VERIFIER_HTTP: verifier, VERIFIER_GRPC: verifier, APPLICATION: application}
    made = stored(HTTP).read_text() if text is None else text
    return re.sub(r"(?<=portValue: )\d+$", lambda port: str(ports[int(port[0])]), made, flags=re.MULTILINE)


def written(applied: list[Object]) -> str:
    made, refused = translate(applied)
    assert not refused
    return yaml.safe_dump(made, width=120)


if __name__ == "__main__":
    for policy in (HTTP, GRPC):
        stored(policy).write_text(f"# {digest(policy)}\n{written(objects(policy))}")
