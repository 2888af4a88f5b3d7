"""What a supervisor and a worker say to each other, and what it makes of an answer that does not come."""

import asyncio
import errno
import io
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.support import eventually, settings
from verifier.app import worker_handle, workers
from verifier.app.channel import Ask, Channel, Explain, ExplainReply, Failed, Report, Serving, Start, first
from verifier.config import ConfigError
from verifier.config.loading import Problem
from verifier.core.explanation import Outcome, Step
from verifier.core.reasons import Reason
from verifier.core.revocation import Kind, Lift, Revocation
from verifier.core.routes import Target
from verifier.engine import Question
from verifier.observability.log import open_log
from verifier.observability.metrics import Metrics
from verifier.observability.observer import Observer
from verifier.server.listening import Bound
from verifier.server.status.explaining import Explained

REVOCATION = Revocation("1", ("https://a.example",), Kind.SUBJECT, "bob", 1.0, 2.0)
QUESTION = Question(token="canary", target=Target("GET", None, "/"))
EXPLAINED = Explained(False, "expired", (Step("expiry", Outcome.FAILS, "", "", Reason.EXPIRED, "over"),))
SETTINGS = settings({"name": "main", "issuer": "https://a.example", "audiences": ["a"]}, workers=2)


@pytest.mark.parametrize(
    "message",
    [Ask(1), REVOCATION, Lift("1", 2.0), Serving(), Report(1), Explain(1, QUESTION), ExplainReply(1, EXPLAINED)],
    ids=lambda one: type(one).__name__,
)
async def test_what_is_sent_is_received(message: Ask) -> None:
    one, other = [await Channel.of(end) for end in socket.socketpair()]
    one.send(message)
    one.send(Ask(2))
    assert [await other.receive(), await other.receive()] == [message, Ask(2)]
    await one.close()
    assert await other.receive() is None
    await other.close()


async def test_a_worker_begins_with_what_it_is_to_be_however_long_that_is() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.of(ours)
    channel.send(Start(1, SETTINGS, (3,), (REVOCATION,) * 50_000))
    channel.send(Ask(1))
    start = await asyncio.to_thread(first, theirs)
    assert start == Start(1, SETTINGS, (3,), (REVOCATION,) * 50_000)
    behind = await Channel.of(theirs)
    assert await behind.receive() == Ask(1)
    await channel.close()
    await behind.close()


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\0\0\0\0\5ab"])
def test_a_worker_whose_supervisor_is_gone_begins_with_nothing(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.send(sent)
        assert first(theirs) is None


def test_a_failure_is_raised_as_what_it_was() -> None:
    problems = (Problem("tls", "is empty"),)
    told = Failed(problems=problems).reason()
    assert isinstance(told, ConfigError)
    assert told.problems == problems
    told = Failed(error=OSError(errno.EADDRINUSE, "taken")).reason()
    assert isinstance(told, OSError)
    assert told.errno == errno.EADDRINUSE


@dataclass
class Process:
    """Stands in for one, as far as ``Worker`` asks it."""

    returncode: int | None = None
    killed: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        self.killed.set()

    async def wait(self) -> int:
        return -9


@dataclass
class Pair:
    process: Process
    worker: worker_handle.WorkerHandle
    other: Channel
    raw: socket.socket


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A worker as its supervisor sees it, and the other end of its channel."""
    ours, theirs = socket.socketpair()
    raw = theirs.dup()
    process = Process()
    made = Pair(process, worker_handle.WorkerHandle(1, process, await Channel.of(ours)), await Channel.of(theirs), raw)  # type: ignore[arg-type]
    yield made
    raw.close()
    await made.other.close()
    await made.worker.ended()


async def test_an_answer_is_to_all_questions_until_then(pair: Pair) -> None:
    asking = [asyncio.create_task(pair.worker.ask(5)) for _ in range(3)]
    assert [await pair.other.receive() for _ in range(3)] == [Ask(1), Ask(2), Ask(3)]
    pair.other.send(Report(2))
    assert await asyncio.gather(*asking[:2]) == [True, True]
    assert not asking[2].done()
    pair.other.send(Report(3))
    assert await asking[2]


async def test_an_explanation_is_told_to_whoever_asked_for_it(pair: Pair) -> None:
    asking = [asyncio.create_task(pair.worker.explain(QUESTION, 5)) for _ in range(2)]
    orders = [await pair.other.receive() for _ in range(2)]
    assert [order.question for order in orders] == [QUESTION, QUESTION]
    pair.other.send(ExplainReply(orders[1].number, EXPLAINED))
    assert await asking[1] == EXPLAINED
    assert not asking[0].done()
    pair.other.send(ExplainReply(orders[0].number, None))
    assert await asking[0] is None


async def test_an_explanation_that_does_not_come_is_not_waited_for(pair: Pair) -> None:
    assert await pair.worker.explain(QUESTION, 0.05) is None
    order = await pair.other.receive()
    pair.other.send(ExplainReply(order.number, EXPLAINED))  # too late
    assert pair.worker._explaining == {}


async def test_nobody_waits_for_an_explanation_of_one_that_is_gone(pair: Pair) -> None:
    asking = asyncio.create_task(pair.worker.explain(QUESTION, 60))
    await pair.other.receive()
    pair.raw.close()
    await pair.other.close()
    async with asyncio.timeout(5):
        assert await asking is None
        assert await pair.worker.explain(QUESTION, 60) is None


async def test_a_token_is_in_no_text_about_an_order() -> None:
    assert "canary" not in repr(Explain(1, QUESTION))


async def test_a_worker_owes_an_answer_until_it_gives_one(pair: Pair) -> None:
    assert not await pair.worker.ask(0.05)
    assert pair.worker.owes(0.01)
    assert not pair.worker.owes(60)
    pair.other.send(Report(1))
    await eventually(lambda: not pair.worker.owes(0))


async def test_nobody_waits_for_one_that_is_gone(pair: Pair) -> None:
    asking = asyncio.create_task(pair.worker.ask(60))
    await pair.other.receive()
    pair.raw.close()
    await pair.other.close()
    async with asyncio.timeout(5):
        assert await asking
        assert await pair.worker.ask(60)
        await pair.worker.begun.wait()
    assert pair.worker.serving_since is None


async def test_what_one_said_before_it_ended_counts(pair: Pair) -> None:
    pair.raw.close()
    pair.other.send(Report(7))
    await pair.other.close()
    assert await pair.worker.ended() == -9
    assert pair.worker.last == Report(7)


async def test_one_that_cannot_be_understood_is_killed(pair: Pair) -> None:
    pair.raw.sendall(b"\0\0\0\0\0\0\0\4what")
    async with asyncio.timeout(5):
        await pair.process.killed.wait()


@dataclass
class Deaf:
    """A worker that answers nothing, and takes its time to die."""

    number: int = 1
    owing: bool = True
    asked: int = 0
    pid: int = 1
    killed: bool = False
    gone: bool = False

    def tell(self, order: object) -> None: ...

    def owes(self, seconds: float) -> bool:
        return self.owing

    async def ask(self, within: float) -> bool:
        self.asked += 1
        return False

    def kill(self) -> None:
        self.killed = True

    async def ended(self) -> int:
        assert self.killed
        await asyncio.sleep(0)
        self.gone = True
        return -9


@pytest.fixture
def with_deaf() -> tuple[workers.Workers, Deaf]:
    observer = Observer(Metrics(), open_log("json", "info", io.StringIO()), log_denials=True)
    made, deaf = workers.Workers(SETTINGS, Bound("", ()), (), observer), Deaf()
    made._living[1] = deaf  # type: ignore[assignment]
    return made, deaf


async def test_a_revocation_is_not_made_before_those_who_cannot_be_told_are_gone(
    with_deaf: tuple[workers.Workers, Deaf],
) -> None:
    made, deaf = with_deaf
    await made.tell(REVOCATION)
    assert deaf.gone


async def test_one_that_is_silent_is_not_asked_for_reports(with_deaf: tuple[workers.Workers, Deaf]) -> None:
    made, deaf = with_deaf
    await made.refresh()
    assert deaf.asked == 0


async def test_while_nobody_serves_nobody_explains() -> None:
    observer = Observer(Metrics(), open_log("json", "info", io.StringIO()), log_denials=True)
    assert await workers.Workers(SETTINGS, Bound("", ()), (), observer).explain(QUESTION) is None


async def test_supervision_that_ends_does_not_go_unseen(
    with_deaf: tuple[workers.Workers, Deaf], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, deaf = with_deaf
    monkeypatch.setattr(workers, "POLL", 0.0)
    deaf.owing = False
    monkeypatch.setattr(deaf, "ask", None)
    made._run(made._poll())
    await eventually(lambda: made._metrics.registry.get_sample_value("verifier_defects_total") == 1)


@pytest.mark.parametrize(
    ("code", "said"), [(0, "exit code 0"), (2, "exit code 2"), (-9, "SIGKILL"), (-35, "signal 35")]
)
def test_how_a_process_ended_is_said_of_every_code(code: int, said: str) -> None:
    assert workers._ending(code) == said
