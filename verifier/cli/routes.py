"""``verifier routes``."""

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from verifier.cli.common import NO, YES, console, json_option, print_json, run, settings_or_exit
from verifier.cli.explain import as_members, explained, print_steps, print_trial, token_text
from verifier.config.routes import core_routes
from verifier.core import paths
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
    table, target = core_routes(settings), Target(method, host, path)
    rule = table.rule(target)
    tried = rule if table.trial is None else table.trial.rule(target)
    found = None
    if token is not None and rule.access is not Access.DENIED:
        text = token_text(token, None)
        found = run(lambda: explained(text, settings, time.time(), target=target))
    if as_json:
        print_json({**_as_json(rule), **as_members(found), "rule_on_trial": None if tried == rule else _as_json(tried)})
    else:
        _print(rule, settings.default_route)
        if found is not None:
            print_steps(found.steps)
        if tried != rule:
            console().print("\n[yellow]report only[/]: what would apply instead if it were enforced:")
            _print(tried, settings.default_route)
        if found is not None:
            print_trial(found.on_trial)
    sys.exit(NO if rule.access is Access.DENIED or (found is not None and found.reason is not None) else YES)


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
    found = _found(table)
    beyond = _beyond_iam(table, settings.aws.hosts.values()) if aws else []
    if as_json:
        print_json({**asdict(found), "beyond_iam": beyond})
    else:
        _print_findings(table, found, beyond)
    sys.exit(NO if found.never else YES)


@dataclass(frozen=True, slots=True)
class _Findings:
    """By names of routes. ``never``: those that can never match, with the one before; ``never_once_enforced``: those
    that could not if all that are only reported were enforced; ``order``: pairs where only their order decides."""

    never: Mapping[str, str]
    never_once_enforced: Mapping[str, str]
    order: tuple[tuple[str, str], ...]


def _found(table: Routes) -> _Findings:
    written = (table.trial or table).all
    enforced = {route.name for route in table.all}
    never, later = shadowed(table.all), shadowed(written)
    idle = {name: earlier for name, earlier in later.items() if name not in enforced}
    hidden = {name: earlier for name, earlier in later.items() if name in enforced and name not in never}
    return _Findings({**never, **idle}, hidden, crossing(written))


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


def _print_findings(routes: Routes, found: _Findings, beyond: list[str]) -> None:
    out = console()
    enforced = {route.name for route in routes.all}
    patterns = {
        route.name: f"{route.pattern}{'' if route.name in enforced else ', report only'}"
        for route in (routes.trial or routes).all
    }
    table = Table("", "Route", "Finding", box=None)
    for name, earlier in found.never.items():
        table.add_row(
            "[bold red]✗[/]", _named(name, patterns), f"never matches: {_named(earlier, patterns)} comes first"
        )
    for name, earlier in found.never_once_enforced.items():
        text = f"would never match once {_named(earlier, patterns)} is enforced"
        table.add_row("[yellow]![/]", _named(name, patterns), text)
    for earlier, later in found.order:
        text = f"{_named(earlier, patterns)} comes first where both match"
        table.add_row("[yellow]![/]", _named(later, patterns), text)
    for who in beyond:
        text = f"no policy of IAM says it for {who}: API Gateway is given one for the requested method alone"
        table.add_row("[yellow]![/]", "all", text)
    out.print(table if table.rows else f"[bold green]✓[/] {len(patterns)} routes, each of which can match")


def _named(name: str, patterns: dict[str, str]) -> str:
    return escape(f"{name} ({patterns[name]})")
