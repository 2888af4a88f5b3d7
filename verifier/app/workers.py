"""The processes that answer gateways: started, asked, replaced when they die, and stopped together."""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Coroutine, Iterable, Sequence
from itertools import chain
from time import monotonic
from typing import Any

from prometheus_client import Metric

from verifier.app.channel import (
    Ask,
    Channel,
    Discard,
    Drain,
    Failed,
    Order,
    Prepare,
    Prepared,
    Report,
    Said,
    Serving,
    Start,
    Switch,
)
from verifier.config import ConfigError, Problem, Settings
from verifier.core.revocation import Lift, Revocation
from verifier.observability.merging import counted, merged
from verifier.observability.observer import Observer
from verifier.server.listening import Bound

ANSWER_WITHIN = 1.0
"""Seconds that a worker has for a report; then its last one counts."""

POLL = 1.0
"""Seconds between two reports: what a worker counted since the last one is lost when it is killed."""

OBEY = 5.0
"""Seconds in which a worker must know of a revocation. One that cannot be told is killed."""

HASTY = 1.0
"""A worker that was started in the place of another, and dies within so many seconds of serving, or before it, is not
replaced at once."""

HUNG = 10.0
"""Seconds without an answer after which a worker that serves is killed: whoever is dealt to it waits for nothing."""

LONGEST_PAUSE = 30.0
"""Seconds between two attempts to replace a worker, at most."""

MARGIN = 5.0
"""Seconds beyond ``stop_timeout`` after which a worker that has not ended is killed."""


PREPARE = 5.0
"""Seconds in which a worker gets ready for another configuration, besides those that its issuers have to answer."""


class WorkerFailed(Exception):  # noqa: N818 - reads as what it says
    """A worker ended before it served, and did not say why."""


class Worker:
    """One process. ``last`` is its latest report."""

    def __init__(self, number: int, process: Process, channel: Channel) -> None:
        self.number = number
        self.last = Report(0)
        self.failed: Failed | None = None
        self.serving_since: float | None = None
        self.begun = asyncio.Event()  # it serves, or never will
        self._prepared: dict[int, asyncio.Future[tuple[Problem, ...]]] = {}
        self._process = process
        self._channel = channel
        self._asked = 0
        self._unanswered: dict[int, tuple[asyncio.Future[None], float]] = {}  # by number, the first one first
        self._reading = asyncio.create_task(self._read())

    def tell(self, order: Order) -> None:
        self._channel.send(order)

    async def prepare(self, number: int, settings: Settings, within: float) -> tuple[Problem, ...]:
        """Have it get ready for other settings, in so many seconds; what keeps it from that. It may be gone then."""
        told: asyncio.Future[tuple[Problem, ...]] = asyncio.get_running_loop().create_future()
        self._prepared[number] = told
        self._channel.send(Prepare(number, settings))
        waiting: set[asyncio.Future[Any]] = {told, self._reading}
        await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        del self._prepared[number]
        if told.done():
            return told.result()
        return () if self._reading.done() else (Problem("", f"worker {self.number} did not get ready for it in time"),)

    async def ask(self, within: float) -> bool:
        """Whether it has taken all orders before this question and said how it fares, in so many seconds; or is gone,
        and will take none."""
        if self._reading.done():
            return True
        self._asked += 1
        answered = asyncio.get_running_loop().create_future()
        self._unanswered[self._asked] = answered, monotonic()
        self._channel.send(Ask(self._asked))
        await asyncio.wait({answered}, timeout=within)
        return answered.done()

    @property
    def pid(self) -> int:
        return self._process.pid

    def owes(self, seconds: float) -> bool:
        """Whether it owes an answer for longer than so many seconds."""
        return any(monotonic() - asked > seconds for _, asked in self._unanswered.values())

    def stop(self) -> None:
        """Ask it to end when what it has begun is done."""
        if self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> int:
        """Its exit code, negative for a signal, once all that it said was read."""
        code = await self._process.wait()
        await asyncio.wait({self._reading}, timeout=ANSWER_WITHIN)
        self._reading.cancel()
        await self._channel.close()
        return code

    async def lasts(self, seconds: float) -> bool:
        """Whether it lives that long from now on."""
        done, _ = await asyncio.wait({self._reading}, timeout=seconds)
        return not done

    async def _read(self) -> None:
        try:
            while (message := await self._channel.receive()) is not None:
                self._take(message)
        except Exception:  # noqa: BLE001 - whatever it was, nobody could tell it of a revocation any more
            self.kill()
        finally:
            self.begun.set()
            self._answered(self._asked)

    def _take(self, message: Said) -> None:
        match message:
            case Report(answers=number):
                self.last = message
                self._answered(number)
            case Serving():
                self.serving_since = monotonic()
                self.begun.set()
            case Failed():
                self.failed = message
            case Prepared(number, problems) if number in self._prepared:
                self._prepared[number].set_result(problems)

    def _answered(self, number: int) -> None:
        for asked in [asked for asked in self._unanswered if asked <= number]:
            waiting, _ = self._unanswered.pop(asked)
            if not waiting.done():
                waiting.set_result(None)


class Workers:
    """``settings.workers`` of them, that of each number with its share of the sockets ``bound``.

    The sockets are kept open here too. When a worker dies, those who connect wait in its queue for the one that takes
    its place. Each begins with the revocations ``held``; of whatever changes in them later, ``tell`` has to be told.
    """

    def __init__(
        self,
        settings: Settings,
        bound: Bound,
        held: Iterable[Revocation],
        observer: Observer,
    ) -> None:
        self.settings = settings
        """By which they decide; another after ``renew``."""
        self.draining = False
        self._renewals = 0
        self._bound = bound
        self._held = held
        self._observer = observer
        self._metrics = observer.metrics
        self._log = observer.log
        self._living: dict[int, Worker] = {}
        self._ended: tuple[Metric, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Returns when all of them serve. Raises what keeps one from it: ``ConfigError``, ``OSError`` or
        ``WorkerFailed``. ``stop`` ends the others."""
        beginning = [
            asyncio.create_task(_begun(await self._begin(number))) for number in range(1, self.settings.workers + 1)
        ]
        done, rest = await asyncio.wait(beginning, return_when=asyncio.FIRST_EXCEPTION)
        for task in rest:
            task.cancel()
        failures = [failure for task in done if (failure := task.exception()) is not None]
        if failures:
            raise failures[0]
        for worker in self._living.values():
            self._log.info("worker_started", worker=worker.number, pid=worker.pid)
        for worker in self._living.values():
            self._run(self._keep(worker))
        self._run(self._poll())

    async def stop(self) -> None:
        """All of them: what they have begun is done within ``stop_timeout``."""
        self._bound.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for worker in self._living.values():
            worker.stop()
        ending = {asyncio.create_task(worker.ended()): worker for worker in self._living.values()}
        if ending:
            _, late = await asyncio.wait(ending, timeout=self.settings.stop_timeout + MARGIN)
            for one in late:
                self._kill(ending[one], "it did not end in time")
            await asyncio.gather(*ending)

    async def tell(self, order: Revocation | Lift) -> None:
        """Returns when it holds for every worker. One that cannot be told is killed: the next one begins with it."""
        living = tuple(self._living.values())
        for worker in living:
            worker.tell(order)
        await self._obeyed(living, "it cannot be told of a revocation")

    async def renew(self, settings: Settings) -> None:
        """Have all of them decide by ``settings``, or none: raises ``ConfigError`` where one cannot.

        Returns when they do. One that cannot be told is killed, and so is one that began meanwhile with the settings of
        before; the next one begins with these.
        """
        ready = self.serving()
        within = max(settings.keys.deadline, self.settings.keys.deadline) * 2 + PREPARE
        self._renewals += 1
        problems = await asyncio.gather(*(worker.prepare(self._renewals, settings, within) for worker in ready))
        if any(problems):
            for worker in ready:
                worker.tell(Discard())
            raise ConfigError(tuple(dict.fromkeys(chain.from_iterable(problems))))
        self.settings = settings
        for worker in self._living.values():
            if worker in ready:
                worker.tell(Switch(self._renewals))
            else:
                self._kill(worker, "it began with the configuration of before")
        await self._obeyed(ready, "it cannot be told of another configuration")

    async def _obeyed(self, workers: Sequence[Worker], failing: str) -> None:
        """Returns when each of them has taken what it was told, or is gone."""
        taken = await asyncio.gather(*(worker.ask(OBEY) for worker in workers))
        deaf = [worker for worker, took in zip(workers, taken, strict=True) if not took]
        for worker in deaf:
            self._kill(worker, failing)
        await asyncio.gather(*(worker.ended() for worker in deaf))

    def drain(self) -> None:
        """Have them send clients elsewhere."""
        self.draining = True
        for worker in self._living.values():
            worker.tell(Drain())

    async def refresh(self) -> None:
        """Have a report of each, or do with its last one."""
        await asyncio.gather(*(worker.ask(ANSWER_WITHIN) for worker in self._attentive()))

    def _attentive(self) -> list[Worker]:
        """Those who do not owe an answer for so long that more questions would only wait in line."""
        return [worker for worker in self._living.values() if not worker.owes(ANSWER_WITHIN)]

    def serving(self) -> list[Worker]:
        return [worker for worker in self._living.values() if worker.serving_since is not None]

    def families(self) -> list[Sequence[Metric]]:
        """Of each living worker what it said last, and what the dead have counted."""
        return [*(worker.last.families for worker in self._living.values()), self._ended]

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Until ``stop``. An end before it must not go unseen."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._note_end)
        self._tasks.add(task)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._observer.defect(error)

    async def _begin(self, number: int) -> Worker:
        """Start the process, with its own sockets and its end of the channel and no other. Raises ``OSError``."""
        ours, theirs = socket.socketpair()
        sockets = tuple(one.fileno() for one in self._bound.shares[number - 1])
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",  # this program, and none of that name in the current folder
                    "-m",
                    "verifier.cli.worker",
                    str(theirs.fileno()),
                    f"worker {number}",  # for whoever looks at the list of processes
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *sockets),
                )
            worker = Worker(number, process, await Channel.of(ours))
        except BaseException:
            ours.close()  # which ends what was started
            raise
        self._living[number] = worker  # from here on it is told of every change to what it begins with
        worker.tell(Start(number, self.settings, sockets, tuple(self._held)))
        return worker

    async def _keep(self, worker: Worker) -> None:
        """See to it that there is one of this number."""
        number, hasty = worker.number, 0
        while True:
            self._bury(worker, await worker.ended())
            replacement: Worker | None = None
            while replacement is None:
                await self._pause(number, hasty)
                replacement = await self._replacement(number)
                hasty += 1
            worker = replacement
            await worker.begun.wait()
            if worker.serving_since is not None:
                self._log.info("worker_started", worker=number, pid=worker.pid)
                if await worker.lasts(HASTY):
                    hasty = 0

    async def _replacement(self, number: int) -> Worker | None:
        """None where the machine has nothing to make one of."""
        self._metrics.worker_restarts.inc()
        try:
            return await self._begin(number)
        except OSError as error:
            self._log.error("worker_missing", worker=number, detail=str(error))
            return None

    async def _pause(self, number: int, hasty: int) -> None:
        """None before the first, then longer and longer; nobody has to wait for that one."""
        if hasty:
            self._bound.close_queue(number - 1)
            seconds = min(LONGEST_PAUSE, 2.0 ** (hasty - 1))
            self._log.warning("worker_waits", worker=number, detail=f"it is replaced in {seconds:g} s")
            await asyncio.sleep(seconds)

    def _bury(self, worker: Worker, code: int) -> None:
        del self._living[worker.number]
        self._ended = merged([self._ended, counted(worker.last.families)], self._metrics.gauges)
        told = None if worker.failed is None else str(worker.failed.reason())
        write = self._log.warning if code else self._log.info  # who ends well was asked to
        write("worker_died", worker=worker.number, pid=worker.pid, status=code, detail=told or _ending(code))

    def _kill(self, worker: Worker, why: str) -> None:
        self._log.error("worker_killed", worker=worker.number, pid=worker.pid, detail=why)
        worker.kill()

    async def _poll(self) -> None:
        """Looks twice before it kills: after the machine itself stood still, everybody owes an answer."""
        suspects: list[Worker] = []
        while True:
            await asyncio.sleep(POLL)
            await self.refresh()
            hung = [worker for worker in self.serving() if worker.owes(HUNG)]
            for worker in hung:
                if worker in suspects:
                    self._kill(worker, f"it has not answered for {HUNG:g} s")
            suspects = hung


async def _begun(worker: Worker) -> None:
    """Returns when it serves. Raises what keeps it from that."""
    await worker.begun.wait()
    if worker.serving_since is None:
        ending = _ending(await worker.ended())
        raise WorkerFailed(f"worker {worker.number}: {ending}") if worker.failed is None else worker.failed.reason()


def _ending(code: int) -> str:
    names = {one.value: one.name for one in signal.Signals}
    return f"exit code {code}" if code >= 0 else names.get(-code, f"signal {-code}")
