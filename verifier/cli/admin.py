"""What ``revoke`` and ``revocations`` share: asking the ops port of a running service."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import click

from verifier.cli.common import config_option, fail, run, settings_or_exit
from verifier.remote.http import describe

DEADLINE = 5.0
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - not bound, but asked


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, and what it wants to see from an administrator."""

    url: str
    token: str

    def ask(self, method: str, path: str = "", body: Any = None) -> Any:
        """The JSON that ``/admin/revocations`` answers. Ends the command where it is an error."""
        return run(lambda: self._ask(method, path, body))

    async def _ask(self, method: str, path: str, body: Any) -> Any:
        address = f"{self.url}/admin/revocations{path}"
        headers = {"Authorization": f"Bearer {self.token}"}
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(method, address, json=body, headers=headers) as answer,
            ):
                found: Any = None if answer.status == 204 else await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            fail(f"{address}: {describe(error)}")
        if answer.status == 404 and not path:
            fail(f"{address}: there is no /admin; set ops.admin_token_file at the service")
        if answer.status >= 400:
            fail(f"{address}: {found.get('detail', answer.status)}")
        return found


def service_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which service is asked, in the place of a ``Service``."""
    options = (
        config_option,
        click.option("--ops", metavar="URL", help="Its ops port. Default: ops.listen of the configuration."),
        click.option(
            "--admin-token-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Default: ops.admin_token_file of the configuration.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def service(config: Path | None, ops: str | None, admin_token_file: Path | None) -> Service:
    """The service that the options name; the configuration is read where they leave something open."""
    if ops is None or admin_token_file is None:
        settings = settings_or_exit(config)
        host, _, port = settings.ops.listen.rpartition(":")
        ops = ops or f"http://{_ANYWHERE.get(host, host)}:{port}"
        admin_token_file = admin_token_file or settings.ops.admin_token_file
    if admin_token_file is None:
        fail("give --admin-token-file, or ops.admin_token_file in the configuration")
    try:
        return Service(ops.rstrip("/"), admin_token_file.read_text("utf-8").strip())
    except OSError as error:
        fail(f"cannot read {admin_token_file}: {error.strerror}")


def date(seconds: float) -> str:
    """For people, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
