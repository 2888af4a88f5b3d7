"""``verifier health``. Asked every few seconds, so it imports next to nothing."""

import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import click
import yaml

WITHIN = 3.0
"""Seconds for the answer."""

DEFAULT = "127.0.0.1:9090"
LONGEST = 65_536


@click.command("health")
@click.option(
    "--config",
    envvar="VERIFIER_CONFIG",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file that says where the ops port is. Default: VERIFIER_CONFIG.",
)
@click.option("--ready", is_flag=True, help="Ask whether it should get requests (/readyz), not only whether it lives.")
@click.option(
    "--ops",
    envvar="VERIFIER__OPS__LISTEN",
    help="Address of the ops port, host:port. Default: VERIFIER__OPS__LISTEN, what the file says, "
    f"VERIFIER_DEFAULT__OPS__LISTEN, or {DEFAULT}.",
)
@click.option("--default-ops", envvar="VERIFIER_DEFAULT__OPS__LISTEN", default=DEFAULT, hidden=True)
def command(config: Path | None, ready: bool, ops: str | None, default_ops: str) -> None:
    """Ask the service on this machine whether it is well, for the probes of containers.

    Ends with 0 when it is, and with 1 when it is not or does not answer. A configuration with mistakes keeps nobody
    from asking: the running service may have refused it.
    """
    host, _, port = (ops or _written(config) or default_ops).rpartition(":")
    path = "/readyz" if ready else "/healthz"
    try:
        with closing(HTTPConnection(_reachable(host), int(port), timeout=WITHIN)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            click.echo(answer.read(LONGEST).decode("utf-8", "replace"))
    except (OSError, ValueError, HTTPException) as error:
        click.echo(f"nobody answers at {host}:{port}{path}: {error}", err=True)
        sys.exit(1)
    sys.exit(0 if answer.status == 200 else 1)


def _written(config: Path | None) -> str | None:
    """What the file says, as far as it can be read."""
    try:
        written: Any = {} if config is None else yaml.safe_load(config.read_text("utf-8"))
        return str(written["ops"]["listen"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None


def _reachable(host: str) -> str:
    """Where a server that listens at ``host`` can be asked from the same machine."""
    bare = host.strip("[]")
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bare, bare)  # noqa: S104 - nobody listens here
