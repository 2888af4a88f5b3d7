"""The pod of `deploy/kubernetes` without a kubelet: its verifier and its nginx as processes with the users and groups
that the manifest gives them, and its folder for the socket as the kubelet makes it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.gateways import programs
from tests.e2e.gateways.gateways import Nginx
from tests.e2e.gateways.peers import ISSUER, exchange, request
from tests.helm.generated import ROOT
from tests.support import AUD, free_port, public_jwk

FILES = ROOT / "deploy" / "kubernetes"


def spec() -> dict[str, Any]:
    """Of the pod."""
    made: dict[str, Any] = yaml.safe_load((FILES / "deployment.yaml").read_text("utf-8"))["spec"]["template"]["spec"]
    return made


@dataclass(frozen=True)
class User:
    """Whom a container runs as; ``groups`` are the further ones, the pod's ``fsGroup`` among them."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, name: str, **changes: Any) -> "User":
        pod = spec()
        [one] = [one for one in (*pod["initContainers"], *pod["containers"]) if one["name"] == name]
        own, shared = one["securityContext"], pod["securityContext"]["fsGroup"]
        return cls(**{"uid": own["runAsUser"], "gid": own["runAsGroup"], "groups": (shared,), **changes})

    def may(self, test: str, path: Path) -> bool:
        """What ``test`` of the shell says (``-r``, ``-w``) where this user asks."""
        done = subprocess.run(
            ["test", test, str(path)], check=False, user=self.uid, group=self.gid, extra_groups=self.groups
        )
        return done.returncode == 0


@dataclass
class Pod:
    """``port`` is nginx's. Before ``start``, ``nginx`` and ``socket_mode`` may be changed."""

    folder: Path
    application: int
    nginx: User = field(default_factory=lambda: User.of("nginx"))
    verifier: User = field(default_factory=lambda: User.of("verifier"))
    socket_mode: str | None = None
    port: int = field(default_factory=free_port)
    ops: int = field(default_factory=free_port)
    _running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "verifier.sock"

    def start(self) -> None:
        self.folder.chmod(0o755)
        self._make_socket_folder()
        self.start_verifier()
        self._configure_nginx()
        program = programs.require("nginx", Nginx.how_to_get)
        main = str(self.folder / "nginx" / "nginx.conf")
        user = self.nginx
        self._run("nginx", [program, "-e", "stderr", "-p", str(self.folder / "nginx"), "-c", main], user)
        self._wait(lambda: exchange(self.port, request()).status > 0)

    def start_verifier(self) -> None:
        config = self._configuration()
        # The project, and its Python, may lie where this user cannot look. To read is all that it is given: it helps
        # nobody to write into a folder, or to a socket.
        user = self.verifier
        become = [
            "setpriv",
            "--reuid",
            str(user.uid),
            "--regid",
            str(user.gid),
            "--groups",
            ",".join(map(str, user.groups)),
        ]
        reading = [
            "--inh-caps",
            "-all,+dac_read_search",
            "--ambient-caps",
            "+dac_read_search",
            "--bounding-set",
            "-all,+dac_read_search",
        ]
        serve = [str(Path(sys.executable).parent / "verifier"), "serve", "--config", str(config)]
        self._run("verifier", [*become, *reading, "--", *serve])
        self._wait(lambda: exchange(self.ops, request("/healthz")).status == 200)

    def kill_verifier(self) -> None:
        """As a container that dies: its socket stays behind."""
        process = self._running.pop("verifier")
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()
            process.wait()

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.output").read_text(errors="replace")

    def answer(self, token: str | None = None) -> int:
        return exchange(self.port, request(token=token)).status

    def _make_socket_folder(self) -> None:
        """An emptyDir: everybody's, and with ``fsGroup`` of that group, which its files get too."""
        folder = self.socket.parent
        folder.mkdir()
        os.chown(folder, 0, spec()["securityContext"]["fsGroup"])
        folder.chmod(0o2777)

    def _configuration(self) -> Path:
        made = yaml.safe_load((FILES / "verifier.yaml").read_text("utf-8"))
        keys = self.folder / "keys.json"
        keys.write_text(json.dumps({"keys": [public_jwk(key) for key in ISSUER.keys]}))
        made["issuers"] = [{"name": "main", "issuer": ISSUER.url, "audiences": [AUD], "jwks_file": str(keys)}]
        assert made["listen"] == "unix:/run/verifier/verifier.sock"
        made["listen"] = f"unix:{self.socket}"
        made["ops"]["listen"] = f"127.0.0.1:{self.ops}"
        if self.socket_mode is not None:
            made["socket_mode"] = self.socket_mode
        path = self.folder / "verifier.yaml"
        path.write_text(json.dumps(made))
        return path

    def _configure_nginx(self) -> None:
        own = self.folder / "nginx"
        own.mkdir()
        os.chown(own, self.nginx.uid, self.nginx.gid)
        text = (FILES / "nginx.conf").read_text("utf-8")
        for old, new in {
            "unix:/run/verifier/verifier.sock": f"unix:{self.socket}",
            "listen 8000;": f"listen 127.0.0.1:{self.port};",
            "127.0.0.1:3000": f"127.0.0.1:{self.application}",
        }.items():
            assert old in text, f"nginx.conf does not hold {old}"
            text = text.replace(old, new)
        gateway = Nginx(own, 0, self.application)
        (own / "server.conf").write_text(text)
        gateway.write_main(f"include {own}/server.conf;")

    def _run(self, name: str, command: Sequence[str], user: User | None = None) -> None:
        how: dict[str, Any] = {}
        if user is not None:
            how = {"user": user.uid, "group": user.gid, "extra_groups": user.groups}
        with (self.folder / f"{name}.output").open("ab") as output:
            kept = {key: value for key, value in os.environ.items() if not key.startswith("VERIFIER_")}
            self._running[name] = subprocess.Popen(command, stdout=output, stderr=output, env=kept, **how)

    def _wait(self, ready: Any) -> None:
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError, IndexError):
                if ready():
                    return
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                said = {name: self.output(name) for name in self._running}
                self.stop()
                raise RuntimeError(f"the pod does not start: {said}")
            time.sleep(0.05)


@contextmanager
def running(pod: Pod) -> Iterator[Pod]:
    try:
        pod.start()
        yield pod
    finally:
        pod.stop()
        shutil.rmtree(pod.folder)
