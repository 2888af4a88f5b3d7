"""Kubernetes' own API server with its store, on loopback: what it takes, a cluster takes.

Nothing runs in it, as there is neither a scheduler nor a kubelet.
"""

import json
import secrets
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.gateways import programs
from tests.e2e.kubernetes.helm import GO, HOW_TO_GET
from tests.support import free_port

CRDS = programs.BUILT / "crds"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}


@dataclass(frozen=True)
class Answer:
    """``warnings`` are what the API server says beside it, about fields that it does not know and their like."""

    status: int
    body: Mapping[str, Any]
    warnings: Sequence[str]


@dataclass
class Cluster:
    folder: Path
    port: int = field(default_factory=free_port)
    _token: str = field(default_factory=secrets.token_hex)
    _running: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def start(self) -> None:
        store, peers = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self._run(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        )
        key = self.folder / "accounts.key"
        private = rsa.generate_private_key(65537, 2048)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        key.write_bytes(private.private_bytes(*form))
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f"{self._token},admin,admin,system:masters\n")
        self._run(
            "kube-apiserver",
            f"--etcd-servers={store}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder}/certificates",
            f"--token-auth-file={tokens}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
        )
        self._wait()
        self._write_kubeconfig()
        for path in sorted(CRDS.iterdir()):
            self._define(yaml.safe_load(path.read_text("utf-8")))

    def stop(self) -> None:
        for process in reversed(self._running):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()
            process.wait()

    def namespace(self, name: str) -> None:
        """One that takes no pod that is not ``restricted``."""
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
        assert self.ask("/api/v1/namespaces", made).status == 201

    def create(self, manifest: Mapping[str, Any], namespace: str = "default", *, kept: bool = False) -> Answer:
        """Whether it would be taken, without a field that is unknown; and have it, where it is to be ``kept``."""
        namespace = manifest["metadata"].get("namespace", namespace)
        options = "fieldValidation=Strict" + ("" if kept else "&dryRun=All")
        return self.ask(f"{self._collection(manifest, namespace)}?{options}", manifest)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data, headers)
        unverified = ssl._create_unverified_context()  # noqa: S323 - it signed for itself, a moment ago
        try:
            with urllib.request.urlopen(request, timeout=20, context=unverified) as answer:  # noqa: S310 - ours
                return Answer(answer.status, _parsed(answer.read()), answer.headers.get_all("Warning") or ())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _parsed(error.read()), error.headers.get_all("Warning") or ())

    def _collection(self, manifest: Mapping[str, Any], namespace: str) -> str:
        """Where objects of the kind are."""
        version = manifest["apiVersion"]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        [plural] = [
            one["name"]
            for one in self.ask(root).body["resources"]
            if one["kind"] == manifest["kind"] and "/" not in one["name"]
        ]
        return f"{root}/namespaces/{namespace}/{plural}"

    def _define(self, crd: Mapping[str, Any]) -> None:
        answer = self.ask("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        assert answer.status == 201, answer.body
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        versions = [one["name"] for one in crd["spec"]["versions"] if one["served"]]
        deadline = time.monotonic() + 20
        while any(self.ask(f"/apis/{group}/{version}/{plural}").status != 200 for version in versions):
            assert time.monotonic() < deadline, f"{plural} are not served"
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        found = programs.require(program, HOW_TO_GET, GO)
        with (self.folder / f"{program}.output").open("wb") as output:
            self._running.append(subprocess.Popen([found, *arguments], stdout=output, stderr=output, cwd=self.folder))

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError):
                if self.ask("/readyz").status == 200:
                    return
            if any(process.poll() is not None for process in self._running) or time.monotonic() > deadline:
                said = (self.folder / "kube-apiserver.output").read_text()
                raise RuntimeError(f"the API server does not start:\n{said[-4000:]}")
            time.sleep(0.1)

    def _write_kubeconfig(self) -> None:
        server = {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        made = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": server}],
            "users": [{"name": "it", "user": {"token": self._token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        self.kubeconfig.write_text(json.dumps(made))


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        parsed: Mapping[str, Any] = json.loads(body)
    except ValueError:
        return {"text": body.decode()}
    return parsed


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
