"""Debian's Chromium without a screen, driven by Playwright: a new profile each time, and nothing but the page."""

import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.e2e.gateways.programs import require

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
"""What finds faults of accessibility; npm ci in tests/e2e brings it."""

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
    try:
        playwright = importlib.import_module("playwright.async_api")
    except ImportError:
        _lacking("playwright is not installed: make e2e")
    async with playwright.async_playwright() as driver:
        made = await driver.chromium.launch(executable_path=program, args=[*FLAGS], headless=True)
        try:
            yield made
        finally:
            await made.close()


def axe() -> str:
    """Its source."""
    if not AXE.exists():
        _lacking("axe-core is not installed: run npm ci in tests/e2e, or make e2e")
    return AXE.read_text("utf-8")


def _lacking(text: str) -> NoReturn:
    """Skip; fail where nothing may be missing (``E2E_REQUIRE=1``)."""
    if os.environ.get("E2E_REQUIRE") == "1":
        pytest.fail(text)
    pytest.skip(text)


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

    async def faults(self, source: str) -> list[str]:
        """What axe, of which this is the ``source``, finds: each rule with its first place."""
        await self.page.evaluate(source)
        found = await self.page.evaluate("axe.run()")
        return [f"{one['id']}: {one['nodes'][0]['html']} {one['nodes'][0]['any']}" for one in found["violations"]]


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
