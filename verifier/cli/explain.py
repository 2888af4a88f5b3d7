"""``verifier explain``."""

import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from verifier.app import origin_of
from verifier.cli.common import (
    NO,
    YES,
    config_option,
    console,
    fail,
    json_option,
    print_json,
    run,
    settings_or_exit,
)
from verifier.config import Settings
from verifier.config.issuers import core_issuer
from verifier.config.routes import core_routes
from verifier.core import bearer, explanation, token, trial
from verifier.core.issuer import Issuer, Issuers
from verifier.core.keys import KeySet
from verifier.core.policy import NOTHING, Requirement
from verifier.core.reasons import Rejected
from verifier.core.routes import Routes, Target
from verifier.core.trial import Explanation
from verifier.ports import SourceUnavailable
from verifier.remote.http import HttpClient, open_session

_MARK = {
    explanation.Outcome.HOLDS: "[green]✓[/]",
    explanation.Outcome.FAILS: "[bold red]✗[/]",
    explanation.Outcome.NOT_REACHED: "[dim]–[/]",
}


@click.command("explain")
@click.argument("token", required=False)
@click.option("--file", "file", type=click.Path(path_type=Path, dir_okay=False), help="Read the token from a file.")
@config_option
@click.option("--scope", "scopes", multiple=True, help="A scope that is demanded (again for more).")
@click.option("--audience", help="The audience that is demanded.")
@click.option("--at", "at", type=float, help="Judge at this time, in seconds since 1970, instead of now.")
@json_option
def command(
    token: str | None,
    file: Path | None,
    config: Path | None,
    scopes: tuple[str, ...],
    audience: str | None,
    at: float | None,
    as_json: bool,
) -> None:
    """Show every check of TOKEN in order: what was expected, what was found, and what nearly fits.

    TOKEN is `-`, or left out, to read it from standard input, which keeps it out of the shell's history. Ends with
    0 when the token is allowed and with 1 when it is refused, whatever rules that are only reported say, which stand
    at its end. The output shows the token's claims.
    """
    text = token_text(token, file)
    settings = settings_or_exit(config)
    demands = Requirement(scopes, (audience,) if audience else ())
    found = run(lambda: explained(text, settings, time.time() if at is None else at, demands=demands))
    if as_json:
        print_json({"allowed": found.reason is None, "reason": found.reason, **as_members(found)})
    else:
        print_steps(found.steps)
        print_trial(found.on_trial)
    sys.exit(YES if found.reason is None else NO)


def token_text(argument: str | None, file: Path | None) -> str:
    """The token itself, however it was given."""
    if file is not None:
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            fail(f"cannot read {file}: {error}")
    elif argument is None or argument == "-":
        text = sys.stdin.read()
    else:
        text = argument
    return bearer.pasted(text)


async def explained(
    text: str, settings: Settings, now: float, *, demands: Requirement = NOTHING, target: Target | None = None
) -> Explanation:
    """Every check of the token at ``now`` (seconds since 1970), with its issuer's keys fetched for it: by ``demands``,
    or by the route of ``target``."""
    configured = Issuers(core_issuer(issuer) for issuer in settings.issuers)
    keys: KeySet | str = "not asked for"
    try:
        issuer = configured.match(token.parse(text))
        keys = await _keys(settings, issuer)
    except Rejected:
        pass  # a step says so

    def judge(issuers: Issuers, table: Routes) -> tuple[explanation.Step, ...]:
        explain = partial(
            explanation.explain, text, issuers, lambda _issuer: keys, now, max_bytes=settings.limits.token_bytes
        )
        if target is None:
            return explain(demands=demands)
        rule = table.rule(target)
        return explain(demands=rule.requirement, besides=explanation.route_step(rule))

    return trial.explained(judge, configured, core_routes(settings))


async def _keys(settings: Settings, issuer: Issuer) -> KeySet | str:
    configured = next(candidate for candidate in settings.issuers if candidate.name == issuer.name)
    async with open_session() as session:
        try:
            fetched = await origin_of(configured, HttpClient(session, settings.keys.deadline)).fetch(None)
        except SourceUnavailable as outage:
            return f"cannot be had: {outage.detail}"
        return fetched.keys


def as_members(found: Explanation | None) -> dict[str, Any]:
    """For machines. There are no ``steps`` where no token was judged."""
    return {
        "would_deny": None if found is None else found.would_deny,
        "steps": None if found is None else [asdict(step) for step in found.steps],
        "report_only": [] if found is None else [asdict(step) for step in found.on_trial],
    }


def print_steps(steps: tuple[explanation.Step, ...]) -> None:
    """For people."""
    table = Table(box=None, pad_edge=False)
    for title in ("", "check", "expected", "found"):
        table.add_column(title, overflow="fold")
    for step in steps:
        table.add_row(_MARK[step.outcome], step.check, escape(step.expected), escape(step.found))
    out = console()
    out.print(table)
    failed = [step for step in steps if step.outcome is explanation.Outcome.FAILS]
    for step in failed:
        out.print(f"\n[bold red]{step.reason}[/] ({step.check}): {escape(step.hint or '')}")
    if not failed:
        out.print("\n[bold green]allowed[/]")


def print_trial(tried: tuple[explanation.Step, ...]) -> None:
    """For people: what would be refused, and is not."""
    out = console()
    for step in tried:
        told = f"expected {step.expected}, found {step.found}"
        out.print(f"[yellow]report only[/]: would be denied: {step.reason} ({step.check}): {escape(told)}")
