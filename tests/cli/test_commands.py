"""The commands as a user runs them: what they print and how they end."""

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner, Result

from tests.support import AUD, FakeIssuer, claims, private_key, public_jwk, sign
from tests.tls import authority, certificate
from verifier.cli import main


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, catch_exceptions=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public_jwk(private_key("EdDSA"))]}))
    return write(tmp_path)


def write(tmp_path: Path, **changes: Any) -> Path:
    issuer = {
        "name": "main",
        "issuer": "https://acme.eu.auth0.com/",
        "audiences": [AUD],
        "jwks_file": str(tmp_path / "jwks.json"),
        **changes,
    }
    path = tmp_path / "verifier.yaml"
    common = {"listen": "127.0.0.1:0", "ops": {"listen": "127.0.0.1:0"}, "drain_delay": "0s"}
    path.write_text(yaml.safe_dump({"issuers": [issuer], **common}))
    return path


def token(**changes: Any) -> str:
    return sign(claims(time.time(), **{"iss": "https://acme.eu.auth0.com/", **changes}), algorithm="EdDSA")


def test_help_lists_every_command() -> None:
    result = run("--help")
    for name in ("serve", "dev", "check-config", "explain", "doctor", "revoke", "revocations", "mint", "version"):
        assert name in result.output
        assert run(name, "--help").exit_code == 0
    assert run("nothing").exit_code == 2


def test_version_names_the_libraries_that_decide() -> None:
    assert "joserfc" in run("version").output
    assert json.loads(run("version", "--json").output)["verifier"]


def test_a_good_configuration_can_be_used(config: Path) -> None:
    result = run("check-config", str(config))
    assert (result.exit_code, "main" in result.output) == (0, True)
    assert json.loads(run("check-config", "--config", str(config), "--json").output)["usable"]


def test_a_configuration_with_five_mistakes_names_all_five(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("""
listen: nowhere
issuers:
  - name: main
    issuer: http://issuer.example
    algorithms: [none]
    leeway: 30
""")
    result = run("check-config", str(tmp_path / "bad.yaml"), "--json")
    assert result.exit_code == 1
    paths = {problem["path"] for problem in json.loads(result.stdout)["problems"]}
    prefix = "issuers[0]."
    assert paths == {"listen", f"{prefix}issuer", f"{prefix}algorithms[0]", f"{prefix}leeway", f"{prefix}audiences"}
    text = run("check-config", str(tmp_path / "bad.yaml"))
    assert all(path in text.output for path in paths)


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("jwks_file", None, "cannot read"),
        ("jwks_file", '{"keys":[]}', "no key in the set can be used"),
        ("jwks_file", '{"keys":[{"kty":"oct","k":"AA"}]}', "symmetric"),
        ("jwks_file", "{", "Expecting"),
        ("public_key_files", "hello", "expected a PEM"),
        ("secret_file", "short", "32 bytes"),
        ("ca_file", "hello", "certificates in PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named(key: str, content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    changes: dict[str, Any] = {"jwks_file": None, key: [str(path)] if key == "public_key_files" else str(path)}
    if key == "secret_file":
        changes["algorithms"] = ["HS256"]
    result = run("check-config", str(write(tmp_path, **changes)))
    assert result.exit_code == 1
    assert said in result.output


def test_the_schema_is_printed_for_editors() -> None:
    schema = json.loads(run("check-config", "--schema").output)
    assert "issuers" in schema["properties"]


def test_explain_ends_with_yes_for_a_good_token(config: Path) -> None:
    result = run("explain", token(), "--config", str(config))
    assert (result.exit_code, "allowed" in result.output) == (0, True)


def test_explain_names_the_character_that_differs(config: Path) -> None:
    result = run("explain", token(iss="https://acme.eu.auth0.com"), "--config", str(config))
    assert result.exit_code == 1
    assert "untrusted_issuer" in result.output
    assert "character 26 should be '/' and is the end" in result.output


@pytest.mark.parametrize("prefix", ["", "Bearer ", "  bearer  "])
def test_explain_reads_the_token_from_standard_input(prefix: str, config: Path) -> None:
    for argument in ([], ["-"]):
        assert run("explain", *argument, "--config", str(config), stdin=f"{prefix}{token()}\n").exit_code == 0


def test_explain_reads_the_token_from_a_file(config: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token() + "\n")
    assert run("explain", "--file", str(tmp_path / "token"), "--config", str(config)).exit_code == 0
    assert run("explain", "--file", str(tmp_path / "none"), "--config", str(config)).exit_code == 2


def test_explain_shows_all_that_is_wrong_as_json(config: Path) -> None:
    arguments = ["--config", str(config), "--json", "--scope", "admin", "--audience", "x"]
    result = run("explain", token(aud="other", exp=1), *arguments)
    shown = json.loads(result.output)
    failed = [step["check"] for step in shown["steps"] if step["outcome"] == "fails"]
    assert (result.exit_code, shown["reason"]) == (1, "wrong_audience")
    assert failed == ["audience", "expiry", "demanded audience", "demanded scopes"]


def test_explain_can_judge_at_another_time(config: Path) -> None:
    assert run("explain", token(), "--config", str(config), "--at", str(time.time() + 9999)).exit_code == 1


def test_explain_says_that_keys_cannot_be_had(tmp_path: Path) -> None:
    result = run("explain", token(), "--config", str(write(tmp_path)))
    assert "keys_unavailable" in result.output
    assert "No such file" in result.output


def test_a_command_without_a_configuration_cannot_be_carried_out() -> None:
    result = run("explain", token())
    assert (result.exit_code, "--config FILE" in result.output) == (2, True)


async def in_thread(*arguments: str) -> Result:
    """Commands have a loop of their own, so beside a running issuer they get a thread."""
    return await asyncio.to_thread(run, *arguments)


async def test_doctor_reports_on_every_issuer(issuer: FakeIssuer, tmp_path: Path) -> None:
    good = write(tmp_path, issuer=issuer.url, jwks_file=None)
    result = await in_thread("doctor", "--config", str(good), "--json")
    report = json.loads(result.output)[0]
    assert (result.exit_code, report["keys"], report["problems"]) == (0, ["k1 Ed25519"], [])
    assert abs(report["clock_skew"]) < 3
    assert report["latency"] < 1
    assert "k1" in (await in_thread("doctor", "--config", str(good))).output


async def test_doctor_names_what_is_not_well(issuer: FakeIssuer, tmp_path: Path) -> None:
    async def said(**changes: Any) -> str:
        result = await in_thread("doctor", "--config", str(write(tmp_path, **{"jwks_file": None, **changes})))
        assert result.exit_code == 1
        return result.output

    assert "its issuer is" in await said(issuer=f"{issuer.url}/")
    assert "no key fits the configured algorithms (RS256)" in await said(issuer=issuer.url, algorithms=["RS256"])
    issuer.keys = [private_key("HS256")]
    assert "no usable key" in await said(issuer=issuer.url)
    await issuer.stop()
    assert "openid-configuration" in await said(issuer=issuer.url)


async def test_doctor_reports_a_certificate_that_is_near_its_end(tmp_path: Path) -> None:
    ca, chain = authority(), tmp_path / "server.pem"
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    chain.write_bytes(certificate(ca, "localhost", days=3))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)

    async def jwks(_request: web.Request) -> web.Response:
        late = {"Date": formatdate(time.time() - 300, usegmt=True)}
        return web.json_response({"keys": [public_jwk(private_key("EdDSA"))]}, headers=late)

    app = web.Application()
    app.router.add_get("/jwks", jwks)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    uri = f"https://localhost:{runner.addresses[0][1]}/jwks"
    config = write(tmp_path, jwks_file=None, jwks_uri=uri, ca_file=str(tmp_path / "ca.pem"))
    try:
        result = await in_thread("doctor", "--config", str(config), "--json")
    finally:
        await runner.cleanup()
    report = json.loads(result.output)[0]
    assert 2 < report["certificate_days"] <= 3
    clock, certificate_end = report["problems"]
    assert re.fullmatch(r"its clock differs by -30\d s, the leeway is 30 s", clock)
    assert certificate_end == "its certificate ends in 3 days"


def test_doctor_reads_key_files(config: Path) -> None:
    assert run("doctor", "--config", str(config)).exit_code == 0


def test_mint_signs_any_claims_with_a_given_key(config: Path, tmp_path: Path) -> None:
    key = private_key("EdDSA").as_dict(private=True)
    (tmp_path / "key.json").write_text(json.dumps({**key, "alg": "EdDSA"}))
    made = [
        "--claim",
        "iss=https://acme.eu.auth0.com/",
        "--claim",
        f"aud={AUD}",
        "--claim",
        "n=[1]",
        "--claim",
        "x=null",
    ]
    result = run("mint", "--key", str(tmp_path / "key.json"), *made)
    assert run("explain", result.output.strip(), "--config", str(config)).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [["--claim", "novalue"], ["--expires-in", "1"], ["--key", "none.json"], ["--issuer", "http://127.0.0.1:1"]],
)
def test_mint_says_what_is_wrong(arguments: list[str]) -> None:
    result = run("mint", *arguments)
    assert result.exit_code == 2
    assert "error:" in result.output


@pytest.fixture
def ports() -> list[str]:
    import socket  # noqa: PLC0415 - only here

    sockets = [socket.socket() for _ in range(3)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    numbers = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return numbers


@pytest.fixture
def dev(ports: list[str]) -> Iterator[subprocess.Popen[str]]:
    options = ["--port", ports[0], "--ops-port", ports[1], "--issuer-port", ports[2]]
    program = str(Path(sys.executable).parent / "verifier")
    process = subprocess.Popen(
        [program, "dev", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def printed_lines(process: subprocess.Popen[str]) -> dict[str, str]:
    """What ``verifier dev`` prints: title → line to paste."""
    assert process.stdout is not None
    lines: dict[str, str] = {}
    title = ""
    for line in process.stdout:
        if line.startswith("# "):
            title = line[2:].strip()
        elif title:
            lines[title] = line.strip()
            title = ""
        if line.startswith("Ctrl-C"):
            break
    return lines


def test_the_lines_that_dev_prints_show_what_they_say(dev: subprocess.Popen[str]) -> None:
    lines = printed_lines(dev)
    assert len(lines) == 10
    if shutil.which("curl") is None and "CI" not in os.environ:
        pytest.skip("curl is not installed, and the lines to paste use it")
    for title, line in lines.items():
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=20, check=False)
        if title[:3].isdigit():
            assert f" {title[:3]} " in done.stdout.splitlines()[0], title
            assert title[4:].split(":")[0] in done.stdout or title.startswith("200"), title
        elif "near miss" in title:
            assert "it has a slash at its end that is not expected" in done.stdout
        elif "RFC 6749" in title:
            assert json.loads(done.stdout)["token_type"] == "Bearer"
        else:
            assert json.loads(done.stdout)["kids"]


async def test_a_rotated_development_issuer_goes_on_being_trusted(dev: subprocess.Popen[str], ports: list[str]) -> None:
    await asyncio.to_thread(printed_lines, dev)
    issuer, verify = f"http://127.0.0.1:{ports[2]}", f"http://127.0.0.1:{ports[0]}/verify"
    async with aiohttp.ClientSession() as http:

        async def status() -> int:
            async with http.post(f"{issuer}/mint", json={}) as made:
                bearer = f"Bearer {(await made.json())['access_token']}"
            async with http.get(verify, headers={"Authorization": bearer}) as answer:
                return answer.status

        assert await status() == 200
        await asyncio.sleep(2.1)
        await http.post(f"{issuer}/rotate")
        assert await status() == 200
    await asyncio.sleep(0.01)  # in which its connections end


def test_serve_answers_until_it_is_told_to_stop(config: Path) -> None:
    program = str(Path(sys.executable).parent / "verifier")
    process = subprocess.Popen([program, "serve", "--config", str(config)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = next(json.loads(text) for text in process.stderr if '"serving"' in text)
    import urllib.error  # noqa: PLC0415 - only here
    import urllib.request  # noqa: PLC0415 - only here

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{line['address']}/verify", timeout=5)
    refused.value.close()
    process.send_signal(signal.SIGTERM)
    assert (process.wait(10), refused.value.code) == (0, 401)
    process.stderr.close()


def test_serve_keeps_descriptors_for_itself_where_they_are_few(config: Path) -> None:
    program = str(Path(sys.executable).parent / "verifier")
    limited = f"ulimit -n 200; exec {program} serve --config {config}"
    process = subprocess.Popen(["bash", "-c", limited], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = next(json.loads(text) for text in process.stderr if '"few_descriptors"' in text)
    process.terminate()
    process.wait(10)
    process.stderr.close()
    assert "limits.connections is 72 here" in line["detail"]


def test_serve_says_that_a_port_is_taken(config: Path, ports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import socket  # noqa: PLC0415 - only here

    with socket.create_server(("127.0.0.1", int(ports[0]))):
        monkeypatch.setenv("VERIFIER__LISTEN", f"127.0.0.1:{ports[0]}")
        done = subprocess.run(
            [str(Path(sys.executable).parent / "verifier"), "serve", "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert done.returncode == 2
    assert "cannot listen" in done.stderr


def test_serve_refuses_a_bad_configuration_with_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("listen: x\nissuers: []\n")
    result = run("serve", "--config", str(tmp_path / "bad.yaml"))
    assert result.exit_code == 2
    assert "listen" in result.output
    assert "at least one issuer" in result.output
