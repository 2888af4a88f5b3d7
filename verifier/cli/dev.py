"""``verifier dev``."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
from aiohttp import web
from rich.markup import escape

from verifier.app import Service, serving
from verifier.cli.common import console, fail, logging_to_stderr, run
from verifier.cli.signals import until_stopped
from verifier.config import Settings
from verifier.dev.issuer import ALGORITHMS, AUDIENCE, CLIENT_ID, DevIssuer


@click.command("dev")
@click.option("--port", default=8080, show_default=True, help="Port that gateways ask.")
@click.option("--ops-port", default=9090, show_default=True, help="Port of metrics and probes.")
@click.option("--issuer-port", default=8081, show_default=True, help="Port of the development issuer.")
def command(port: int, ops_port: int, issuer_port: int) -> None:
    """Run the service with a development issuer beside it, on loopback, and print lines to paste."""

    async def main() -> None:
        async with _issuing(issuer_port) as issuer:
            settings = _settings(issuer.url, port, ops_port)
            with logging_to_stderr(settings) as (log, stream):
                async with serving(settings, log, lambda: stream.dropped) as service:
                    _print_lines(service, issuer)
                    await until_stopped(service, at_terminal=True)

    try:
        run(main, "uvloop")
    except OSError as error:
        fail(f"{error.strerror or error}; choose other ports with --port, --ops-port and --issuer-port")


@asynccontextmanager
async def _issuing(port: int) -> AsyncIterator[DevIssuer]:
    issuer = DevIssuer(f"http://127.0.0.1:{port}")
    runner = web.AppRunner(issuer.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield issuer
    finally:
        await runner.cleanup()


def _settings(issuer: str, port: int, ops_port: int) -> Settings:
    return Settings.model_validate(
        {
            "listen": f"127.0.0.1:{port}",
            "ops": {"listen": f"127.0.0.1:{ops_port}"},
            "issuers": [{"name": "dev", "issuer": issuer, "audiences": [AUDIENCE], "algorithms": list(ALGORITHMS)}],
            "keys": {"unknown_kid_cooldown": "2s"},
            "drain_delay": "0s",
        }
    )


def _print_lines(service: Service, issuer: DevIssuer) -> None:
    out = console()
    out.print(
        f"\n[bold]The verifier answers at http://{service.address}[/], metrics at http://{service.ops_address}/metrics"
    )
    out.print(f"A development issuer signs tokens at {issuer.url}. Paste into another terminal:\n")
    for title, line in _lines(service, issuer):
        out.print(f"[dim]# {title}[/]")
        out.print(escape(line), style="cyan")
    out.print("\nCtrl-C ends both.\n")


def _lines(service: Service, issuer: DevIssuer) -> tuple[tuple[str, str], ...]:
    """What a newcomer would try, in the order in which it teaches."""
    program = _program()
    mint = f"{program} mint --issuer {issuer.url}"
    verify = f"http://{service.address}/verify"
    environment = f"TOKEN_ISSUER={issuer.url} AUDIENCE={AUDIENCE}"

    def with_token(options: str = "") -> str:
        return f'curl -i -H "Authorization: Bearer $({mint}{options})" {verify}'

    return (
        ("200: an allow, with its principal", with_token()),
        ("401 missing_token", f"curl -i {verify}"),
        ("401 expired", with_token(" --expires-in -1h")),
        ("401 wrong_audience", with_token(" --claim aud=https://other.example")),
        ("401 untrusted_issuer", with_token(f" --claim iss={issuer.url}/")),
        ("401 bad_signature", with_token().replace(')"', ')AAAA"', 1)),
        (
            "403 insufficient_scope",
            f"curl -i -H 'Content-Type: application/json' {verify} "
            f"""-d '{{"token": "'$({mint})'", "scopes": ["write:pets"]}}'""",
        ),
        (
            "why, check by check, with the near miss",
            f"{mint} --claim iss={issuer.url}/ | {environment} {program} explain",
        ),
        (
            "a token as clients get them (RFC 6749)",
            f"curl -s -u {CLIENT_ID}:{issuer.client_secret} -d grant_type=client_credentials {issuer.url}/token",
        ),
        ("new keys; tokens go on being verified", f"curl -s -X POST {issuer.url}/rotate"),
    )


def _program() -> str:
    """How this command was called, so that the lines work in the same folder."""
    called = Path(sys.argv[0])
    try:
        return str(called.relative_to(Path.cwd()))
    except ValueError:
        return str(called)
