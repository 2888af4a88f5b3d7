"""The picture of docs/status.md: ``python -m tests.e2e.status.screenshot docs/images/status.png``.

Takes half a minute, as a look at an issuer that is down has to be overdue. Writes the picture, and beside it that of a
phone in the dark, ``…-phone.png``, and that of a token explained, ``…-explain.png``.
"""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.status.browser import browser, looking
from tests.e2e.status.scene import scene
from tests.support import ADMIN_TOKEN, AUD, eventually

LONG_ENOUGH = 30
"""Seconds after which the issuer that is down is well past the time of its next look."""


async def take(picture: Path) -> None:
    picture.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        async with scene(Path(folder), refresh="12s", max_stale="2m") as made, browser() as chromium:
            await made.traffic()
            await asyncio.sleep(LONG_ENOUGH)
            await eventually(made.is_stale, within=30)
            async with looking(chromium, viewport={"width": 1120, "height": 1240}) as wide:
                await wide.page.goto(made.url)
                await wide.page.screenshot(path=picture)
            phone = {"width": 390, "height": 844}
            async with looking(chromium, viewport=phone, color_scheme="dark") as narrow:
                await narrow.page.goto(made.url)
                await narrow.page.screenshot(path=picture.with_stem(f"{picture.stem}-phone"))
            async with looking(chromium, viewport={"width": 1120, "height": 1040}) as wide:
                await wide.page.goto(made.url)
                await wide.page.fill("#token", made.token(aud=f"{AUD}/", scope="read:pets"))
                await wide.page.fill("#path", "/pets/1")
                await wide.page.fill("#admin", ADMIN_TOKEN)
                await wide.page.click("button")
                await wide.page.wait_for_url("**/status/explain")
                await wide.page.wait_for_load_state()
                await wide.page.screenshot(path=picture.with_stem(f"{picture.stem}-explain"))


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1])))
