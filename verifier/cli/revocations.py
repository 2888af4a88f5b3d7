"""``verifier revocations``."""

from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from verifier.cli.admin import date, service, service_options
from verifier.cli.common import console, json_option, print_json
from verifier.core.revoking import KINDS


@click.group("revocations")
def command() -> None:
    """Show what is revoked, and lift it."""


@command.command("list")
@json_option
@service_options
def list_all(as_json: bool, config: Path | None, ops: str | None, admin_token_file: Path | None) -> None:
    """Every revocation in force, the newest first."""
    found = service(config, ops, admin_token_file).ask("GET")
    if as_json:
        print_json(found)
        return
    table = Table("Id", "Issuer", "What", "Made", "Until", "Reason", box=None)
    for one in found["revocations"]:
        kind = next(name for name in (*KINDS, "token_sha256") if name in one)
        what = date(one[kind]) if kind == "issued_before" else str(one[kind])
        cells = (one["id"], one["issuers"][0], f"{kind} {what}", date(one["made_at"]), date(one["expires_at"]))
        table.add_row(*map(escape, cells), escape(one["reason"] or ""))
    console().print(table if found["revocations"] else "nothing is revoked")


@command.command("lift")
@click.argument("revocation_id", metavar="ID")
@service_options
def lift(revocation_id: str, config: Path | None, ops: str | None, admin_token_file: Path | None) -> None:
    """Take a revocation back; `list` shows the ids."""
    service(config, ops, admin_token_file).ask("DELETE", f"/{revocation_id}")
    console().print("[bold green]✓[/] lifted")
