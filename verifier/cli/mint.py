"""``verifier mint``."""

import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import click
from joserfc.jwk import import_key

from verifier.cli.common import fail, run
from verifier.config.duration import seconds
from verifier.dev.issuer import ALGORITHMS, sign

DEV_ISSUER = "http://127.0.0.1:8081"


@click.command("mint")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    help="A claim; JSON, or else a string. null takes it away.",
)
@click.option("--expires-in", default="1h", show_default=True, help="Duration until exp, such as 10m or -1h.")
@click.option("--alg", type=click.Choice(ALGORITHMS), default="RS256", show_default=True)
@click.option("--issuer", default=DEV_ISSUER, show_default=True, help="The development issuer that signs.")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Sign with this private JWK (with alg and kid) instead of asking the issuer.",
)
def command(claims: tuple[str, ...], expires_in: str, alg: str, issuer: str, key: Path | None) -> None:
    """Make a development token with any claims, signed by the issuer of `verifier dev`.

    With --key nobody is asked, and the token has the claims that are given, exp and nothing else.
    """
    wanted = dict(_claim(text) for text in claims)
    wanted.setdefault("exp", int(time.time() + _signed_duration(expires_in)))
    if key is not None:
        click.echo(_sign(wanted, key))
    else:
        click.echo(run(lambda: _ask(issuer, {"claims": wanted, "alg": alg})))


def _claim(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        fail(f"expected --claim NAME=VALUE, found {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _signed_duration(text: str) -> float:
    try:
        return -seconds(text[1:]) if text.startswith("-") else seconds(text)
    except ValueError as error:
        fail(f"--expires-in: {error}")


def _sign(claims: dict[str, Any], path: Path) -> str:
    try:
        key = import_key(json.loads(path.read_text("utf-8")))
        return sign({name: value for name, value in claims.items() if value is not None}, key)  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, say so
        fail(f"cannot sign with {path}: {error}")


async def _ask(issuer: str, wanted: dict[str, Any]) -> str:
    try:
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{issuer}/mint", json=wanted) as answer,
        ):
            document = await answer.json()
            if answer.status != 200:
                fail(f"{issuer} refused: {document.get('error_description', answer.status)}")
            return str(document["access_token"])
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        fail(f"no development issuer at {issuer} ({error}); start one with: verifier dev")
