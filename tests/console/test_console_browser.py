"""The console in a real browser: wide and narrow, light and dark, by keyboard, and its policy refuses nothing of its own."""

import runpy
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from aggregator.console import create_app
from aggregator.console.auth.accounts import Accounts
from aggregator.console.auth.passwords import Passwords
from aggregator.console.auth.roles import Role
from aggregator.store import Database, RoundRow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
Browser: Any = runpy.run_path(str(Path(__file__).parents[1] / "sim" / "test_report_browser.py"))["Browser"]
PASSWORD = "correct horse battery"
PATHS = ("/", "/rounds", "/devices", "/releases", "/costs", "/security", "/login", "/nowhere")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A console that listens, with a few rounds and an operator."""
    passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))
    with (
        Database.open(f"sqlite:///{tmp_path_factory.mktemp('console') / 'aggregator.sqlite'}") as database,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        for number in range(1, 4):
            row = RoundRow(
                round=number, state="finished", started=0.0, finished=60.0, release="ab" * 32, seconds={"unmask": 2.5}
            )
            database.save_round(row)
        Accounts(database, passwords=passwords).add("ada", Role.OPERATOR, PASSWORD)
        app = create_app(database, federation={"secagg": "demo"}, passwords=passwords)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    try:
        yield started
    finally:
        started.close()


def visit(browser: Any, url: str, *, width: int = 1280, scheme: str = "light") -> None:
    browser.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.events.clear()
    browser.send("Page.navigate", url=url)
    loaded(browser)


def loaded(browser: Any) -> None:
    while not any(event.get("method") == "Page.loadEventFired" for event in browser.events):
        browser.events.append(browser._receive())


def complaints(browser: Any) -> list[str]:
    """What the browser's console says, and what it could not fetch; not that a page is missing, which a test asks for."""
    said = [event["params"]["entry"]["text"] for event in browser.events if event.get("method") == "Log.entryAdded"]
    thrown = [str(event["params"]) for event in browser.events if event.get("method") == "Runtime.exceptionThrown"]
    return [text for text in said if "404 (Not Found)" not in text] + thrown


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_and_nothing_is_refused_or_fails(browser: Any, address: str, width: int, scheme: str) -> None:
    for path in PATHS:
        visit(browser, address + path, width=width, scheme=scheme)
        assert browser.evaluate("typeof htmx") == "object"
        assert browser.evaluate("document.documentElement.scrollWidth") <= width, path
        assert complaints(browser) == [], path
        fetched = [
            event["params"]["request"]["url"]
            for event in browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        assert len(fetched) > 4 and all(url.startswith((address, "data:image/")) for url in fetched)
        dark = browser.evaluate(
            "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).every(c => c < 60)"
        )
        assert dark is (scheme == "dark")


def focused(browser: Any, name: str) -> None:
    """Wait until a field has the focus: it comes with a frame, which may be drawn after the page has loaded."""
    until = time.monotonic() + 30
    while browser.evaluate("document.activeElement.name") != name:
        assert time.monotonic() < until, f"the field {name} never got the focus"
        time.sleep(0.05)


def press(browser: Any, key: str) -> None:
    code, text = {"Tab": (9, ""), "Enter": (13, "\r")}[key]
    browser.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, text=text)
    browser.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)


def test_a_keyboard_skips_the_navigation_logs_in_and_out_again(browser: Any, address: str) -> None:
    visit(browser, address + "/")
    press(browser, "Tab")
    assert browser.evaluate("document.activeElement.getAttribute('href')") == "#main"
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    visit(browser, address + "/login?next=/rounds")
    focused(browser, "name")
    browser.send("Input.insertText", text="ada")
    press(browser, "Tab")
    focused(browser, "password")
    browser.send("Input.insertText", text=PASSWORD)
    browser.events.clear()
    press(browser, "Enter")
    loaded(browser)
    assert browser.evaluate("location.pathname") == "/rounds"
    assert "ada" in browser.evaluate("document.querySelector('.account').innerText")
    assert browser.evaluate("document.cookie") == ""  # no script reads the session
    browser.events.clear()
    browser.evaluate("document.querySelector('.account button').click()")
    loaded(browser)
    assert "Log in" in browser.evaluate("document.querySelector('.account').innerText")


def test_a_page_says_that_it_is_old_when_the_console_is_gone(browser: Any, address: str) -> None:
    visit(browser, address + "/rounds")  # not one that is kept up to date by itself, or that would hide it again
    assert browser.evaluate("document.getElementById('stale').hidden") is True
    browser.evaluate("htmx.ajax('GET', '/nowhere', '#main') && null")
    deadline = time.monotonic() + 30
    while browser.evaluate("document.getElementById('stale').hidden"):
        assert time.monotonic() < deadline, "the page never said so"
        time.sleep(0.05)
    assert browser.evaluate("document.getElementById('stale').getBoundingClientRect().height") > 0
