"""``verifier routes``."""

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from verifier.cli.common import NO, YES, console, json_option, print_json, run, settings_or_exit
from verifier.cli.explain import explained, print_steps, token_text
from verifier.config.routes import core_routes
from verifier.core import explanation, paths
from verifier.core.iam import Plans
from verifier.core.policy import NOTHING, Requirement
from verifier.core.routes import Access, Routes, Rule, Target, crossing, shadowed
from verifier.core.verdict import Reach

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group("routes")
def command() -> None:
    """Show which route applies to a request, and which never do."""


@command.command("check")
@_FILE
@click.argument("method")
@click.argument("url")
@click.option("--token", help="A token, to judge it too; - reads it from standard input.")
@json_option
def check(file: Path, method: str, url: str, token: str | None, as_json: bool) -> None:
    """Show which route of FILE applies to a request of METHOD for URL, and what it demands.

    Ends with 1 where nobody may, or with --token where that token may not. Preflights are judged as what they are:
    OPTIONS.
    """
    settings = settings_or_exit(file)
    host, path = paths.split(url)
    rule = core_routes(settings).rule(Target(method, host, path))
    steps = None
    if token is not None and rule.access is not Access.DENIED:
        text = token_text(token, None)
        steps = run(lambda: explained(text, settings, rule.requirement, time.time()))
    refused = rule.access is Access.DENIED or (steps is not None and explanation.refused_by(steps) is not None)
    if as_json:
        print_json({**_as_json(rule), "steps": None if steps is None else [asdict(step) for step in steps]})
    else:
        _print(rule, settings.default_route)
        if steps is not None:
            print_steps(steps)
    sys.exit(NO if refused else YES)


@command.command("lint")
@_FILE
@click.option("--aws", is_flag=True, help="Also find whom API Gateway can be given no policy of all routes for.")
@json_option
def lint(file: Path, aws: bool, as_json: bool) -> None:
    """Find routes of FILE that can never match, and pairs where only their order decides.

    Ends with 1 where there are routes that can never match.
    """
    settings = settings_or_exit(file)
    table = core_routes(settings)
    never, order = shadowed(table.all), crossing(table.all)
    beyond = _beyond_iam(table, settings.aws.hosts.values()) if aws else []
    if as_json:
        print_json({"never": never, "order": order, "beyond_iam": beyond})
    else:
        _print_findings(table, never, order, beyond)
    sys.exit(NO if never else YES)


def _beyond_iam(table: Routes, hosts: Iterable[str | None]) -> list[str]:
    """Who gets policies of one method alone."""
    is_open = table.default is not Access.DENIED
    every = tuple(route.access is not Access.DENIED for route in table.all)
    none = tuple(may and route.requirement == NOTHING for may, route in zip(every, table.all, strict=True))
    plans = Plans(table)
    return [
        who
        for who, taken in (("whoever meets every demand", every), ("whoever meets none", none))
        if any(plans.of(host, Reach(taken, is_open)) is None for host in set(hosts) or {None})
    ]


def _as_json(rule: Rule) -> dict[str, Any]:
    return {
        "access": rule.access,
        "route": None if rule.route is None else rule.route.name,
        "pattern": None if rule.route is None else str(rule.route.pattern),
        "refusal": None if rule.refusal is None else rule.refusal.detail,
        "demands": {name: value for name, value in asdict(rule.requirement).items() if value},
    }


def _print(rule: Rule, default: str) -> None:
    out = console()
    if rule.refusal is not None:
        which = "" if rule.route is None else f"{rule.route.name}: {rule.route.pattern}: "
        out.print(f"[bold red]✗[/] {escape(which)}denied: {escape(rule.refusal.detail)}")
        return
    if rule.route is None:
        out.print(f"no route matches; default_route: {default}")
    else:
        out.print(f"{escape(rule.route.name)}: {escape(str(rule.route.pattern))}")
    if rule.access is Access.DENIED:
        out.print("[bold red]✗[/] nobody may")
    elif rule.access is Access.ANONYMOUS:
        out.print("[bold green]✓[/] everybody may; a token that is sent must be good")
    else:
        demands = _demands(rule.requirement)
        out.print(f"a good token{' with:' if demands else ' is enough'}")
        for demand in demands:
            out.print(f"  {escape(demand)}")


def _demands(requirement: Requirement) -> list[str]:
    found = {name: value for name, value in asdict(requirement).items() if value and name != "claims"}
    lines = [f"{name}: {', '.join(value) if isinstance(value, tuple) else value}" for name, value in found.items()]
    claims = [f"claim {'/'.join(one.path)}: one of {', '.join(map(str, one.values))}" for one in requirement.claims]
    return lines + claims


def _print_findings(routes: Routes, never: Any, order: Any, beyond: list[str]) -> None:
    out = console()
    patterns = {route.name: str(route.pattern) for route in routes.all}
    table = Table("", "Route", "Finding", box=None)
    for name, earlier in never.items():
        table.add_row(
            "[bold red]✗[/]", _named(name, patterns), f"never matches: {_named(earlier, patterns)} comes first"
        )
    for earlier, later in order:
        text = f"{_named(earlier, patterns)} comes first where both match"
        table.add_row("[yellow]![/]", _named(later, patterns), text)
    for who in beyond:
        text = f"no policy of IAM says it for {who}: API Gateway is given one for the requested method alone"
        table.add_row("[yellow]![/]", "all", text)
    out.print(table if table.rows else f"[bold green]✓[/] {len(patterns)} routes, each of which can match")


def _named(name: str, patterns: dict[str, str]) -> str:
    return escape(f"{name} ({patterns[name]})")
