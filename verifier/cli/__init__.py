"""The command ``verifier``: one subcommand a file, loaded when it is asked for.

Exit codes: 0 for yes, 1 for no (the token is refused, the configuration has mistakes, an issuer is not well),
2 for a command that could not be carried out.
"""

from importlib import import_module

import click

_COMMANDS = {
    "serve": "Run the service.",
    "health": "Ask the running service whether it is well.",
    "dev": "Run the service with a development issuer beside it.",
    "check-config": "Report everything that is wrong with a configuration.",
    "explain": "Show every check of a token, in order.",
    "routes": "Show which route applies to a request, and which never do.",
    "doctor": "Ask every issuer for its keys and report on it.",
    "revoke": "Refuse tokens from now on, before they expire.",
    "revocations": "Show what is revoked, and lift it.",
    "mint": "Make a development token with any claims.",
    "version": "Show the version.",
}


class _Lazy(click.Group):
    """Starting the service must not wait for the imports of other commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's form
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """One service that every gateway asks: may this bearer token do this?"""
