"""``verifier serve``."""

import sys
from pathlib import Path

import click

from verifier.app import WorkerFailed, serving, supervising
from verifier.cli.common import (
    FAILED,
    config_option,
    fail,
    logging_to_stderr,
    print_problems,
    run,
    settings_or_exit,
    until_stopped,
)
from verifier.config import ConfigError


@click.command("serve")
@config_option
def command(config: Path | None) -> None:
    """Run the service until SIGTERM or SIGINT."""
    settings = settings_or_exit(config)
    alone = settings.workers == 1
    running = serving if alone else supervising

    async def main() -> None:
        with logging_to_stderr(settings) as (log, stream):
            async with running(settings, log, lambda: stream.dropped):
                await until_stopped()

    try:
        run(main, settings.event_loop if alone else "asyncio")  # a supervisor has little to do, and no need of another
    except ConfigError as error:
        print_problems(error)
        sys.exit(FAILED)
    except WorkerFailed as failure:
        fail(str(failure))
    except OSError as error:
        addresses = [settings.listen, settings.ops.listen, *([settings.grpc.listen] if settings.grpc.listen else [])]
        fail(f"cannot listen on {' and '.join(addresses)}: {error.strerror or error}")
