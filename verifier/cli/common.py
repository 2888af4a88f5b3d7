"""What the commands share: options, output and the way they end."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.markup import escape

from verifier.config import ConfigError, Settings, load
from verifier.observability.log import BackgroundStream, Logger, open_log

YES, NO, FAILED = 0, 1, 2

Result = TypeVar("Result")

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file (YAML). Default: VERIFIER_CONFIG, or TOKEN_ISSUER and AUDIENCE.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def console() -> Console:
    """Standard output: a terminal's width and colours, or wide and plain for a file or pipe."""
    return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 160)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def fail(message: str) -> NoReturn:
    """End a command that could not be carried out."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {escape(message)}")
    sys.exit(FAILED)


def print_problems(error: ConfigError) -> None:
    """All mistakes of a configuration, one a line."""
    out = Console(stderr=True, soft_wrap=True, highlight=False)
    for problem in error.problems:
        out.print(f"[bold red]✗[/] [bold]{escape(problem.path or 'configuration')}[/] {escape(problem.message)}")


def settings_or_exit(config: Path | None) -> Settings:
    """The settings; a configuration that cannot be used ends the command with everything that is wrong with it."""
    try:
        return load(config)
    except ConfigError as error:
        print_problems(error)
        sys.exit(FAILED)


def run(main: Callable[[], Coroutine[Any, Any, Result]], event_loop: str = "asyncio") -> Result:
    """Run ``main`` on the event loop of that name."""
    if event_loop == "uvloop":
        import uvloop  # noqa: PLC0415 - not there on every platform

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    return asyncio.run(main())


@contextmanager
def logging_to_stderr(settings: Settings, worker: int | None = None) -> Iterator[tuple[Logger, BackgroundStream]]:
    """The log as ``settings`` want it, on standard error, written by a thread of its own. ``worker``: whose it is."""
    stream = BackgroundStream(sys.stderr)
    try:
        yield open_log(settings.log.format, settings.log.level, stream, worker), stream
    finally:
        stream.close()
