"""``verifier serve``."""

import sys
from functools import partial
from pathlib import Path

import click

from verifier.app import Configuration, WorkerFailed, serving, supervising
from verifier.cli.common import (
    FAILED,
    config_option,
    fail,
    logging_to_stderr,
    print_problems,
    run,
    settings_or_exit,
)
from verifier.cli.signals import until_stopped
from verifier.config import ConfigError, file_of, load


@click.command("serve")
@config_option
def command(config: Path | None) -> None:
    """Run the service until SIGTERM or SIGINT.

    It reads its configuration again on SIGHUP, and when the file changes.
    """
    configuration = Configuration(partial(load, config), file_of(config))
    settings = settings_or_exit(config)
    alone = settings.workers == 1
    running = serving if alone else supervising

    async def main() -> None:
        with logging_to_stderr(settings) as (log, stream):
            async with running(settings, log, lambda: stream.dropped, configuration) as service:
                await until_stopped(service)

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
