"""axe-core finds nothing serious on any page: wide and narrow, light and dark, forms open, without data, and on an error."""

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import WIDTHS, Browser, Window, expect, violations, window
from console_fleet import Listening, Served, act, log_in, make_release, release_key, served

from aggregator.console import create_app
from aggregator.store import Database

__all__ = ["make_release", "release_key"]  # fixtures
EMPTY = ("/", "/rounds", "/devices", "/releases", "/costs", "/security", "/login", "/nowhere")
OPEN_FORMS = "document.querySelectorAll('details').forEach((one) => { one.open = true })"
SHOW_STALE = "document.getElementById('stale').hidden = false"
RUNNING = 15


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, make_release: Any) -> Iterator[Served]:
    """A console with something on every page, and a round under way."""
    with served(tmp_path_factory.mktemp("full"), make_release) as console:
        happenings = console.database.happenings
        place = {"round_number": RUNNING, "attempt": 1, "purpose": "update"}
        phase = happenings.begin_phase(**place, phase="train", at=1_700_001_000.0, expected=16, needed=11)
        happenings.note_phase(phase, reported=12, finished=1_700_001_020.0)
        happenings.begin_phase(**place, phase="masked_upload", at=1_700_001_020.0, expected=12, needed=11)
        left = {"attempt": 1, "purpose": "update", "device": "device-7", "stage": "query.shares"}
        text = "device-7 left at query.shares: no answer"
        happenings.add_event("device.left", text, at=1_700_001_010.0, round_number=RUNNING, detail=left)
        yield console


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console without anything to show."""
    url = f"sqlite:///{tmp_path_factory.mktemp('empty') / 'aggregator.sqlite'}"
    with Database.open(url) as database, Listening(create_app(database)) as listening:
        yield listening.address


def drawn(shown: Window) -> None:
    """Wait until nothing loads any more."""
    expect(shown.page.locator(".plot").filter(has_text="Loading")).to_have_count(0)
    if shown.page.locator("#at-hand").count():
        expect(shown.page.locator("#at-hand")).to_contain_text("Latest events")


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_shuts_anyone_out(chromium: Browser, full: Served, width: int) -> None:
    one_each = ("/rounds/14", f"/rounds/{RUNNING}", "/rounds/999", "/devices/device-1", f"/releases/{full.releases[0]}")
    with window(chromium, width=width) as shown:
        shown.open(f"{full.address}/login")
        assert violations(shown.page) == []
        log_in(shown.page, full.address, "ada")
        for path in ("/", "/rounds", "/devices", "/releases", "/costs", "/security", *one_each):
            shown.open(full.address + path)
            drawn(shown)
            shown.page.evaluate(OPEN_FORMS)
            assert violations(shown.page) == []
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width, path
        for typed, heading in (("wrong", "Something is missing"), ("invite", "Done")):
            shown.open(f"{full.address}/devices")
            act(shown.page, "/devices/invite", confirm=typed, reason="one more")
            expect(shown.page.locator("h1")).to_have_text(heading)
            assert violations(shown.page) == []
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width, heading


def test_nor_where_there_is_nothing_yet_and_the_page_is_old(chromium: Browser, empty: str) -> None:
    with window(chromium, width=390) as shown:
        for path in EMPTY:
            shown.open(empty + path)
            shown.page.evaluate(SHOW_STALE)
            assert violations(shown.page) == []


PLANTED = """document.querySelector("main form").append(document.createElement("input"));
document.querySelector("main .note").style.color = "light-dark(#ddd, #666)";"""


def test_what_is_wrong_is_reported_with_its_rule_target_page_and_scheme(chromium: Browser, empty: str) -> None:
    with window(chromium) as shown:
        shown.open(f"{empty}/login")
        shown.page.evaluate(PLANTED)
        found = violations(shown.page)
        rules = {(one.split()[0], one.rsplit(maxsplit=1)[1]) for one in found}
        assert rules == {("color-contrast", "(light)"), ("color-contrast", "(dark)"), ("label", "(light)")}
        assert [one for one in found if one.startswith(f"label at input:nth-child(6) on {empty}/login: ")] != []
