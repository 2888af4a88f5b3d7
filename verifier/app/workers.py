"""The processes that answer gateways: started, asked, replaced when they die, and stopped together."""

import asyncio
import signal
import socket
import sys
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from prometheus_client import Metric

from verifier.app.channel import (
    Channel,
    Discard,
    Drain,
    Start,
    Switch,
)
from verifier.app.worker_handle import WorkerHandle
from verifier.config import ConfigError, Settings
from verifier.core.revocation import Lift, Revocation
from verifier.engine import Question
from verifier.observability import recent
from verifier.observability.merging import counted, merged
from verifier.observability.observer import Observer
from verifier.observability.recent import Noted, RedisTrouble
from verifier.server.listening import Bound
from verifier.server.status.explaining import Explained

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
        self._living: dict[int, WorkerHandle] = {}
        self._ended: tuple[Metric, ...] = ()
        self._ended_noted = Noted()
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

    async def _obeyed(self, workers: Sequence[WorkerHandle], failing: str) -> None:
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

    async def explain(self, question: Question) -> Explained | None:
        """What one of those who serve makes of it; None where nobody says so in time."""
        for worker in self._attentive():
            if worker.serving_since is not None:
                return await worker.explain(question, ANSWER_WITHIN)
        return None

    def noted(self) -> Noted:
        """Of the living, and what the dead had noted."""
        return recent.merged([*(worker.last.noted for worker in self._living.values()), self._ended_noted])

    def _attentive(self) -> list[WorkerHandle]:
        """Those who do not owe an answer for so long that more questions would only wait in line."""
        return [worker for worker in self._living.values() if not worker.owes(ANSWER_WITHIN)]

    def serving(self) -> list[WorkerHandle]:
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

    async def _begin(self, number: int) -> WorkerHandle:
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
            worker = WorkerHandle(number, process, await Channel.of(ours))
        except BaseException:
            ours.close()  # which ends what was started
            raise
        self._living[number] = worker  # from here on it is told of every change to what it begins with
        worker.tell(Start(number, self.settings, sockets, tuple(self._held)))
        return worker

    async def _keep(self, worker: WorkerHandle) -> None:
        """See to it that there is one of this number."""
        number, hasty = worker.number, 0
        while True:
            self._bury(worker, await worker.ended())
            replacement: WorkerHandle | None = None
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

    async def _replacement(self, number: int) -> WorkerHandle | None:
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

    def _bury(self, worker: WorkerHandle, code: int) -> None:
        del self._living[worker.number]
        self._ended = merged([self._ended, counted(worker.last.families)], self._metrics.gauges)
        noted = recent.merged([self._ended_noted, worker.last.noted])
        self._ended_noted = replace(noted, redis=RedisTrouble())  # that of the living is what counts
        told = None if worker.failed is None else str(worker.failed.reason())
        write = self._log.warning if code else self._log.info  # who ends well was asked to
        write("worker_died", worker=worker.number, pid=worker.pid, status=code, detail=told or _ending(code))

    def _kill(self, worker: WorkerHandle, why: str) -> None:
        self._log.error("worker_killed", worker=worker.number, pid=worker.pid, detail=why)
        worker.kill()

    async def _poll(self) -> None:
        """Looks twice before it kills: after the machine itself stood still, everybody owes an answer."""
        suspects: list[WorkerHandle] = []
        while True:
            await asyncio.sleep(POLL)
            await self.refresh()
            hung = [worker for worker in self.serving() if worker.owes(HUNG)]
            for worker in hung:
                if worker in suspects:
                    self._kill(worker, f"it has not answered for {HUNG:g} s")
            suspects = hung


async def _begun(worker: WorkerHandle) -> None:
    """Returns when it serves. Raises what keeps it from that."""
    await worker.begun.wait()
    if worker.serving_since is None:
        ending = _ending(await worker.ended())
        raise WorkerFailed(f"worker {worker.number}: {ending}") if worker.failed is None else worker.failed.reason()


def _ending(code: int) -> str:
    names = {one.value: one.name for one in signal.Signals}
    return f"exit code {code}" if code >= 0 else names.get(-code, f"signal {-code}")
