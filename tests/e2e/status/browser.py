"""Debian's Chromium without a screen, driven by Playwright: a new profile each time, and nothing but the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.gateways.programs import require

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

FLAGS = (
    "--no-sandbox",  # where tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def browser() -> AsyncIterator["Browser"]:
    program = require("chromium", "apt-get install chromium")
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed: make e2e")
    async with playwright.async_playwright() as driver:
        made = await driver.chromium.launch(executable_path=program, args=[*FLAGS], headless=True)
        try:
            yield made
        finally:
            await made.close()


@dataclass
class Watched:
    """A page, and what it did: every address that it asked for, and what the console said."""

    page: "Page"
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))


@asynccontextmanager
async def looking(at: "Browser", **context: Any) -> AsyncIterator[Watched]:
    """A new page with a profile of its own. ``context`` is Playwright's: viewport, color_scheme and the like."""
    profile = await at.new_context(**context)
    try:
        watched = Watched(await profile.new_page())
        watched.watch()
        yield watched
    finally:
        await profile.close()
