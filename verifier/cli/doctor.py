"""``verifier doctor``."""

import asyncio
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from verifier.app import origin_of
from verifier.cli.common import (
    NO,
    YES,
    config_option,
    console,
    json_option,
    print_json,
    run,
    settings_or_exit,
)
from verifier.config import IssuerSettings, Settings
from verifier.core import keys, strict_json
from verifier.core.algorithms import KEY_TYPE
from verifier.core.issuer import TENANT
from verifier.core.keys import KeySet
from verifier.ports import SourceUnavailable
from verifier.remote.http import Access, HttpClient, certificate_expires, open_session
from verifier.remote.metadata import discover

DAYS_LEFT = 14
"""A certificate with fewer days left is reported."""


@dataclass(slots=True)
class Report:
    """What is known of one issuer. ``latency`` in seconds, ``clock_skew`` in seconds that its clock is ahead."""

    issuer: str
    keys_from: str
    keys: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    latency: float | None = None
    clock_skew: float | None = None
    certificate_days: float | None = None
    problems: list[str] = field(default_factory=list)


@click.command("doctor")
@config_option
@json_option
def command(config: Path | None, as_json: bool) -> None:
    """Ask every issuer for its keys: discovery, keys, algorithms, clock skew, certificate, latency.

    Ends with 0 when all is well and with 1 when something is not.
    """
    settings = settings_or_exit(config)
    reports = run(lambda: _examine_all(settings))
    if as_json:
        print_json([asdict(report) for report in reports])
    else:
        _print(reports)
    sys.exit(NO if any(report.problems for report in reports) else YES)


async def _examine_all(settings: Settings) -> list[Report]:
    async with open_session() as session:
        http = HttpClient(session, settings.keys.deadline)
        return await asyncio.gather(*(_examine(issuer, http) for issuer in settings.issuers))


async def _examine(issuer: IssuerSettings, http: HttpClient) -> Report:
    report = Report(issuer.name, keys_from="a file")
    try:
        if issuer.jwks_file or issuer.public_key_files or issuer.secret_file:
            loaded = (await origin_of(issuer, http).fetch(None)).keys
        else:
            loaded = await _fetch(issuer, http, report)
    except (SourceUnavailable, ValueError) as error:
        report.problems.append(error.detail if isinstance(error, SourceUnavailable) else str(error))
        return report
    _judge_keys(issuer, loaded, report)
    _judge_connection(issuer, report)
    return report


async def _fetch(issuer: IssuerSettings, http: HttpClient, report: Report) -> KeySet:
    access = Access(issuer.ca_file, issuer.bearer_file, issuer.allow_insecure_http)
    uri = issuer.jwks_uri
    if uri is None:
        base = issuer.discovery_url if TENANT in issuer.issuer else None
        report.keys_from = "discovery"
        uri = await discover(http, issuer.issuer, access, "jwks_uri", base=base)
        access = access.at(uri, base or issuer.issuer)
    report.keys_from = uri
    began = time.perf_counter()
    reply = await http.get(uri, access)
    report.latency = time.perf_counter() - began
    if reply.date is not None:
        report.clock_skew = reply.date - time.time()
    expires = await certificate_expires(uri, access)
    if expires is not None:
        report.certificate_days = (expires - time.time()) / 86_400
    return keys.load_jwks(strict_json.parse(reply.body or b""))


def _judge_keys(issuer: IssuerSettings, loaded: KeySet, report: Report) -> None:
    report.keys = [f"{key.kid or '(no kid)'} {key.algorithm or key.type.curve or key.type.kty}" for key in loaded.keys]
    report.dropped = {str(cause): count for cause, count in loaded.dropped.items()}
    if not loaded.keys:
        report.problems.append("no usable key; an issuer that signs with HMAC publishes none")
    served = {name for name in issuer.algorithms for key in loaded.keys if key.type == KEY_TYPE[name]}
    if loaded.keys and not served:
        report.problems.append(f"no key fits the configured algorithms ({', '.join(issuer.algorithms)})")


def _judge_connection(issuer: IssuerSettings, report: Report) -> None:
    if report.clock_skew is not None and abs(report.clock_skew) > max(issuer.leeway, 2.0):
        report.problems.append(f"its clock differs by {report.clock_skew:.0f} s, the leeway is {issuer.leeway:.0f} s")
    if report.certificate_days is not None and report.certificate_days < DAYS_LEFT:
        report.problems.append(f"its certificate ends in {report.certificate_days:.0f} days")


def _print(reports: list[Report]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("", "issuer", "keys from", "keys", "latency", "clock", "certificate"):
        table.add_column(title, overflow="fold")
    for report in reports:
        table.add_row(
            "[bold red]✗[/]" if report.problems else "[green]✓[/]",
            report.issuer,
            escape(report.keys_from),
            escape(", ".join(report.keys)) or "none",
            "–" if report.latency is None else f"{report.latency * 1000:.0f} ms",
            "–" if report.clock_skew is None else f"{report.clock_skew:+.0f} s",
            "–" if report.certificate_days is None else f"{report.certificate_days:.0f} days",
        )
    out = console()
    out.print(table)
    for report in reports:
        for problem in report.problems:
            out.print(f"[bold red]✗[/] [bold]{report.issuer}[/] {escape(problem)}")
        for cause, count in report.dropped.items():
            out.print(f"[dim]{report.issuer}: {count} key(s) of its set not used ({cause})[/]")
