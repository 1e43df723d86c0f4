"""Acting on a live fleet from the console: a real server's folder, a real login, and every act in the audit."""

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from console_fleet import fleet, home, make_release, release_key
from console_page import Page
from fastapi.testclient import TestClient

from aggregator.admin import Operator
from aggregator.console import create_app
from aggregator.console.auth.accounts import Accounts, Passwords
from aggregator.console.auth.policy import Role
from aggregator.settings import ServerHome
from aggregator.store import Database
from fedge.identity import Invitation

ORIGIN = "http://127.0.0.1:8350"
PASSWORD = "correct horse battery"
__all__ = ["fleet", "home", "make_release", "release_key"]  # fixtures


@pytest.fixture
def browser(home: ServerHome, fleet: list[str], database: Database) -> Iterator[TestClient]:
    """An operator who is logged in."""
    passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))
    accounts = Accounts(database, passwords=passwords)
    accounts.add("ada", Role.OPERATOR, PASSWORD)
    accounts.add("vera", Role.VIEWER, PASSWORD)
    about = {"federation": "test", "n_min": 11, "period_s": 60.0}
    app = create_app(database, federation=about, operator=Operator(home), passwords=passwords)
    yield entered(opened(app), "ada")


def opened(app: Any) -> TestClient:
    return TestClient(app, base_url=ORIGIN, headers={"Accept": "text/html"}, follow_redirects=False)


def entered(browser: TestClient, name: str) -> TestClient:
    form = Page(browser.get("/login").text).forms[-1]
    answer = browser.post(form[""], data={**form, "name": name, "password": PASSWORD}, headers={"Origin": ORIGIN})
    assert answer.status_code == 303
    return browser


def acts(database: Database) -> list[tuple[str, str, str]]:
    """What stands in the audit of acts on the fleet, oldest first."""
    rows = [row for row in database.audit.latest(50) if not row.action.startswith(("login", "account", "logout"))]
    return [(row.action, row.target, row.reason) for row in reversed(rows)]


def fill(browser: TestClient, path: str, action: str, **fields: str) -> Any:
    """Find the form with that action on a page and send it, filled in."""
    form = next(form for form in Page(browser.get(path).text).forms if form[""] == action)
    return browser.post(action, data={**form, "reason": "for a test", **fields}, headers={"Origin": ORIGIN})


def test_a_device_is_revoked_after_its_name_is_repeated_and_not_before(
    browser: TestClient, home: ServerHome, database: Database
) -> None:
    refused = fill(browser, "/devices/device-1", "/devices/device-1/revoke", confirm="device-2")
    assert refused.status_code == 422 and acts(database) == []
    done = fill(browser, "/devices/device-1", "/devices/device-1/revoke", confirm="device-1")
    assert done.status_code == 200 and "device-1 is revoked" in Page(done.text).text
    assert Operator(home).devices()[0]["state"] == "revoked"
    assert acts(database) == [("device.revoke", "device-1", "for a test")] and database.audit.broken() is None
    assert "/devices/device-1/revoke" not in browser.get("/devices/device-1").text
    assert "device.revoke" in Page(browser.get("/security").text).text
    before = browser.get("/api/v1/security").json()["audit_checked"]
    fill(browser, "/devices", "/devices/invite", confirm="invite")
    after = browser.get("/api/v1/security").json()["audit_checked"]
    assert after == {**before, "since": before["since"] + 1}
    assert f"{after['since']} entries since." in Page(browser.get("/security").text).text


def test_an_invitation_lets_a_device_join_and_stands_in_no_record(
    browser: TestClient, home: ServerHome, database: Database
) -> None:
    shown = fill(browser, "/devices", "/devices/invite", confirm="invite")
    assert shown.headers["Cache-Control"] == "no-store"
    secret = re.search(r'id="secret">([^<]+)<', shown.text)
    assert secret is not None
    invitation = Invitation.from_text(html.unescape(secret[1]))
    assert len(invitation.token) == 32
    assert all(secret[1] not in str(row) for row in database.audit.latest(50))


def test_a_release_is_rolled_back_and_promoted_again(
    browser: TestClient, home: ServerHome, fleet: list[str], database: Database
) -> None:
    replaced = browser.get(f"/releases/{fleet[0]}").text
    assert "retired" in replaced and "/promote" not in replaced  # the registry promotes candidates alone
    said = fill(browser, "/releases", "/releases/rollback", confirm="roll back")
    assert f"{fleet[1][:12]} is rolled back" in Page(said.text).text
    states = {one["release"]: one["state"] for one in Operator(home).releases()}
    assert states == {fleet[0]: "active", fleet[1]: "rolled_back"}
    history = browser.get(f"/api/v1/releases/{fleet[1]}").json()["history"]
    assert [(one["step"], one["from"], one["to"], one["actor"]) for one in history] == [
        ("published", None, "candidate", "fedge"),
        ("promoted", "candidate", "active", "fedge"),
        ("rolled_back", "active", "rolled_back", "ada"),
    ]
    assert history[-1]["reason"] == "for a test"
    shown = Page(browser.get(f"/releases/{fleet[1]}").text).text
    assert "rolled back" in shown and "ada" in shown
    assert browser.get("/api/v1/releases/unknown").status_code == 404
    again = browser.post(
        "/releases/rollback",
        data={**Page(browser.get("/releases").text).forms[-1], "confirm": "roll back", "reason": "once more"},
        headers={"Origin": ORIGIN},
    )
    assert again.status_code == 422  # there is none before it
    assert [action for action, *_ in acts(database)] == ["release.rollback", "release.rollback", "release.rollback.failed"]


def test_rounds_are_paused_resized_and_resumed(browser: TestClient, database: Database) -> None:
    fill(browser, "/rounds", "/rounds/pause", confirm="pause")
    assert database.controls.get().state == "paused" and database.controls.get().by == "ada"
    fill(browser, "/rounds", "/rounds/set", confirm="set", cohort="16", period_s="30")
    fill(browser, "/rounds", "/rounds/resume", confirm="resume")
    now = database.controls.get()
    assert (now.state, now.cohort, now.period_s) == ("running", 16, 30.0)
    assert [action for action, *_ in acts(database)] == ["rounds.pause", "rounds.set", "rounds.resume"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cohort": "3"}, "a cohort of 3 cannot be"),
        ({"cohort": "many"}, "cohort is 'many': give a number"),
        ({"cohort": "12.5"}, "give a whole number"),
        ({"period_s": "nan"}, "give a number"),
        ({"period_s": "-1"}, "a period of -1 s cannot be"),
        ({}, "changes nothing"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    browser: TestClient, database: Database, fields: dict[str, str], said: str
) -> None:
    answer = fill(browser, "/rounds", "/rounds/set", confirm="set", **fields)
    assert answer.status_code == 422 and said in Page(answer.text).text
    assert database.controls.get().cohort is None and acts(database) == []


def test_a_viewer_sees_no_forms_and_may_not_act(browser: TestClient, home: ServerHome, database: Database) -> None:
    viewer = entered(
        TestClient(browser.app, base_url=ORIGIN, headers={"Accept": "text/html"}, follow_redirects=False), "vera"
    )
    for path in ("/rounds", "/devices", "/devices/device-1", "/releases"):
        assert [form[""] for form in Page(viewer.get(path).text).forms] == ["/logout"]
    answer = viewer.post("/devices/device-1/revoke", data={"confirm": "device-1", "reason": "x"}, headers={"Origin": ORIGIN})
    assert answer.status_code == 403 and Operator(home).devices()[0]["state"] == "member" and acts(database) == []


def test_over_a_recorded_run_there_is_nothing_to_act_on(database: Database) -> None:
    passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))
    Accounts(database, passwords=passwords).add("ada", Role.OPERATOR, PASSWORD)
    app = create_app(database, passwords=passwords)
    browser = entered(opened(app), "ada")
    form = Page(browser.get("/").text).forms[-1]
    data = {**form, "confirm": "pause", "reason": "x"}
    assert browser.post("/rounds/pause", data=data, headers={"Origin": ORIGIN}).status_code == 409
    assert database.controls.get().state == "running"
