"""Another configuration for several processes: all of them, or none."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.app.processes import a_worker, children, lives, supervised
from tests.support import AUD, Client, FakeIssuer, eventually, settings
from verifier.app import Configuration, worker_handle, workers
from verifier.config import Settings

OTHER = "https://other.example"


class Written:
    """The configuration as it is now."""

    def __init__(self, issuer: FakeIssuer, admin_token_file: Path) -> None:
        ops = {"listen": "127.0.0.1:0", "admin_token_file": str(admin_token_file)}
        self.first: dict[str, Any] = {
            "workers": 2,
            "listen": "127.0.0.1:0",
            "ops": ops,
            "issuers": [{"name": "main", "issuer": issuer.url, "audiences": [AUD]}],
            "keys": {"deadline": "500ms"},
            "drain_delay": "0s",
        }
        self.audiences = [AUD]
        self.callers: list[dict[str, str]] = []

    def load(self) -> Settings:
        (main,) = self.first["issuers"]
        changes = {name: value for name, value in self.first.items() if name != "issuers"}
        if self.callers:
            changes["callers"] = self.callers
        return settings({**main, "audiences": self.audiences}, **changes)


@pytest.fixture
def written(issuer: FakeIssuer, admin_token_file: Path) -> Written:
    return Written(issuer, admin_token_file)


async def reasons(client: Client, token: str) -> set[str | None]:
    """Of enough connections that every worker had one."""
    return {reply.reason for reply in await asyncio.gather(*(client.verify(token) for _ in range(16)))}


def events(client: Client, name: str) -> list[dict[str, Any]]:
    return [line for line in client.log() if line["event"] == name]


async def test_all_of_them_decide_by_it_and_so_does_one_that_is_started_later(
    written: Written, issuer: FakeIssuer
) -> None:
    token = issuer.token("EdDSA")
    async with supervised(written.first, Configuration(written.load)) as client:
        assert await reasons(client, token) == {None}
        written.audiences = [OTHER]
        await client.service.renew()
        assert await reasons(client, token) == {"wrong_audience"}
        assert await client.metric("verifier_config_reloads_total", result="applied") == 1
        os.kill(a_worker(), signal.SIGKILL)
        await eventually(lambda: len(events(client, "worker_started")) == 3, within=20)
        assert await reasons(client, token) == {"wrong_audience"}


async def test_where_one_cannot_all_stay_as_they_are(
    written: Written, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have prepared for it by then, and can for the next one. What comes late of the first is not taken for
    the second."""
    token = issuer.token("EdDSA", aud=OTHER)
    async with supervised(written.first, Configuration(written.load)) as client:
        assert await reasons(client, token) == {"wrong_audience"}
        stopped = a_worker()
        os.kill(stopped, signal.SIGSTOP)
        written.audiences = ["https://third.example"]
        with monkeypatch.context() as hasty:
            hasty.setattr(workers, "PREPARE", -0.5)
            await client.service.renew()
        refused = events(client, "config_refused")[0]
        assert refused["detail"].endswith("did not get ready for it in time")
        written.audiences = [OTHER]
        renewing = asyncio.create_task(client.service.renew())
        await asyncio.sleep(0.1)
        os.kill(stopped, signal.SIGCONT)
        await renewing
        assert await reasons(client, token) == {None}
        assert stopped in children(os.getpid())


async def test_one_that_hangs_when_it_should_switch_is_killed_and_its_successor_has_the_new_one(
    written: Written, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "OBEY", 0.3)
    token = issuer.token("EdDSA")
    async with supervised(written.first, Configuration(written.load)) as client:
        hanging = a_worker()
        original = worker_handle.WorkerHandle.prepare

        async def prepares_and_hangs(self: worker_handle.WorkerHandle, *arguments: Any) -> Any:
            told = await original(self, *arguments)
            if self.pid == hanging:
                os.kill(hanging, signal.SIGSTOP)
            return told

        monkeypatch.setattr(worker_handle.WorkerHandle, "prepare", prepares_and_hangs)
        written.audiences = [OTHER]
        await client.service.renew()
        assert not lives(hanging)
        await eventually(lambda: len(events(client, "worker_started")) == 3, within=20)
        assert await reasons(client, token) == {"wrong_audience"}


async def test_one_that_begins_meanwhile_with_the_old_one_does_not_keep_it(
    written: Written, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token("EdDSA")
    async with supervised(written.first, Configuration(written.load)) as client:
        dying, goes_on = a_worker(), asyncio.Event()
        original = worker_handle.WorkerHandle.prepare

        async def waits(self: worker_handle.WorkerHandle, *arguments: Any) -> Any:
            told = await original(self, *arguments)
            await goes_on.wait()
            return told

        monkeypatch.setattr(worker_handle.WorkerHandle, "prepare", waits)
        written.audiences = [OTHER]
        renewing = asyncio.create_task(client.service.renew())
        await asyncio.sleep(0.2)
        os.kill(dying, signal.SIGKILL)
        await eventually(lambda: len(events(client, "worker_started")) == 3, within=20)
        goes_on.set()
        await renewing
        await eventually(lambda: len(events(client, "worker_started")) == 4, within=20)
        assert await reasons(client, token) == {"wrong_audience"}


async def test_what_keeps_a_worker_from_it_is_told_as_by_one_process(
    written: Written, issuer: FakeIssuer, tmp_path: Path
) -> None:
    written.callers = [{"name": "a", "secret_file": str(tmp_path / "missing")}]
    async with supervised(written.first, Configuration(written.load)) as client:
        await client.service.renew()
        assert await reasons(client, issuer.token("EdDSA")) == {None}
        (refused,) = events(client, "config_refused")
        assert refused["detail"].startswith("callers[0].secret_file: cannot read")
