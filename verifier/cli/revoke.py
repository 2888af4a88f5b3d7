"""``verifier revoke``."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from verifier.cli.admin import date, service, service_options
from verifier.cli.common import console, fail, json_option, print_json
from verifier.config.duration import seconds


@click.command("revoke")
@click.option("--issuer", help="Its name in the configuration, or its iss. Not needed with a JWT as --token.")
@click.option("--jti", help="One token, by its id.")
@click.option("--sub", help="All tokens of a subject.")
@click.option("--sid", help="All tokens of a session.")
@click.option("--client-id", help="All tokens of a client.")
@click.option("--token", help="One token, itself; - reads it from standard input.")
@click.option("--issued-before", metavar="TIME", help="All tokens issued before: now, a date, or seconds since 1970.")
@click.option("--reason", help="Why, for whoever reads the list.")
@click.option("--for", "duration", metavar="DURATION", help="How long, such as 12h, where the service should not say.")
@json_option
@service_options
def command(
    duration: str | None,
    as_json: bool,
    config: Path | None,
    ops: str | None,
    admin_token_file: Path | None,
    **given: str | None,
) -> None:
    """Refuse tokens from now on, at every replica, although they have not expired."""
    asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if asked.get("token") == "-":
        asked["token"] = sys.stdin.read().strip()
    if "issued_before" in asked:
        asked["issued_before"] = _time(asked["issued_before"])
    if duration is not None:
        asked["expires_at"] = time.time() + _duration(duration)
    made = service(config, ops, admin_token_file).ask("POST", body=asked)
    if as_json:
        print_json(made)
        return
    out = console()
    out.print(f"[bold green]✓[/] revoked until {date(made['expires_at'])}; id {made['id']}")
    if not made["shared"]:
        out.print("[yellow]![/] in this service alone, and until it ends: there is no Redis in its configuration")


def _time(text: str) -> float:
    if text == "now":
        return time.time()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--issued-before: expected now, a date such as 2026-01-31T12:00Z, or seconds since 1970, found {text!r}")
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _duration(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        fail(f"--for: {error}")
