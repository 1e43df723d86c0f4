"""The report in a real browser: nothing overflows, is fetched or complains, at the width of a desk and of a telephone."""

import json
import os
import runpy
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.report import render

WIDTHS = (1280, 390)
SILENCE_S = 120
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXAMPLES = runpy.run_path(str(Path(__file__).with_name("report_summary.py")))
summary: Callable[..., dict[str, Any]] = EXAMPLES["summary"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")

# The DevTools pipe wants descriptors 3 and 4 in the browser itself.
_LAUNCH = (
    "import fcntl, os, sys; r, w = (fcntl.fcntl(int(a), fcntl.F_DUPFD, 10) for a in sys.argv[1:3]); "
    "os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """One page of a headless Chromium, driven by JSON messages over a pipe."""

    def __init__(self, profile: Path) -> None:
        their_in, self._out = os.pipe()
        self._in, their_out = os.pipe()
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--remote-debugging-pipe",
        ]
        command = [sys.executable, "-c", _LAUNCH, str(their_in), str(their_out), str(CHROMIUM), *flags]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"],
            pass_fds=(their_in, their_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command; events that arrive meanwhile are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path, *, width: int, scheme: str) -> None:
        """Load ``page`` as a device of ``width`` pixels whose reader prefers ``scheme``."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, run by the debugger: the page itself may run none."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self._in)
        os.close(self._out)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], SILENCE_S)
            chunk = os.read(self._in, 1 << 20) if ready else b""
            assert chunk, "the browser is gone, or has been silent for too long"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        parsed: dict[str, Any] = json.loads(message)
        return parsed


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


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


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rounds", [1, 20, 200])
def test_nothing_overflows_is_clipped_or_complains(browser: Browser, tmp_path: Path, rounds: int, width: int) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(summary(rounds=rounds)), encoding="utf-8")
    browser.open(page, width=width, scheme="light")
    for details in ("closed", "open"):
        if details == "open":
            browser.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
        found = browser.evaluate(OVERFLOWING)
        assert found["page"] <= width and found["wide"] == [], details
    assert browser.evaluate(TEXT_OUTSIDE_ITS_CHART) == []
    assert browser.evaluate(SMALLEST_CHART_TEXT) >= 9
    complaints = [
        e
        for e in browser.events
        if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    ]
    assert complaints == []
    fetched = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in fetched if not url.startswith("data:")] == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_readers_colour_scheme(browser: Browser, tmp_path: Path, scheme: str) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(summary(rounds=3)), encoding="utf-8")
    browser.open(page, width=1280, scheme=scheme)
    red, *_ = json.loads(
        browser.evaluate("getComputedStyle(document.body).backgroundColor").replace("rgb(", "[").replace(")", "]")
    )
    assert (red > 128) == (scheme == "light")


def test_every_table_can_be_reached_and_opened_with_the_keyboard(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(summary(rounds=3)), encoding="utf-8")
    browser.open(page, width=1280, scheme="light")
    closed = "document.querySelectorAll('details:not([open])').length"
    assert browser.evaluate(closed) > 0
    for _ in range(browser.evaluate("document.querySelectorAll('summary, .scroll, a').length") + 5):
        _press(browser, "Tab", 9)
        if browser.evaluate("document.activeElement.matches('details:not([open]) > summary')"):
            _press(browser, "Enter", 13)
    assert browser.evaluate(closed) == 0


def _press(browser: Browser, key: str, code: int) -> None:
    text = {"text": "\r"} if key == "Enter" else {}
    browser.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
    browser.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)
