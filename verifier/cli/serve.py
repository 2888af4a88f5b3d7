"""``verifier serve``."""

from pathlib import Path

import click

from verifier.app import serving
from verifier.cli.common import config_option, fail, run, settings_or_exit, until_stopped
from verifier.observability.log import open_log


@click.command("serve")
@config_option
def command(config: Path | None) -> None:
    """Run the service until SIGTERM or SIGINT."""
    settings = settings_or_exit(config)
    log = open_log(settings.log.format, settings.log.level)

    async def main() -> None:
        async with serving(settings, log):
            await until_stopped()

    try:
        run(main, settings.event_loop)
    except OSError as error:
        fail(f"cannot listen on {settings.listen} and {settings.ops.listen}: {error.strerror or error}")
