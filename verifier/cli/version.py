"""``verifier version``."""

import platform
from importlib.metadata import version

import click

from verifier import __version__
from verifier.cli.common import json_option, print_json

_LIBRARIES = ("aiohttp", "cryptography", "joserfc", "authlib", "uvloop")


@click.command("version")
@json_option
def command(as_json: bool) -> None:
    """Show the version, and those of the libraries that decide with it."""
    libraries = {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
    if as_json:
        print_json({"verifier": __version__, **libraries})
    else:
        click.echo(f"verifier {__version__} ({', '.join(f'{name} {text}' for name, text in libraries.items())})")
