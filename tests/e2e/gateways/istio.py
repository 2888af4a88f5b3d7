"""Istio: its control plane, unchanged, makes an Envoy's configuration out of the files of ``deploy/gateways/istio``.

``pilot-discovery`` reads those files, and a Gateway, a VirtualService and ServiceEntries that stand for the cluster,
from a folder. It also wants a Kubernetes API, and gets one in which nothing is. The Envoy is told its configuration
over ADS as an ingress gateway is. In a cluster it is Istio's own build, with filters that a plain Envoy does not have
(metadata exchange, ALPN, statistics). Those are switched off; they decide nothing about a request.
"""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.e2e.gateways import programs
from tests.e2e.gateways.gateways import DEPLOY, Envoy
from tests.e2e.gateways.peers import request
from tests.gateway_table import Row
from tests.support import free_port

FILES = DEPLOY / "istio"
GO = (1, 26)
"""The oldest that builds its tools."""

OVERRIDES = (
    *("x-http-method-override", "x-http-method", "x-method-override", "x-rewrite-url"),
    *("x-original-url", "x-original-uri", "x-original-method"),
)

#: What a plain Envoy does not have, and what needs a cluster.
SWITCHED_OFF = {
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "ENABLE_CA_SERVER": "false",
    "XDS_AUTH": "false",
    "KUBE_FEATURE_WatchListClient": "false",
}


def documents(name: str) -> list[dict[str, Any]]:
    """The YAML documents of a file of ``deploy/gateways/istio``."""
    return [one for one in yaml.safe_load_all((FILES / name).read_text()) if one]


def require(program: str) -> str:
    """One of Istio's programs."""
    return programs.require(program, "make istio-tools", GO)


class Istio(Envoy):
    """``provider`` is the one that the policy asks."""

    name = "istio"
    in_table = "envoy"
    hands_on_odd_names = True
    #: Which of the files are applied.
    applied: ClassVar[tuple[str, ...]] = ("gateway.yaml", "verifier.yaml", "retry.yaml")
    provider: ClassVar[str] = "verifier-http"
    #: Where the verifier answers gRPC, if it does.
    grpc: ClassVar[int] = 0
    #: What the Envoy is, and the pod it is in.
    proxy: ClassVar[str] = "router"
    namespace: ClassVar[str] = "istio-ingress"
    labels: ClassVar[dict[str, str]] = {"istio": "ingress"}

    _kubernetes: "_EmptyCluster | None" = None
    _pilot: "subprocess.Popen[bytes] | None" = None

    def choose_ports(self) -> None:
        self.port, self._xds = free_port(), free_port()

    @classmethod
    def status(cls, row: Row) -> int:
        """Istio does not take overriding headers away, as Envoy's own file does: the verifier refuses them."""
        if any(name.lower() in OVERRIDES for name, _ in row.headers):
            return row.status(cls.surface)
        return super().status(row)

    @classmethod
    def require(cls) -> None:
        require("pilot-discovery")
        Envoy.require()

    def mesh(self) -> dict[str, Any]:
        """The mesh configuration: that of the file, without telemetry and with plaintext between pods."""
        [values] = documents("mesh.yaml")
        return {**values["meshConfig"], "enableAutoMtls": False, "defaultProviders": {"metrics": []}}

    def pod(self) -> dict[str, Any]:
        """The proxy configuration in the annotations of the gateway's pods."""
        [values] = documents("gateway-values.yaml")
        read: dict[str, Any] = yaml.safe_load(values["podAnnotations"]["proxy.istio.io/config"])
        return read

    def node(self) -> dict[str, Any]:
        """What the Envoy says of itself."""
        return {
            "id": f"{self.proxy}~127.0.0.1~pod.{self.namespace}~{self.namespace}.svc.cluster.local",
            "cluster": "pod",
            "metadata": {
                "NAMESPACE": self.namespace,
                "LABELS": self.labels,
                "CLUSTER_ID": "Kubernetes",
                "ISTIO_VERSION": "1.31.0",
                "INTERCEPTION_MODE": "NONE",
                "PROXY_CONFIG": self.pod(),
            },
        }

    def policies(self) -> list[dict[str, Any]]:
        found = [one for name in self.applied for one in documents(name)]
        for one in found:
            if one["kind"] == "AuthorizationPolicy":
                one["spec"]["provider"]["name"] = self.provider
        return found

    def scaffolding(self) -> list[dict[str, Any]]:
        """What stands for the cluster."""
        gateway = {
            "selector": {"istio": "ingress"},
            "servers": [
                {
                    "port": {"number": self.port, "name": "http", "protocol": "HTTP"},
                    "bind": "127.0.0.1",
                    "hosts": ["*"],
                }
            ],
        }
        to_application = {"route": [{"destination": {"host": "application.default.svc.cluster.local"}}]}
        route = {"hosts": ["*"], "gateways": ["gateway"], "http": [to_application]}
        return [
            resource("networking.istio.io/v1", "Gateway", "gateway", "istio-ingress", gateway),
            resource("networking.istio.io/v1", "VirtualService", "application", "istio-ingress", route),
            _service("application", "default", [_port(80, "http", "HTTP", self.application)]),
            _service(
                "verifier",
                "verifier",
                [_port(8080, "http", "HTTP", self.verifier), _port(9191, "grpc", "GRPC", self.grpc or free_port())],
            ),
        ]

    def render(self) -> None:
        self._kubernetes = _EmptyCluster()
        self._kubernetes.start()
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        for number, one in enumerate([*self.scaffolding(), *self.policies()]):
            (config / f"{number}.yaml").write_text(yaml.safe_dump(one))
        (self.folder / "mesh.yaml").write_text(yaml.safe_dump(self.mesh()))
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(_kubeconfig(self._kubernetes.port)))
        (self.folder / "envoy.yaml").write_text(json.dumps(_bootstrap(self._xds, self.folder / "admin", self.node())))
        self._pilot = self._start_pilot()
        deadline = time.monotonic() + 30
        while not _listens(self._xds):
            if self._pilot.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"pilot-discovery does not start:\n{(self.folder / 'pilot').read_text()[-4000:]}")
            time.sleep(0.1)

    def _start_pilot(self) -> subprocess.Popen[bytes]:
        program = require("pilot-discovery")
        flags = {
            "configDir": self.folder / "config",
            "meshConfig": self.folder / "mesh.yaml",
            "kubeconfig": self.folder / "kubeconfig",
            "registries": "Kubernetes",
            "grpcAddr": f"127.0.0.1:{self._xds}",
            "httpAddr": f"127.0.0.1:{free_port()}",
            "monitoringAddr": f"127.0.0.1:{free_port()}",
            "httpsAddr": "",
            "secureGRPCAddr": "",
            "ctrlz_port": free_port(),
            "ctrlz_address": "127.0.0.1",
        }
        command = [program, "discovery", *(f"--{name}={value}" for name, value in flags.items())]
        with (self.folder / "pilot").open("wb") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=output, cwd=self.folder, env={**os.environ, **SWITCHED_OFF}
            )

    def stop(self) -> None:
        super().stop()
        pilot, self._pilot = self._pilot, None
        if pilot is not None:
            pilot.kill()  # it would wait ten seconds for its proxies
            pilot.wait()
        kubernetes, self._kubernetes = self._kubernetes, None
        if kubernetes is not None:
            kubernetes.stop()

    def configuration(self) -> str:
        """What Envoy was told, as it says itself."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.folder / "admin"))
            admin.sendall(request("/config_dump"))
            return b"".join(iter(partial(admin.recv, 65536), b"")).decode()


def resource(version: str, kind: str, name: str, namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }


def _port(number: int, name: str, protocol: str, target: int) -> dict[str, Any]:
    return {"number": number, "name": name, "protocol": protocol, "targetPort": target}


def _service(name: str, namespace: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    spec = {
        "hosts": [f"{name}.{namespace}.svc.cluster.local"],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": ports,
        "endpoints": [{"address": "127.0.0.1"}],
    }
    return resource("networking.istio.io/v1", "ServiceEntry", name, namespace, spec)


def _bootstrap(xds: int, admin: Path, node: Mapping[str, Any]) -> dict[str, Any]:
    """What Istio's agent tells an Envoy."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    pilot = {
        "name": "xds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(xds)}}]}],
        },
    }
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": dict(node),
        "admin": {"address": {"pipe": {"path": str(admin)}}},
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {"clusters": [pilot]},
    }


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _kubeconfig(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "empty", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "empty", "context": {"cluster": "empty", "user": "nobody"}}],
        "current-context": "empty",
    }


class _EmptyCluster:
    """A Kubernetes API: every list is empty, nothing ever happens, and nothing may be written."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answers, self._ended))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, ended: threading.Event, *rest: Any) -> None:
        self._ended = ended
        super().__init__(*rest)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        kind, *rest = url.path.strip("/").split("/")
        if "watch" in parse_qs(url.query):
            self._watch()
        elif url.path == "/version":
            self._say(200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        elif url.path == "/api":
            self._say(200, {"kind": "APIVersions", "versions": ["v1"]})
        elif url.path == "/apis":
            self._say(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
        elif len(rest[1 if kind == "api" else 2 :]) in {1, 3}:
            nothing = {"metadata": {"resourceVersion": "1"}, "items": []}
            if "PartialObjectMetadataList" in self.headers.get("Accept", ""):
                nothing |= {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            self._say(200, nothing)
        else:
            self._fail(404, "NotFound")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._fail(403, "Forbidden")

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: Any) -> None:
        pass

    def _watch(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._ended.wait()
        self.close_connection = True

    def _fail(self, code: int, reason: str) -> None:
        self._say(code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code})

    def _say(self, code: int, message: Mapping[str, Any]) -> None:
        body = json.dumps(message).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
