"""The status page in a real browser."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.status.browser import Watched, axe, browser, looking
from tests.e2e.status.scene import Scene, scene
from tests.support import ADMIN_TOKEN, eventually

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("status")]

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1120, "height": 800}
WIDEST = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (one) => window.violations.push(one.violatedDirective));
"""


@pytest.fixture
async def chromium() -> AsyncIterator["Browser"]:
    async with browser() as made:
        yield made


@pytest.fixture
async def made(tmp_path: Path, chromium: "Browser") -> AsyncIterator[Scene]:
    """After ``chromium``, so that nothing is waited for where there is no browser."""
    async with scene(tmp_path) as stage:
        await stage.traffic()
        await eventually(stage.is_stale, within=15)
        yield stage


async def explain(at: Watched, token: str, admin: str = ADMIN_TOKEN) -> None:
    await at.page.fill("#token", token)
    await at.page.fill("#admin", admin)
    async with at.page.expect_response("**/status/explain"):
        await at.page.click("button")
    await at.page.wait_for_load_state()


async def test_it_shows_every_issuer_by_shape_and_word_and_asks_nobody_else(made: Scene, chromium: "Browser") -> None:
    async with looking(chromium, viewport=DESK) as at:
        await at.page.add_init_script(VIOLATIONS)
        await at.page.goto(made.url)
        marks = await at.page.locator("section.card .top .mark").all_inner_texts()
        assert marks == ["fresh", "stale", "fresh"]
        shapes = [await one.inner_html() for one in await at.page.locator(".grid .top .mark svg").all()]
        assert shapes[0] == shapes[2] != shapes[1]
        assert at.asked == [made.url]
        assert at.said == []
        assert await at.page.evaluate("window.violations") == []
        assert await at.page.evaluate("getComputedStyle(document.body).margin") == "0px"  # its style is in use


async def test_what_the_policy_forbids_is_forbidden(made: Scene, chromium: "Browser") -> None:
    """Or the tests here would show nothing."""
    async with looking(chromium) as at:
        await at.page.goto(made.url)
        await at.page.evaluate("document.body.setAttribute('style', 'margin: 9px')")
        assert await at.page.evaluate("getComputedStyle(document.body).margin") == "0px"
        assert len(at.said) == 1


@pytest.mark.parametrize("width", [320, 390, 768, 1120])
async def test_nothing_is_wider_than_the_screen(width: int, made: Scene, chromium: "Browser") -> None:
    async with looking(chromium, viewport={"width": width, "height": 844}) as at:
        await at.page.goto(made.url)
        await at.page.locator("summary").click()
        assert await at.page.evaluate(WIDEST) <= width
        await explain(at, made.token("corporate", nonce="x" * 400))
        assert await at.page.evaluate(WIDEST) <= width


async def test_in_the_dark_it_is_dark(made: Scene, chromium: "Browser") -> None:
    found = {}
    for scheme in ("light", "dark"):
        async with looking(chromium, color_scheme=scheme) as at:
            await at.page.goto(made.url)
            colour = await at.page.evaluate("getComputedStyle(document.body).backgroundColor")
            found[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
    assert found["dark"] < 150
    assert found["light"] > 600


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_a_good_token_is_explained(scripts: bool, made: Scene, chromium: "Browser") -> None:
    async with looking(chromium, java_script_enabled=scripts) as at:
        await at.page.goto(made.url)
        await explain(at, f"Bearer {made.token()}")
        assert await at.page.locator("main .mark").first.inner_text() == "allowed"
        assert await at.page.locator(".steps .mark", has_text="signature").count() == 1
        assert at.said == []


async def test_a_token_that_is_over_is_explained(made: Scene, chromium: "Browser") -> None:
    async with looking(chromium) as at:
        await at.page.goto(made.url)
        await explain(at, made.token(exp=time.time() - 3_600))
        assert await at.page.locator("main .mark").first.inner_text() == "refused"
        assert "expired" in await at.page.locator("main .card").first.inner_text()


async def test_another_admin_token_is_told_nothing(made: Scene, chromium: "Browser") -> None:
    async with looking(chromium) as at:
        await at.page.goto(made.url)
        await explain(at, made.token(sub="canary"), "not the admin token")
        assert "That is not the admin token." in await at.page.locator("main").inner_text()
        assert "canary" not in await at.page.content()


async def test_both_tokens_are_nowhere_afterwards(made: Scene, chromium: "Browser") -> None:
    """Not in the page, an address, the log, nor in the form when one goes back."""
    token = made.token(exp=time.time() - 3_600)
    async with looking(chromium) as at:
        await at.page.goto(made.url)
        await explain(at, token)
        places = [await at.page.content(), at.page.url, *at.asked, *at.said, made.client.log_stream.getvalue()]
        for part in (*token.split("."), ADMIN_TOKEN):
            assert [place for place in places if part in place] == []
        await at.page.go_back()
        assert [await at.page.input_value(name) for name in ("#token", "#admin")] == ["", ""]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_to_mend(scheme: str, made: Scene, chromium: "Browser") -> None:
    """WCAG 2.2, A and AA, contrast among them, and axe's own good practice."""
    source = axe()
    async with looking(chromium, viewport=PHONE, color_scheme=scheme) as at:
        await at.page.goto(made.url)
        await at.page.locator("summary").click()
        assert await at.faults(source) == []
        await explain(at, made.token("partners", exp=time.time() - 3_600))
        assert await at.faults(source) == []
