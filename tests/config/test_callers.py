"""Who may ask, as the configuration says it: its keys, and the files that it names."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests import tls
from tests.config.test_loading import GOOD, loaded, problems, written
from verifier.cli import main
from verifier.config.files import file_problems

LAMBDA = {"name": "lambda", "secret_file": "/run/secrets/lambda"}
PAIR = {"certificate_file": "/run/tls.crt", "key_file": "/run/tls.key"}
SECRET = "0123456789abcdef"


def test_nobody_has_to_show_a_secret_unless_it_is_configured(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    assert (made.callers, made.callers_exempt, made.tls.files()) == ((), (), {})


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"callers": []}, "callers", "an empty list is refused"),
        ({"callers": None}, "callers", "expected a list"),
        ({"callers": [LAMBDA, LAMBDA]}, "callers[1].name", "'lambda' is callers[0] already"),
        ({"callers": [{**LAMBDA, "name": "unknown"}]}, "callers[0].name", "those that are refused"),
        ({"callers": [{**LAMBDA, "name": "A b"}]}, "callers[0].name", "pattern"),
        ({"callers": [{"name": "lambda"}]}, "callers[0].secret_file", "mandatory"),
        ({"callers": [{**LAMBDA, "secret": SECRET}]}, "callers[0].secret", "no key of the configuration"),
        ({"callers": [LAMBDA], "callers_exempt": ["10.0.0.1/8"]}, "callers_exempt[0]", "network"),
        ({"callers_exempt": ["10.0.0.0/8"]}, "callers_exempt", "does nothing without callers"),
        ({"tls": {"certificate_file": "/run/tls.crt"}}, "tls.key_file", "is mandatory with certificate_file"),
        ({"tls": {"key_file": "/run/tls.key"}}, "tls.certificate_file", "is mandatory with key_file"),
        ({"tls": {**PAIR, "ca_file": "/run/ca"}}, "tls.ca_file", "no key of the configuration"),
        ({"tls": PAIR, "listen": "unix:/run/v"}, "tls", "is for an address"),
        ({"identity_headers": {"X-Verifier-Secret": "sub"}}, "identity_headers", "of its own"),
    ],
)
def test_a_mistake_is_told(changes: dict[str, Any], key: str, said: str, tmp_path: Path) -> None:
    found = problems(tmp_path, {"issuers": [GOOD], **changes})
    assert [*found] == [key]
    assert said in found[key]


def test_authorities_for_clients_alone_are_no_tls(tmp_path: Path) -> None:
    found = problems(tmp_path, {"issuers": [GOOD], "tls": {"client_ca_file": "/run/ca"}})
    assert set(found) == {"tls.certificate_file", "tls.key_file"}


def in_files(tmp_path: Path, **changes: Any) -> dict[str, str]:
    return {problem.path: problem.message for problem in file_problems(loaded(tmp_path, **changes))}


def file(tmp_path: Path, name: str, content: str | bytes) -> str:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("", "16 characters or more, found 0"),
        (f" {SECRET[:-1]}\n", "16 characters or more, found 15"),
        (f"{SECRET}\n{SECRET}", "one line of printable ASCII"),
        (f"{SECRET}ü", "one line of printable ASCII"),
        (b"\xff" * 16, "one line of printable ASCII"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told(content: str | bytes | None, said: str, tmp_path: Path) -> None:
    place = str(tmp_path / "absent") if content is None else file(tmp_path, "secret", content)
    found = in_files(tmp_path, callers=[{"name": "lambda", "secret_file": place}])
    assert [*found] == ["callers[0].secret_file"]
    assert said in found["callers[0].secret_file"]
    assert SECRET not in found["callers[0].secret_file"]


def test_a_secret_of_sixteen_characters_can_be_used(tmp_path: Path) -> None:
    assert in_files(tmp_path, callers=[{"name": "a", "secret_file": file(tmp_path, "a", f"{SECRET}\n")}]) == {}


def test_two_callers_have_two_secrets(tmp_path: Path) -> None:
    named = [("a", SECRET), ("b", "another-one-of-length"), ("c", f"{SECRET}\n")]
    callers = [{"name": name, "secret_file": file(tmp_path, name, content)} for name, content in named]
    assert in_files(tmp_path, callers=callers) == {
        "callers[2].secret_file": "holds the secret of 'a': nobody could tell them apart"
    }


def test_an_admin_token_is_such_a_secret_too(tmp_path: Path) -> None:
    place = file(tmp_path, "admin", "short")
    assert "16 characters" in in_files(tmp_path, ops={"admin_token_file": place})["ops.admin_token_file"]


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, str]:
    place = file(tmp_path, "pair.pem", tls.certificate(tls.authority(), "localhost"))
    return {"certificate_file": place, "key_file": place}


def encrypted() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )


def test_a_certificate_with_its_key_can_be_used(pair: dict[str, str], tmp_path: Path) -> None:
    assert in_files(tmp_path, tls=pair) == {}
    authorities = file(tmp_path, "ca.pem", tls.authority().pem + tls.authority().pem)
    assert in_files(tmp_path, tls={**pair, "client_ca_file": authorities}) == {}


@pytest.mark.parametrize(
    ("key", "content", "place", "said"),
    [
        ("certificate_file", None, "tls.certificate_file", "cannot read"),
        ("key_file", b"", "tls.key_file", "is empty"),
        ("certificate_file", b"hello", "tls", "expected a certificate"),
        ("key_file", b"hello", "tls", "expected a certificate"),
        ("client_ca_file", b"hello", "tls", "expected a certificate"),
        ("key_file", tls.certificate(tls.authority(), "other"), "tls", "not that of the certificate"),
        ("key_file", encrypted(), "tls", "the key is encrypted"),
    ],
)
def test_files_for_tls_that_cannot_be_used_are_told(
    key: str, content: bytes | None, place: str, said: str, pair: dict[str, str], tmp_path: Path
) -> None:
    other = str(tmp_path / "absent") if content is None else file(tmp_path, "other", content)
    found = in_files(tmp_path, tls={**pair, key: other})
    assert [*found] == [place]
    assert said in found[place]


@pytest.mark.parametrize("command", [["check-config"], ["serve", "--config"]])
def test_a_secret_that_is_not_there_is_told_before_anything_is_served(command: list[str], tmp_path: Path) -> None:
    any_port = {"listen": "127.0.0.1:0"}
    callers = [{"name": "lambda", "secret_file": str(tmp_path / "absent")}]
    config = written(tmp_path, {"issuers": [GOOD], "callers": callers, **any_port, "ops": any_port})
    result = CliRunner().invoke(main, [*command, str(config)])
    assert result.exit_code != 0
    assert "callers[0].secret_file cannot read" in result.output
