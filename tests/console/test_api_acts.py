"""Acting on a live fleet by the API: an operator's token, a confirmation, a reason, and the same audit as from the pages."""

from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from console_fleet import PASSWORD, fleet, home, make_release, release_key
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
__all__ = ["fleet", "home", "make_release", "release_key"]  # fixtures


class Script:
    """A script with a token."""

    def __init__(self, client: TestClient, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    def act(self, path: str, confirm: str, **more: Any) -> Any:
        body = {"confirm": confirm, "reason": "by a script", **more}
        return self._client.post(f"/api/v1/{path}", json=body, headers=self._headers)


@pytest.fixture
def accounts(database: Database) -> Accounts:
    made = Accounts(database, passwords=Passwords(PasswordHasher.from_parameters(CHEAPEST)))
    made.add("ada", Role.OPERATOR, PASSWORD)
    made.add("vera", Role.VIEWER, PASSWORD)
    return made


@pytest.fixture
def client(home: ServerHome, fleet: list[str], database: Database, accounts: Accounts) -> TestClient:
    about = {"federation": "test", "n_min": 11, "period_s": 60.0}
    passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))
    app = create_app(database, federation=about, operator=Operator(home), passwords=passwords)
    return TestClient(app, base_url=ORIGIN)


@pytest.fixture
def ada(client: TestClient, accounts: Accounts) -> Script:
    return Script(client, accounts.new_api_token("ada"))


def audited(database: Database) -> list[tuple[str, str, str, str]]:
    return [(row.actor, row.action, row.target, row.reason) for row in reversed(database.audit.latest(50))]


def test_a_script_revokes_a_device_and_invites_another(ada: Script, home: ServerHome, database: Database) -> None:
    answer = ada.act("devices/device-1/revoke", "device-1")
    assert (answer.status_code, answer.json()) == (200, {"done": "device-1 is revoked: its next call is refused."})
    assert Operator(home).devices()[0]["state"] == "revoked"
    invited = ada.act("devices/invite", "invite")
    assert Invitation.from_text(invited.json()["join"]).fingerprint == invited.json()["fingerprint"]
    assert invited.headers["Cache-Control"] == "no-store"
    assert audited(database) == [
        ("ada", "device.revoke", "device-1", "by a script"),
        ("ada", "device.invite", "", "by a script"),
    ]
    assert invited.json()["join"] not in str(database.audit.latest(50))


def test_a_script_rolls_a_release_back_and_what_cannot_be_is_in_the_audit_too(
    ada: Script, home: ServerHome, fleet: list[str], database: Database
) -> None:
    assert f"{fleet[1][:12]} is rolled back" in ada.act("releases/rollback", "roll back").json()["done"]
    refused = ada.act(f"releases/{fleet[1]}/promote", fleet[1][:12])
    assert refused.status_code == 422 and "error" in refused.json()
    assert {one["release"]: one["state"] for one in Operator(home).releases()} == {
        fleet[0]: "active",
        fleet[1]: "rolled_back",
    }
    assert [action for _, action, _, _ in audited(database)] == [
        "release.rollback",
        "release.promote",
        "release.promote.failed",
    ]


def test_a_script_steers_the_rounds(ada: Script, database: Database) -> None:
    assert ada.act("rounds/set", "set", cohort=16, period_s=30).json() == {
        "state": "running",
        "cohort": 16,
        "period_s": 30.0,
    }
    assert ada.act("rounds/stop", "stop").json()["state"] == "stopped"
    assert ada.act("rounds/resume", "resume").status_code == 422  # stopped, not paused
    assert database.controls.get().state == "stopped" and database.controls.get().by == "ada"
    actions = [action for _, action, _, _ in audited(database)]
    assert actions == ["rounds.set", "rounds.stop", "rounds.resume", "rounds.resume.failed"]


@pytest.mark.parametrize(
    ("path", "confirm", "more", "status", "said"),
    [
        ("devices/device-1/revoke", "device-2", {}, 422, "the field confirm must say device-1"),
        ("devices/device-1/revoke", "device-1", {"reason": " "}, 422, "a reason is missing"),
        ("devices/device-1/revoke", "device-1", {"force": True}, 422, "force"),
        ("rounds/begin", "begin", {}, 404, "rounds can be: start, pause"),
        ("rounds/set", "set", {"cohort": 3}, 422, "a cohort of 3 cannot be"),
        ("rounds/set", "set", {"cohort": 12.5}, 422, "cohort"),
        ("rounds/set", "set", {"period_s": "soon"}, 422, "period_s"),
        ("rounds/set", "set", {}, 422, "changes nothing"),
    ],
)
def test_what_is_not_meant_or_cannot_be_is_one_line_and_changes_nothing(
    ada: Script, home: ServerHome, database: Database, path: str, confirm: str, more: dict[str, Any], status: int, said: str
) -> None:
    answer = ada.act(path, confirm, **more)
    assert answer.status_code == status and said in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert Operator(home).devices()[0]["state"] == "member" and database.controls.get().cohort is None
    assert audited(database) == []


def test_it_takes_an_operator_and_a_browser_its_pages_token(
    client: TestClient, accounts: Accounts, home: ServerHome, database: Database
) -> None:
    said = {"confirm": "device-1", "reason": "x"}
    assert client.post("/api/v1/devices/device-1/revoke", json=said).status_code == 401
    vera = Script(client, accounts.new_api_token("vera"))
    assert vera.act("devices/device-1/revoke", "device-1").status_code == 403
    form = Page(client.get("/login").text).forms[-1]
    client.post("/login", data={**form, "name": "ada", "password": PASSWORD}, headers={"Origin": ORIGIN})
    assert client.post("/api/v1/devices/device-1/revoke", json=said).status_code == 403  # no token of a page
    assert Operator(home).devices()[0]["state"] == "member"
    token = client.get("/api/v1/session").json()["csrf"]
    elsewhere = {"X-CSRF-Token": token, "Origin": "https://elsewhere.example"}
    assert client.post("/api/v1/devices/device-1/revoke", json=said, headers=elsewhere).status_code == 403
    here = {"X-CSRF-Token": token, "Origin": ORIGIN}
    assert client.post("/api/v1/devices/device-1/revoke", json=said, headers=here).status_code == 200
    assert [row[:2] for row in audited(database)] == [("ada", "login"), ("ada", "device.revoke")]
