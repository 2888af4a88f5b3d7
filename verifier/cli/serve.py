"""``verifier serve``."""

import sys
from pathlib import Path

import click

from verifier.app import serving
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

    async def main() -> None:
        with logging_to_stderr(settings) as (log, stream):
            async with serving(settings, log, lambda: stream.dropped):
                await until_stopped()

    try:
        run(main, settings.event_loop)
    except ConfigError as error:
        print_problems(error)
        sys.exit(FAILED)
    except OSError as error:
        addresses = [settings.listen, settings.ops.listen, *([settings.grpc.listen] if settings.grpc.listen else [])]
        fail(f"cannot listen on {' and '.join(addresses)}: {error.strerror or error}")
