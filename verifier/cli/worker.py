"""A worker's process, which ``verifier serve`` starts. It is no command: its first argument is a descriptor."""

import signal
import socket
import sys

from verifier.app.channel import Start, first
from verifier.app.worker import work
from verifier.cli.common import FAILED, logging_to_stderr, run


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):  # for the supervisor, who tells us
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[1]))
    start = first(end)
    if start is not None and not _work(start, end):
        sys.exit(FAILED)


def _work(start: Start, end: socket.socket) -> bool:
    async def main() -> bool:
        with logging_to_stderr(start.settings, start.number) as (log, stream):
            return await work(start, end, log, lambda: stream.dropped)

    return run(main, start.settings.event_loop)


if __name__ == "__main__":
    main()
