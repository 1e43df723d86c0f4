"""An operator in a real browser at a served console: a live round, acts and their audit, a console that ends and returns."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, expect, press_until, profile, window
from console_fleet import PASSWORD, Served, act, log_in, make_release, release_key, served

from aggregator.admin import Operator
from aggregator.rounds.interfaces import Place
from aggregator.rounds.progress import StoredProgress
from aggregator.store import Database, RoundRow

__all__ = ["make_release", "release_key"]  # fixtures
ROUND = 15
PLACE = Place(ROUND, 1, "update")


@pytest.fixture
def fleet(tmp_path: Path, make_release: Any) -> Iterator[Served]:
    with served(tmp_path, make_release) as console:
        yield console


class LiveRound:
    """A round that a thread writes as the rounds process does; it goes on by one step at each `step`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "LiveRound":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go.release(100)
        self._thread.join()

    def step(self) -> None:
        """Go on."""
        self._go.release()

    def _run(self) -> None:
        progress = StoredProgress(self._database, ticks=itertools.count().__next__)  # each report comes a second later
        with progress.phase(PLACE, "train", expected=16, needed=11) as reported:
            self._go.acquire()
            reported(12)
            self._go.acquire()
            gone = {"attempt": 1, "purpose": "update", "device": "device-7", "stage": "query.shares"}
            progress.event("device.left", "device-7 left at query.shares: no answer", round_number=ROUND, **gone)
        with progress.phase(PLACE, "masked_upload", expected=15, needed=11) as reported:
            reported(14)
            self._go.acquire()
        row = RoundRow(round=ROUND, state="finished", cohort=16, survivors=15, started=0.0, finished=60.0)
        self._database.save_round(row)
        progress.event("round.finished", f"round {ROUND} is done", round_number=ROUND)


def acts(database: Database) -> list[tuple[str, str, str]]:
    """Actor, act and reason in the audit, oldest first, without who came and went."""
    rows = [row for row in reversed(database.audit.latest(50)) if not row.action.startswith(("log", "account"))]
    return [(row.actor, row.action, row.reason) for row in rows]


def test_a_live_round_is_followed_without_a_reload(chromium: Browser, fleet: Served) -> None:
    with profile(chromium) as reader, LiveRound(fleet.database) as live:
        overview, of_round = reader.new_page(), reader.new_page()
        at_hand, bars = overview.locator("#at-hand"), of_round.locator(".timeline li")
        overview.goto(fleet.address)
        expect(at_hand).to_contain_text("0 of 16 reported, at least 11 needed")
        overview.get_by_role("link", name=f"Round {ROUND}").click()
        expect(overview.locator("h1")).to_have_text(f"Round {ROUND}")  # there is a page before it is recorded
        overview.go_back()
        overview.locator("#round-at-hand").focus()
        of_round.goto(f"{fleet.address}/rounds/{ROUND}")
        for page in (overview, of_round):
            page.evaluate("window.sameDocument = true")
        expect(bars).to_have_count(1)
        assert "going" in str(bars.locator(".bar").get_attribute("class"))
        live.step()
        for page in (overview, of_round):
            expect(page.locator(".timeline li")).to_contain_text("12 of 16 reported, at least 11 needed")
        live.step()
        expect(at_hand).to_contain_text("device-7 left at query.shares: no answer")
        expect(of_round.get_by_role("table", name="Devices that left")).to_contain_text("device-7")
        expect(bars).to_have_count(2)
        expect(bars.nth(1)).to_contain_text("14 of 15 reported, at least 11 needed")
        started = [float(bars.nth(place).locator(".bar").get_attribute("x") or "nan") for place in (0, 1)]
        assert started[0] == 0 < started[1]
        live.step()
        expect(at_hand).to_contain_text(f"round {ROUND} is done")
        expect(overview.locator("#figures")).to_contain_text(f"Round {ROUND} is the newest recorded one")
        expect(of_round.locator("#round")).to_contain_text("15 of 16")
        expect(of_round.locator("#round .tag").first).to_have_text("finished")
        assert all(page.evaluate("window.sameDocument") for page in (overview, of_round))
        expect(overview.locator("#round-at-hand")).to_be_focused()  # who is on their way by keyboard stays there


def test_an_operator_pauses_revokes_and_rolls_back_and_the_audit_says_so(chromium: Browser, fleet: Served) -> None:
    with window(chromium) as shown:
        page = shown.page
        log_in(page, fleet.address, "ada")
        shown.open(f"{fleet.address}/devices")
        page.get_by_role("link", name="device-1").click()
        act(page, "/devices/device-1/revoke", confirm="device-2", reason="lost on a train")
        expect(page.locator("main")).to_contain_text("not confirmed")
        assert acts(fleet.database) == []
        page.go_back()
        act(page, "/devices/device-1/revoke", confirm="device-1", reason="lost on a train")
        expect(page.locator("main")).to_contain_text("device-1 is revoked")
        assert Operator(fleet.home).devices()[0]["state"] == "revoked"
        shown.open(f"{fleet.address}/releases")
        act(page, "/releases/rollback", confirm="roll back", reason="answers got worse")
        expect(page.locator("main")).to_contain_text(f"{fleet.releases[1][:12]} is rolled back")
        assert Operator(fleet.home).registry().active() == fleet.releases[0]
        shown.open(f"{fleet.address}/rounds")
        act(page, "/rounds/pause", confirm="pause", reason="until it is clear why")
        expect(page.locator("main")).to_contain_text("Rounds are wanted paused")
        assert fleet.database.controls.get().state == "paused"
        shown.open(f"{fleet.address}/security")
        audit = page.get_by_role("table", name="Acts of operators")
        for action, reason in (
            ("device.revoke", "lost on a train"),
            ("release.rollback", "answers got worse"),
            ("rounds.pause", "until it is clear why"),
        ):
            row = audit.get_by_role("row").filter(has_text=action)
            expect(row).to_contain_text(reason)
            expect(row).to_contain_text("ada")
        expect(page.get_by_role("table", name="Revoked devices")).to_contain_text("device-1")
        assert fleet.database.audit.broken() is None


def test_rounds_are_paused_with_a_keyboard_alone(chromium: Browser, fleet: Served) -> None:
    with window(chromium) as shown:
        page, keys, active = shown.page, shown.page.keyboard, "document.activeElement"
        shown.open(f"{fleet.address}/login?next=/rounds")
        expect(page.get_by_label("Name")).to_be_focused()
        keys.insert_text("ada")
        keys.press("Tab")
        keys.insert_text(PASSWORD)
        keys.press("Enter")
        page.wait_for_url(f"{fleet.address}/rounds")
        press_until(page, "Tab", lambda: page.evaluate(f"{active}.textContent") == "Pause the rounds")
        keys.press("Enter")
        keys.press("Tab")
        expect(page.locator("form[action='/rounds/pause'] [name=confirm]")).to_be_focused()
        keys.insert_text("pause")
        keys.press("Tab")
        keys.insert_text("maintenance")
        keys.press("Enter")
        expect(page.locator("main")).to_contain_text("Rounds are wanted paused")
        assert fleet.database.controls.get().state == "paused"
        press_until(page, "Tab", lambda: page.evaluate(f"{active}.textContent") == "Back")
        keys.press("Enter")
        expect(page.locator("main")).to_contain_text("Rounds are paused")
        press_until(page, "Tab", lambda: page.evaluate(f"{active}.textContent") == "Resume the rounds")
        assert acts(fleet.database) == [("ada", "rounds.pause", "maintenance")]


def test_a_viewer_has_nothing_to_act_with(chromium: Browser, fleet: Served) -> None:
    with window(chromium) as shown:
        log_in(shown.page, fleet.address, "vera")
        for path in ("/", "/rounds", "/devices", "/devices/device-1", "/releases", f"/releases/{fleet.releases[0]}"):
            shown.open(fleet.address + path)
            expect(shown.page.get_by_role("button")).to_have_text(["Log out"])
            expect(shown.page.locator("details.act")).to_have_count(0)


def test_after_logging_out_neither_the_way_back_nor_an_old_page_acts(chromium: Browser, fleet: Served) -> None:
    with profile(chromium) as reader:
        page, old = reader.new_page(), reader.new_page()
        log_in(page, fleet.address, "ada")
        for one in (page, old):
            one.goto(f"{fleet.address}/rounds")
            expect(one.locator("form[action='/rounds/pause']")).to_have_count(1)
        page.get_by_role("button", name="Log out").click()
        expect(page.locator(".account")).to_have_text("Log in")
        page.go_back()
        expect(page.locator("h1")).to_have_text("Rounds")
        expect(page.locator("form")).to_have_count(0)
        act(old, "/rounds/pause", confirm="pause", reason="from a page that was left open")
        expect(old.locator("h1")).to_have_text("Log in")
        assert acts(fleet.database) == [] and fleet.database.controls.get().state == "running"


def test_a_chart_says_its_newest_values_and_follows_the_readers_colours(chromium: Browser, fleet: Served) -> None:
    with window(chromium) as shown:
        shown.open(fleet.address)
        series = shown.page.request.get(f"{fleet.address}/api/v1/costs/series").json()
        fallback, usd = (shown.page.locator(".chart").nth(place) for place in (0, 1))
        expect(fallback.locator(".u-legend")).to_contain_text(f"{series['fallback_rate'][-1]:.1%}")
        expect(usd.locator(".u-legend")).to_contain_text(f"{series['usd_per_1k']['all_cloud'][-1]:.3f}")
        expect(usd.locator(".u-legend")).not_to_contain_text("--")
        drawn = fallback.locator("canvas").evaluate("one => one.toDataURL()")
        shown.page.emulate_media(color_scheme="dark")
        shown.page.wait_for_function("before => document.querySelector('.chart canvas').toDataURL() !== before", arg=drawn)
        expect(fallback.locator("canvas")).to_have_count(1)


HEARD = """window.heard = [];
new EventSource("/api/v1/events/stream?after=0").addEventListener("round", (one) => window.heard.push(one.lastEventId));"""


def test_a_console_that_ends_and_returns_is_said_and_nothing_is_missed(chromium: Browser, fleet: Served) -> None:
    with window(chromium) as shown:
        page, stale = shown.page, shown.page.locator("#stale")
        shown.open(fleet.address)
        page.evaluate(HEARD)
        before = [str(one.id) for one in fleet.database.happenings.events() if one.kind.startswith("round.")]
        shown.see("#at-hand", "round 14 is finished")
        page.wait_for_function("count => window.heard.length === count", arg=len(before))
        expect(stale).to_be_hidden()
        fleet.console.stop()
        try:
            expect(stale).to_be_visible()
            expect(stale).to_contain_text("Not up to date")
            missed = fleet.database.happenings.add_event("round.waits", "waiting for 3 more devices", at=1_700_002_000.0)
        finally:
            fleet.console.start()
        shown.see("#at-hand", "waiting for 3 more devices")
        expect(stale).to_be_hidden()
        page.wait_for_function("id => window.heard.at(-1) === id", arg=str(missed))
        assert page.evaluate("window.heard") == [*before, str(missed)]  # each once, and from where it was
