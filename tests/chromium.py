"""Debian's Chromium, driven by Playwright: what a person sees and does there, and what the browser says to it.

Nothing is ever downloaded: without a Chromium on PATH the tests that need one are skipped (see the fixture ``chromium``).
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 60_000  # on a busy machine; a test that waits for what has come already waits not at all
WIDTHS = (1280, 390)
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
OF_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium. Playwright holds this thread's event loop until it ends: no ``asyncio.run`` meanwhile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS], timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """One page of a browser's profile, with everything that the browser said and fetched for it."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.fetched: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.fetched.append(request.url))

    def open(self, url: str) -> None:
        """Load a page; what was said and fetched for the one before is forgotten."""
        self.said.clear()
        self.fetched.clear()
        self.page.goto(url, wait_until="load")

    def see(self, selector: str, text: str) -> None:
        """Wait until an element says so."""
        expect(self.page.locator(selector).first).to_contain_text(text)


@contextmanager
def profile(browser: Browser, *, width: int = 1280, scheme: str = "light") -> Iterator[BrowserContext]:
    """A fresh profile of a reader with a screen of ``width`` pixels who prefers the colour ``scheme``."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        is_mobile=width < 600,
        reduced_motion="reduce",  # colours that are still changing are not the ones that are read
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield context
    finally:
        context.close()


@contextmanager
def window(browser: Browser, *, width: int = 1280, scheme: str = "light") -> Iterator[Window]:
    """A page in a fresh profile."""
    with profile(browser, width=width, scheme=scheme) as context:
        yield Window(context)


def press_until(page: Page, key: str, holds: Callable[[], bool], *, most: int = 60) -> None:
    """Press ``key`` until something holds, as a person at a keyboard does."""
    for _ in range(most):
        if holds():
            return
        page.keyboard.press(key)
    raise AssertionError(f"{most} times {key}, and it never came to be on {page.url}")


def violations(page: Page) -> list[str]:
    """What axe-core finds on the open page that shuts people out: rule, target, page and colour scheme, one line each.

    In the other scheme, which the page is left in, nothing but colours can differ: there the rules about colours are asked.
    """
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(f"{AXE_SCRIPT};null")
    first, second = SCHEMES if page.evaluate("matchMedia('(prefers-color-scheme: light)').matches") else SCHEMES[::-1]
    found = [f"{one} ({first})" for one in _asked(page, {}, least=10)]
    page.emulate_media(color_scheme=second)
    return found + [f"{one} ({second})" for one in _asked(page, OF_COLOURS, least=1)]


def _asked(page: Page, options: dict[str, Any], *, least: int) -> list[str]:
    answer = page.evaluate(_ASK, {**options, "resultTypes": ["violations"]})
    assert answer["passed"] >= least, f"axe-core looked at nothing on {page.url}"
    return [f"{rule} at {target} on {page.url}: {said}" for rule, target, said in answer["serious"]]


_ASK = """options => axe.run(document, options).then((found) => ({
  passed: found.passes.length,
  serious: found.violations.filter((one) => ["serious", "critical"].includes(one.impact)).flatMap((one) =>
    one.nodes.map((node) => [one.id, node.target.join(" "), node.failureSummary.replace(/\\s+/g, " ")])),
}))"""
