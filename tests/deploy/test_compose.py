"""``deploy/compose``: what it names is there, and every service has the rights that it needs and no more."""

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from tests.redis_servers import RedisServer
from verifier.config import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]

every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def binds() -> list[tuple[str, str]]:
    mounts = [(name, mount) for name, service in SERVICES.items() for mount in service.get("volumes", ())]
    return [(name, mount["source"]) for name, mount in mounts if isinstance(mount, dict)]


@pytest.mark.parametrize(("service", "source"), binds())
def test_what_is_mounted_is_there(service: str, source: str) -> None:
    assert (FOLDER / source).exists()


def test_the_sample_configuration_can_be_used() -> None:
    made = load(FOLDER / "verifier.yaml")
    assert (made.issuers[0].name, made.redis.url) == ("google", "redis://redis:6379")


def test_the_secrets_that_it_names_are_those_that_it_is_given() -> None:
    made = load(FOLDER / "verifier.yaml")
    named = {made.ops.admin_token_file, made.redis.password_file, made.redis.key_file}
    assert named == {Path("/run/secrets", name) for name in SERVICES["verifier"]["secrets"]}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder that the script makes, by a copy of it."""
    script = tmp_path / "secrets.sh"
    script.write_bytes((FOLDER / "secrets.sh").read_bytes())
    subprocess.run(["sh", str(script)], check=True)
    return tmp_path / "secrets"


def test_the_script_makes_every_secret_and_no_other_user_can_reach_it(secrets: Path) -> None:
    files = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert {path.name for path in secrets.iterdir()} == files
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    # The users of the containers own none of them, and read them all the same.
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o644}


def test_the_script_keeps_the_secrets_that_are_there(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    subprocess.run(["sh", str(secrets.parent / "secrets.sh")], check=True)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before


def test_the_secrets_that_are_made_can_be_used(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, name in (("OPS__ADMIN_TOKEN_FILE", "admin_token"), ("REDIS__KEY_FILE", "cache_key")):
        monkeypatch.setenv(f"VERIFIER__{key}", str(secrets / name))
    load(FOLDER / "verifier.yaml")
    password = (secrets / "redis_password").read_text("utf-8").strip()
    assert (secrets / "redis_conf").read_text("utf-8") == f"requirepass {password}\n"


def test_redis_takes_its_command_and_nobody_without_the_password(secrets: Path) -> None:
    _, _, *options = SERVICES["redis"]["command"]
    server = RedisServer(tuple(options))
    server.launch(str(secrets / "redis_conf"))
    try:
        password = (secrets / "redis_password").read_text("utf-8").strip()
        client = Redis(port=server.port, password=password, retry=Retry(ConstantBackoff(0.05), 100))
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        with pytest.raises(AuthenticationError):
            Redis(port=server.port, retry=Retry(ConstantBackoff(0), 0)).ping()
    finally:
        server.stop()


@every_service
def test_a_service_can_write_and_do_no_more_than_it_must(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"verifier"}))
def test_a_service_says_whether_it_is_well(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}  # the verifier's is in its image


@every_service
def test_a_service_is_published_on_loopback_alone(service: dict[str, Any]) -> None:
    assert [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")] == []


def test_the_ops_port_answers_on_the_network_of_monitoring_alone() -> None:
    verifier = SERVICES["verifier"]
    address, _, port = verifier["environment"]["VERIFIER__OPS__LISTEN"].partition(":")
    assert verifier["networks"]["monitoring"] == {"ipv4_address": address}
    assert COMPOSE["networks"]["monitoring"]["internal"] is True
    assert [published for published in verifier["ports"] if published.endswith(f":{port}")] == []


def test_nothing_but_the_verifier_reaches_redis() -> None:
    assert {name for name, service in SERVICES.items() if "store" in service["networks"]} == {"verifier", "redis"}
    assert COMPOSE["networks"]["store"] == {"internal": True}
