"""What the signals to a running service mean."""

import asyncio
import signal

from verifier.app import Service


async def until_stopped(service: Service, *, at_terminal: bool = False) -> None:
    """Wait for SIGTERM, and then for those who ask to learn of it; SIGINT, or a second SIGTERM, cuts that short.

    SIGHUP has the configuration read again, or ends what was started at a terminal that is closed.
    """
    loop = asyncio.get_running_loop()
    told, hurried = asyncio.Event(), asyncio.Event()
    renewals: set[asyncio.Task[None]] = set()

    def terminate() -> None:
        (hurried if told.is_set() else told).set()

    def hurry() -> None:
        told.set()
        hurried.set()

    def renew() -> None:
        renewal = loop.create_task(service.renew())
        renewals.add(renewal)
        renewal.add_done_callback(renewals.discard)

    loop.add_signal_handler(signal.SIGTERM, terminate)
    loop.add_signal_handler(signal.SIGINT, hurry)
    loop.add_signal_handler(signal.SIGHUP, hurry if at_terminal else renew)
    await told.wait()
    for renewal in renewals:
        renewal.cancel()
    draining = [loop.create_task(one) for one in (service.drain(), hurried.wait())]
    await asyncio.wait(draining, return_when=asyncio.FIRST_COMPLETED)
    for task in (*draining, *renewals):
        task.cancel()
    await asyncio.wait({*draining, *renewals})
