"""The program of `helm test`, run against a service."""

import asyncio
import os
import sys

from tests.helm.chart import SETS, container, environment, of_kind, rendered
from tests.helm.generated import CHART
from tests.support import Client, free_port

QUESTIONS = "QUESTIONS"


async def ask(questions: str) -> tuple[int, str, str]:
    """The exit code, and what is said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHART / "files" / "ask.py"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, QUESTIONS: questions, "SECONDS": "0"},
    )
    said, complained = await process.communicate()
    return process.returncode or 0, said.decode(), complained.decode()


async def test_it_passes_where_a_request_without_a_token_is_refused(client: Client) -> None:
    url = f"{client.url}/verify"
    assert await ask(f"{url}=401") == (0, f"{url} answers 401\n", "")


async def test_it_fails_with_what_was_found_where_it_is_not(client: Client) -> None:
    url = f"{client.url}/verify"
    assert await ask(f"{url}=200") == (1, "", f"{url} answers 401, expected 200\n")


async def test_it_fails_where_nobody_answers() -> None:
    url = f"http://127.0.0.1:{free_port()}/readyz"
    code, _, complained = await ask(f"{url}=200")
    assert (code, complained.startswith(f"{url} does not answer: ")) == (1, True)


def test_the_pod_runs_this_very_program_and_expects_what_each_release_answers() -> None:
    asked = {}
    for name in SETS:
        [pod] = of_kind(rendered(name), "Pod")
        one = container(pod, "ask")
        assert one["args"] == [(CHART / "files" / "ask.py").read_text("utf-8")]
        asked[name] = environment(one)[QUESTIONS].split()
    ready, verify = asked["minimal"]
    assert ready == "http://verifier-ops.auth.svc:9090/readyz=200"
    assert verify == "http://verifier.auth.svc:8080/verify=401"
    assert asked["callers"][1] == "https://verifier.auth.svc:8080/verify=403"  # it has no secret to show
    assert asked["mutual-tls"] == [ready]  # and no certificate
