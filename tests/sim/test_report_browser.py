"""The report in a real browser: nothing overflows, is fetched, complains or shuts anyone out, wide and narrow."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import SCHEMES, WIDTHS, Browser, violations, window

from sim.report import render

EXAMPLES = runpy.run_path(str(Path(__file__).with_name("report_summary.py")))
summary: Callable[..., dict[str, Any]] = EXAMPLES["summary"]

OPEN_DETAILS = "document.querySelectorAll('details').forEach((one) => { one.open = true })"

OVERFLOWING = """(() => {
  const clipped = (e) => e.closest('.scroll') || e.closest('.skip') || e.closest('details:not([open])');
  const wide = [...document.querySelectorAll('body *')].filter(
    (e) => !clipped(e) && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5);
  return {page: document.documentElement.scrollWidth, wide: wide.map((e) => e.outerHTML.slice(0, 120))};
})()"""

TEXT_OUTSIDE_ITS_CHART = """[...document.querySelectorAll('figure > svg')].flatMap((svg) => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter((text) => {
    const r = text.getBoundingClientRect();
    return r.left < box.left - 0.5 || r.right > box.right + 0.5 || r.top < box.top - 0.5 || r.bottom > box.bottom + 0.5;
  }).map((text) => text.textContent);
})"""

SMALLEST_CHART_TEXT = """Math.min(...[...document.querySelectorAll('figure > svg')].map(
  (svg) => 11.5 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))"""


def written(folder: Path, *, rounds: int) -> str:
    """The address of the report of so many rounds."""
    page = folder / "report.html"
    page.write_text(render(summary(rounds=rounds)), encoding="utf-8")
    return page.as_uri()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rounds", [1, 20, 200])
def test_nothing_overflows_is_clipped_or_complains(chromium: Browser, tmp_path: Path, rounds: int, width: int) -> None:
    address = written(tmp_path, rounds=rounds)
    with window(chromium, width=width) as shown:
        shown.open(address)
        for details in ("closed", "open"):
            if details == "open":
                shown.page.evaluate(OPEN_DETAILS)
            found = shown.page.evaluate(OVERFLOWING)
            assert found["page"] <= width and found["wide"] == [], details
        assert shown.page.evaluate(TEXT_OUTSIDE_ITS_CHART) == []
        assert shown.page.evaluate(SMALLEST_CHART_TEXT) >= 9
        assert shown.said == []
        assert [url for url in shown.fetched if not url.startswith("data:")] == [address]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_follows_the_readers_colour_scheme(chromium: Browser, tmp_path: Path, scheme: str) -> None:
    with window(chromium, scheme=scheme) as shown:
        shown.open(written(tmp_path, rounds=3))
        colour = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
        red, *_ = json.loads(colour.replace("rgb(", "[").replace(")", "]"))
        assert (red > 128) == (scheme == "light")


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_serious_in_either_scheme(chromium: Browser, tmp_path: Path, width: int) -> None:
    with window(chromium, width=width) as shown:
        shown.open(written(tmp_path, rounds=3))
        shown.page.evaluate(OPEN_DETAILS)
        assert violations(shown.page) == []


def test_every_table_can_be_reached_and_opened_with_the_keyboard(chromium: Browser, tmp_path: Path) -> None:
    with window(chromium) as shown:
        shown.open(written(tmp_path, rounds=3))
        closed = "document.querySelectorAll('details:not([open])').length"
        assert shown.page.evaluate(closed) > 0
        for _ in range(shown.page.evaluate("document.querySelectorAll('summary, .scroll, a').length") + 5):
            shown.page.keyboard.press("Tab")
            if shown.page.evaluate("document.activeElement.matches('details:not([open]) > summary')"):
                shown.page.keyboard.press("Enter")
        assert shown.page.evaluate(closed) == 0
