"""``verifier check-config``."""

import sys
from pathlib import Path

import click
from rich.markup import escape

from verifier.cli.common import NO, config_option, console, json_option, print_json, print_problems
from verifier.config import ConfigError, Settings, load
from verifier.config.files import file_problems
from verifier.config.report_only import on_trial
from verifier.config.tracing import tracing_settings


@click.command("check-config")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@config_option
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors, and nothing else.")
@json_option
def command(file: Path | None, config: Path | None, schema: bool, as_json: bool) -> None:
    """Report everything that is wrong with a configuration, all at once.

    Ends with 0 when it can be used and with 1 when it cannot. Asks no issuer anything: that is `verifier doctor`.
    """
    if schema:
        print_json(Settings.model_json_schema())
        return
    try:
        settings = load(file or config)
        problems = file_problems(settings)
        if problems:
            raise ConfigError(problems)
        tracing_settings()
    except ConfigError as error:
        if as_json:
            found = [{"path": problem.path, "message": problem.message} for problem in error.problems]
            print_json({"usable": False, "problems": found})
        else:
            print_problems(error)
        sys.exit(NO)
    if as_json:
        called = [issuer.name for issuer in settings.issuers]
        print_json({"usable": True, "issuers": called, "report_only": on_trial(settings), "problems": []})
        return
    names = ", ".join(issuer.name for issuer in settings.issuers)
    console().print(f"[bold green]✓[/] the configuration can be used; issuers: {names}")
    tried = on_trial(settings)
    if tried:
        console().print(f"[yellow]![/] not enforced, only reported: {escape(', '.join(tried))}")
