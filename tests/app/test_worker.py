"""The process of a worker, started as its supervisor would."""

import asyncio
import errno
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import settings
from verifier.app.channel import Channel, Explain, ExplainReply, Failed, Start
from verifier.app.worker import _Worker
from verifier.core.revocation import Kind, Lift, Revocation
from verifier.engine import Question
from verifier.observability.log import open_log
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "verifier.cli.worker", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
        )
        theirs.close()
        yield process, ours


async def test_one_whose_supervisor_is_gone_leaves(tmp_path: Path) -> None:
    async with started(tmp_path) as (process, end):
        end.close()
        _, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")


async def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    made = settings({"name": "main", "issuer": "http://127.0.0.1:1", "audiences": ["a"]}, workers=2)
    async with started(tmp_path) as (process, end):
        channel = await Channel.of(end)
        channel.send(Start(1, made, (999,), ()))
        failed = await channel.receive()
        assert isinstance(failed, Failed)
        assert failed.error is not None
        assert failed.error.errno == errno.EBADF
        assert await process.wait() == 2
        await channel.close()


def entry(number: int, expires_at: float) -> Revocation:
    return Revocation(str(number), ("https://a.example",), Kind.SUBJECT, "bob", 1.0, expires_at)


@pytest.fixture
async def worker() -> AsyncIterator[tuple[_Worker, Channel]]:
    made = settings({"name": "main", "issuer": "https://a.example", "audiences": ["a"]}, workers=2)
    ours, theirs = socket.socketpair()
    channel = await Channel.of(ours)
    start = Start(1, made, (), (entry(1, time.time() + 60),))
    one = _Worker(start, await Channel.of(theirs), open_log("json", "info"), lambda: 0)
    yield one, channel
    await one.end()
    await channel.close()


async def test_its_list_follows_its_supervisors_and_does_not_grow(worker: tuple[_Worker, Channel]) -> None:
    one, _ = worker
    one._take(entry(2, time.time() - 1))
    one._take(entry(3, time.time() + 60))
    assert {held.id for held in one._held} == {"1", "3"}
    one._take(Lift("1", 0))
    assert {held.id for held in one._held} == {"3"}


async def test_one_that_cannot_understand_its_supervisor_ends(worker: tuple[_Worker, Channel]) -> None:
    one, channel = worker
    channel._writer.write(b"\0\0\0\0\0\0\0\4what")
    async with asyncio.timeout(5):
        await one.stopping.wait()


QUESTION = Question(token="canary")


async def test_one_that_has_not_come_that_far_explains_nothing(worker: tuple[_Worker, Channel]) -> None:
    one, channel = worker
    one._take(Explain(7, QUESTION))
    assert await channel.receive() == ExplainReply(7, None)


async def test_what_cannot_be_explained_is_a_defect_and_the_worker_goes_on(worker: tuple[_Worker, Channel]) -> None:
    one, channel = worker
    observer = Observer(Metrics(), open_log("json", "info"), log_denials=True)
    one._made = SimpleNamespace(explainer=None, observer=observer)  # type: ignore[assignment]
    one._take(Explain(8, QUESTION))
    assert await channel.receive() == ExplainReply(8, None)
    assert observer.metrics.registry.get_sample_value("verifier_defects_total") == 1
