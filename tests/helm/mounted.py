"""What the kubelet would put into the verifier's container, in a folder: so the files of the configuration are where it
says that they are, or they are missing as they would be in the pod."""

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helm.chart import Manifest, container, environment, of_kind
from tests.tls import authority, certificate


class Kubelet:
    """``files`` are the contents of Secrets and ConfigMaps that are not the chart's: by name of key or path."""

    def __init__(self, root: Path, manifests: list[Manifest], files: Mapping[str, bytes]) -> None:
        self.root = root
        self._config_maps = {one["metadata"]["name"]: one["data"] for one in of_kind(manifests, "ConfigMap")}
        self._files = files

    def start(self, pod: Manifest) -> dict[str, str]:
        """Write the files of ``pod``. Returns the environment of its verifier, with paths inside of the folder."""
        one = container(pod)
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for mount in one["volumeMounts"]:
            folder = self._inside(mount["mountPath"])
            folder.mkdir(parents=True)
            for path, content in self._contents(volumes[mount["name"]], mount["mountPath"]):
                (folder / path).write_bytes(self._moved(content))
        sources = {entry["name"]: entry["valueFrom"] for entry in one["env"] if "valueFrom" in entry}
        taken = {name: source["secretKeyRef"]["key"] for name, source in sources.items() if "secretKeyRef" in source}
        written = {name: self._moved(value.encode()).decode() for name, value in environment(one).items()}
        return written | {name: self._files[key].decode() for name, key in taken.items()}

    def _contents(self, volume: Manifest, mounted: str) -> Iterator[tuple[str, bytes]]:
        if "configMap" in volume and volume["configMap"]["name"] in self._config_maps:
            for key, text in self._config_maps[volume["configMap"]["name"]].items():
                yield key, text.encode()
            return
        for source in volume.get("projected", {}).get("sources", ()):
            for items in source.values():
                for path in [item["path"] for item in items.get("items", [items])]:
                    yield path, self._files[path]
        if "configMap" in volume or "secret" in volume:  # all that is expected of it is there
            for path, content in self._files.items():
                if path.startswith(f"{mounted}/"):
                    yield path.removeprefix(f"{mounted}/"), content

    def _inside(self, path: str) -> Path:
        return self.root / path.removeprefix("/")

    def _moved(self, content: bytes) -> bytes:
        for folder in (b"/etc/verifier", b"/var/run/secrets"):
            content = content.replace(folder, str(self.root).encode() + folder)
        return content


def contents() -> dict[str, bytes]:
    """What is in the Secrets and ConfigMaps that the sets of values name; made anew each time."""
    signing = authority()
    pair = certificate(signing, "verifier")
    texts = ("admin-token", "redis-password", "redis-sentinel-password", "token", "namespace")
    callers = ("caller-lambda", "caller-lambda-next", "caller-gateway")
    issuers = [{"name": "auth0", "preset": "auth0", "issuer": "https://acme.eu.auth0.com/", "audiences": ["api"]}]
    authorities = ("redis-ca", "tls-client-ca", "ca.crt", "/etc/verifier/files/acme-ca/ca.crt")
    opened = ("/etc/verifier/files/keycloak/client-secret", "/etc/verifier/files/partner/secret")
    return {
        **{name: secrets.token_hex().encode() for name in (*texts, *callers, *opened)},
        **{name: base64.b64encode(secrets.token_bytes(32)) for name in ("redis-key", "redis-previous-key")},
        **dict.fromkeys(authorities, signing.pem),
        **dict.fromkeys(("tls.crt", "tls.key"), pair),
        "json": json.dumps(issuers).encode(),
        "/etc/verifier/config/config.yaml": json.dumps({"issuers": issuers}).encode(),
    }
