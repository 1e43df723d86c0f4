"""The console in a real browser: wide and narrow, light and dark, by keyboard, and its policy refuses nothing of its own."""

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from chromium import SCHEMES, WIDTHS, Browser, expect, window
from console_fleet import Listening

from aggregator.console import create_app
from aggregator.console.auth.accounts import Accounts, Passwords
from aggregator.console.auth.policy import Role
from aggregator.store import Database, RoundRow

PASSWORD = "correct horse battery"
PATHS = ("/", "/rounds", "/devices", "/releases", "/costs", "/security", "/login", "/nowhere")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A console that listens, with a few rounds and an operator."""
    passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))
    with Database.open(f"sqlite:///{tmp_path_factory.mktemp('console') / 'aggregator.sqlite'}") as database:
        for number in range(1, 4):
            row = RoundRow(
                round=number, state="finished", started=0.0, finished=60.0, release="ab" * 32, seconds={"unmask": 2.5}
            )
            database.save_round(row)
        Accounts(database, passwords=passwords).add("ada", Role.OPERATOR, PASSWORD)
        with Listening(create_app(database, federation={"secagg": "demo"}, passwords=passwords)) as listening:
            yield listening.address


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_page_fits_and_nothing_is_refused_or_fails(chromium: Browser, address: str, width: int, scheme: str) -> None:
    with window(chromium, width=width, scheme=scheme) as shown:
        for path in PATHS:
            shown.open(address + path)
            assert shown.page.evaluate("typeof htmx") == "object"
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width, path
            # Not that a page is missing, which is asked for here.
            assert [text for text in shown.said if "404 (Not Found)" not in text] == [], path
            assert len(shown.fetched) > 4 and all(url.startswith((address, "data:image/")) for url in shown.fetched)
            dark = shown.page.evaluate(
                "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).every(c => c < 60)"
            )
            assert dark is (scheme == "dark")


def test_a_keyboard_skips_the_navigation_logs_in_and_out_again(chromium: Browser, address: str) -> None:
    with window(chromium) as shown:
        page, active = shown.page, "document.activeElement"
        shown.open(address + "/")
        page.keyboard.press("Tab")
        assert page.evaluate(f"{active}.getAttribute('href')") == "#main"
        assert page.evaluate(f"getComputedStyle({active}).outlineStyle") == "solid"
        assert page.evaluate(f"{active}.getBoundingClientRect().left") >= 0
        shown.open(address + "/login?next=/rounds")
        expect(page.get_by_label("Name")).to_be_focused()  # it comes with a frame, maybe after the load
        page.keyboard.insert_text("ada")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Password")).to_be_focused()
        page.keyboard.insert_text(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{address}/rounds")
        shown.see(".account", "ada")
        assert page.evaluate("document.cookie") == ""  # no script reads the session
        page.get_by_role("button", name="Log out").click()
        shown.see(".account", "Log in")


def test_a_page_says_that_it_is_old_when_an_answer_fails(chromium: Browser, address: str) -> None:
    with window(chromium) as shown:
        shown.open(address + "/rounds")  # not one that is kept up to date by itself, or that would hide it again
        stale = shown.page.locator("#stale")
        expect(stale).to_be_hidden()
        shown.page.evaluate("htmx.ajax('GET', '/nowhere', '#main') && null")
        expect(stale).to_be_visible()
        box = stale.bounding_box()
        assert box is not None and box["height"] > 0
