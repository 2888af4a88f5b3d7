"""The image of the Dockerfile: what is in it, and that it serves where nothing can be written."""

import json
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from joserfc.jwk import RSAKey

from tests.e2e.image.building import VERSION, Image, as_root, built, require_programs
from tests.e2e.image.running import Container, run, running
from tests.grpc_check import UNAUTHENTICATED, check, check_request
from tests.redis_servers import RedisServer
from tests.support import eventually, free_port
from tests.tls import authority, certificate
from verifier.dev.issuer import new_key

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.xdist_group("image")]

ISSUER, AUDIENCE = "https://issuer.example", "https://api.example"
PYTHON = "/opt/verifier/bin/python"


@pytest.fixture(scope="module")
def image(testrun_uid: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Built once, however many processes run these tests."""
    require_programs()
    folder = Path(tempfile.gettempdir(), f"verifier-image-{testrun_uid}")
    with built(folder, tmp_path_factory.getbasetemp().parent / "image.lock") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is mounted as the configuration, readable by everyone: one issuer, whose keys are a file."""
    key = new_key("RS256")
    assert isinstance(key, RSAKey)
    write(tmp_path / "private.json", json.dumps(key.as_dict(private=True)))
    write(tmp_path / "jwks.json", json.dumps({"keys": [key.as_dict(private=False)]}))
    configure(tmp_path)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    return tmp_path


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    return path


def configure(folder: Path, **changes: object) -> None:
    issuer = {"name": "main", "issuer": ISSUER, "audiences": [AUDIENCE], "jwks_file": "/etc/verifier/jwks.json"}
    write(folder / "verifier.yaml", yaml.safe_dump({"issuers": [issuer], **changes}))


def token(image: Image, folder: Path) -> str:
    claims = ("--claim", f"iss={ISSUER}", "--claim", f"aud={AUDIENCE}", "--claim", "sub=alice")
    minted = run(image, folder, "mint", "--key", "/etc/verifier/private.json", *claims)
    assert minted.returncode == 0, minted.stdout
    return minted.stdout.strip()


@pytest.fixture
def served(image: Image, folder: Path) -> Iterator[Container]:
    with running(image, folder) as container:
        container.wait_until_ready()
        yield container


def files(image: Image) -> list[tuple[Path, int, int, int]]:
    """Path, mode, user and group of everything in the image but links; ``/dev`` is the runtime's."""
    told = as_root("find", str(image.files), "-xdev", "!", "-type", "l", "-printf", "%P\\t%m\\t%U\\t%G\\n").stdout
    rows = (line.split("\t") for line in told.splitlines())
    return [(Path(path), int(mode, 8), int(user), int(group)) for path, mode, user, group in rows if path[:3] != "dev"]


def test_a_request_without_a_token_is_refused(served: Container) -> None:
    assert served.ask("http://127.0.0.1:8080/verify")[0] == 401


def test_a_good_token_is_allowed(served: Container, image: Image, folder: Path) -> None:
    status, body = served.ask(
        "http://127.0.0.1:8080/verify", "--header", f"Authorization: Bearer {token(image, folder)}"
    )
    assert (status, json.loads(body)["principal"]["subject"]) == (200, "alice")


def test_both_ports_answer_on_every_address_and_not_on_loopback_alone(served: Container) -> None:
    other = "127.0.0.2"
    assert served.ask(f"http://{other}:8080/verify")[0] == 401
    assert served.ask(f"http://{other}:9090/healthz")[0] == 200


def test_the_health_check_succeeds_while_the_service_answers(served: Container, image: Image) -> None:
    kind, *command = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    checked = served.execute(*command)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_health_check_fails_where_nothing_answers(served: Container, image: Image) -> None:
    _, *command = image.config["Healthcheck"]["Test"]
    checked = served.execute(*command, VERIFIER__OPS__LISTEN="127.0.0.1:9")
    assert checked.returncode == 1, checked.stdout + checked.stderr


def test_sigterm_ends_it_with_zero(served: Container, image: Image) -> None:
    assert image.config["StopSignal"] == "SIGTERM"
    assert served.stop() == 0


def test_a_configuration_that_cannot_be_used_ends_it_with_what_is_wrong(image: Image, folder: Path) -> None:
    configure(folder, listne="0.0.0.0:80")
    ended = run(image, folder)
    assert (ended.returncode, "listne is no key" in ended.stdout) == (2, True), ended.stdout


async def test_workers_tls_grpc_and_redis_need_nothing_to_write_to(image: Image, folder: Path) -> None:
    data, grpc, ops = free_port(), free_port(), free_port()
    signer = authority()
    write(folder / "tls.pem", certificate(signer, "localhost"))
    redis = RedisServer()
    redis.start()
    try:
        configure(
            folder,
            workers=2,
            listen=f"127.0.0.1:{data}",
            grpc={"listen": f"127.0.0.1:{grpc}"},
            ops={"listen": f"127.0.0.1:{ops}"},
            tls={"certificate_file": "/etc/verifier/tls.pem", "key_file": "/etc/verifier/tls.pem"},
            redis={"url": redis.url, "trusted": True, "timeout": "1s"},
        )
        with running(image, folder, network="host") as container:
            container.wait_until_ready(f"http://127.0.0.1:{ops}")
            pem = str(write(folder / "ca.pem", signer.pem))
            assert container.ask(f"https://localhost:{data}/verify", "--cacert", pem)[0] == 401
            answer = await check(f"127.0.0.1:{grpc}", check_request("GET", "api.example", "/pets"))
            assert answer.status.code == UNAUTHENTICATED
            await eventually(
                lambda: "\nverifier_workers 2.0" in container.ask(f"http://127.0.0.1:{ops}/metrics")[1], 30
            )
            assert container.stop() == 0
            log = [json.loads(line) for line in container.log.read_text("utf-8").splitlines()]
            assert [line for line in log if line["level"] in {"warning", "error"}] == []
    finally:
        redis.stop()


def test_it_runs_as_a_user_without_rights_or_name(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert "65532" not in (image.files / "etc/passwd").read_text("utf-8")


def test_the_user_can_write_to_nothing(image: Image) -> None:
    found = [
        str(path) for path, mode, user, group in files(image) if mode & stat.S_IWOTH or user == 65532 or group == 65532
    ]
    assert found == []


def test_nothing_raises_rights(image: Image) -> None:
    assert [
        str(path)
        for path, mode, _, _ in files(image)
        if mode & (stat.S_ISUID | stat.S_ISGID) and not (image.files / path).is_dir()
    ] == []


def test_nothing_installs_compiles_or_is_left_of_the_build(image: Image) -> None:
    unwanted = {"pip", "pip3", "ensurepip", "cc", "make", "hatchling", "uv"}
    found = [str(path) for path, *_ in files(image) if path.name in unwanted or path.suffix == ".whl"]
    assert found == []
    assert list((image.files / "var/lib/apt/lists").iterdir()) == []
    assert not (image.files / "src").exists()
    assert not (image.files / "etc/pip.conf").exists()


def test_every_module_has_bytecode_that_no_source_is_compared_with(image: Image, folder: Path) -> None:
    looked = """
import importlib, sys
import verifier.app, verifier.cli, verifier.server.grpc_port, verifier.store.redis
cached = [module.__spec__.cached for module in list(sys.modules.values()) if getattr(module, "__spec__", None)]
cached = [path for path in cached if path and path.endswith(".pyc")]
assert len(cached) > 500, len(cached)
for path in cached:
    flags = open(path, "rb").read(8)[4]
    if flags != 1: print(path, flags)
"""
    looked_at = run(image, folder, PYTHON, "-c", looked)
    assert (looked_at.returncode, looked_at.stdout) == (0, "")


def test_it_says_what_it_is(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image.config["Labels"].items()}
    assert labels["title"] == "token-verifier"
    assert labels["version"] == VERSION
    assert labels["licenses"] == "Apache-2.0"
    assert set(image.config["ExposedPorts"]) == {"8080/tcp", "9090/tcp", "9191/tcp"}


def test_it_takes_commands(image: Image, folder: Path) -> None:
    assert run(image, folder, "version").returncode == 0


def test_what_the_verifier_adds_to_its_base_stays_small(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {
        path: int(as_root("du", "-sm", str(image.files / path)).stdout.split()[0]) for path in (".", "opt/verifier")
    }
    with capsys.disabled():
        print(f"\nimage: {sizes['.']} MB with the test's base, {sizes['opt/verifier']} MB of it the verifier's")  # noqa: T201
    assert sizes["opt/verifier"] < 200
