"""What a route that changes something is given: an operator, no other site's form, a confirmation."""

from collections.abc import Callable

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from console_page import Page
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.testclient import TestClient

import aggregator.console.app as console_app
from aggregator.console.actions import MAX_REASON, audited, confirmed
from aggregator.console.auth.accounts import Accounts, Passwords
from aggregator.console.auth.dependencies import TheOperator, TheViewer
from aggregator.console.auth.policy import Role
from aggregator.console.context import TheConsole
from aggregator.console.forms import MAX_FORM_BYTES, TheForm
from aggregator.console.templating import environment
from aggregator.store import Database, StoreError
from aggregator.store.audit import AuditStore
from aggregator.store.serializers import UnknownRoundError

PASSWORD = "correct horse battery"
HERE = "http://127.0.0.1:8350"
RIGHT = {"confirm": "device-7", "reason": "lost on  a train"}


@pytest.fixture
def acts() -> list[tuple[str, str, str]]:
    """Who did what to whom, as the route was reached."""
    return []


@pytest.fixture
def app(database: Database, monkeypatch: pytest.MonkeyPatch, acts: list[tuple[str, str, str]]) -> FastAPI:
    router = APIRouter()

    @router.post("/gadgets/{device}/revoke")
    def revoke(device: str, form: TheForm, operator: TheOperator, console: TheConsole) -> None:
        reason = confirmed(form, target=device)
        with audited(console, operator, "device.revoke", target=device, reason=reason, detail={"kind": "test"}):
            if device == "unknown":
                raise UnknownRoundError("there is no\ndevice unknown")
            acts.append((operator.name, device, reason))

    @router.delete("/api/v1/things/{thing}")
    def unaware(thing: str) -> None:  # asks for nothing, and is protected all the same
        acts.append(("?", thing, ""))

    @router.get("/gadgets/{device}")
    def shown(request: Request, device: str, viewer: TheViewer) -> Response:
        source = (
            '{% from "components.html" import confirm %}'
            '{% call confirm("Revoke", "/gadgets/" ~ device ~ "/revoke", device, viewer) %}<i>more</i>{% endcall %}'
        )
        return Response(environment().from_string(source).render(device=device, viewer=viewer), media_type="text/html")

    monkeypatch.setattr(console_app, "PROTECTED", (*console_app.PROTECTED, router))
    passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))
    accounts = Accounts(database, passwords=passwords)
    accounts.add("ada", Role.OPERATOR, PASSWORD)
    accounts.add("vera", Role.VIEWER, PASSWORD)
    return console_app.create_app(database, passwords=passwords)


Enter = Callable[[str], TestClient]


@pytest.fixture
def enter(app: FastAPI) -> Enter:
    def enter(name: str) -> TestClient:
        browser = TestClient(app, base_url=HERE, follow_redirects=False)
        if name:
            form = Page(browser.get("/login").text).forms[-1]
            assert browser.post("/login", data={**form, "name": name, "password": PASSWORD}).status_code == 303
        return browser

    return enter


def token_of(browser: TestClient) -> str:
    return str(browser.get("/api/v1/session").json()["csrf"])


def test_the_form_of_a_page_acts(enter: Enter, acts: list[tuple[str, str, str]]) -> None:
    browser = enter("ada")
    form = Page(browser.get("/gadgets/device-7").text).forms[-1]
    answer = browser.post(form[""], data={**form, **RIGHT}, headers={"Origin": HERE, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200 and acts == [("ada", "device-7", "lost on a train")]


def test_only_operators_are_shown_the_form_and_only_they_act(enter: Enter, acts: list[tuple[str, str, str]]) -> None:
    for name, status in (("vera", 403), ("", 401)):
        browser = enter(name)
        assert Page(browser.get("/gadgets/device-7").text).forms == []
        sent = {**RIGHT, "csrf": token_of(browser)}
        assert browser.post("/gadgets/device-7/revoke", data=sent).status_code == status
        assert browser.delete("/api/v1/things/1").status_code == status
    assert acts == []


def test_another_sites_form_does_not_act(enter: Enter, acts: list[tuple[str, str, str]]) -> None:
    browser, other = enter("ada"), enter("ada")
    right = {**RIGHT, "csrf": token_of(browser)}
    for sent, headers in (
        ({**right, "csrf": ""}, {}),
        ({**right, "csrf": token_of(other)}, {}),
        (right, {"Origin": "http://127.0.0.1:3000"}),
        (right, {"Origin": "null"}),
        (right, {"Sec-Fetch-Site": "same-site"}),
        (right, {"Sec-Fetch-Site": "cross-site"}),
    ):
        assert browser.post("/gadgets/device-7/revoke", data=sent, headers=headers).status_code == 403
    assert browser.delete("/api/v1/things/1").status_code == 403
    assert acts == []
    assert browser.delete("/api/v1/things/1", headers={"X-CSRF-Token": right["csrf"]}).status_code == 200  # as htmx sends it


def test_a_script_acts_with_an_operators_token(app: FastAPI, database: Database, acts: list[tuple[str, str, str]]) -> None:
    accounts = Accounts(database)
    for name, status in (("vera", 403), ("ada", 200)):
        script = TestClient(app, base_url=HERE, headers={"Authorization": f"Bearer {accounts.new_api_token(name)}"})
        assert script.post("/gadgets/device-7/revoke", data=RIGHT).status_code == status
    assert acts == [("ada", "device-7", "lost on a train")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"confirm": "device-8"}, "must say device-7"),
        ({"confirm": ""}, "must say device-7"),
        ({"reason": " \t"}, "a reason is missing"),
        ({"reason": "x" * (MAX_REASON + 1)}, "more than the 500 allowed"),
    ],
)
def test_without_the_name_and_a_reason_nothing_happens(
    enter: Enter, acts: list[tuple[str, str, str]], change: dict[str, str], said: str
) -> None:
    browser = enter("ada")
    answer = browser.post("/gadgets/device-7/revoke", data={**RIGHT, "csrf": token_of(browser), **change})
    assert answer.status_code == 422 and said in answer.json()["error"] and acts == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"a=" + b"x" * MAX_FORM_BYTES, 413),
        (b"&".join(b"a%d=1" % n for n in range(300)), 400),
        (b"a=%ff", 400),
        (b"\xff=1", 400),
    ],
)
def test_a_form_that_is_too_large_or_no_text_is_refused(enter: Enter, body: bytes, status: int) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert enter("ada").post("/gadgets/device-7/revoke", content=body, headers=kind).status_code == status


def records(database: Database) -> list[tuple[str, str, str, str, str, dict[str, object]]]:
    """Oldest first, without the logins."""
    rows = [row for row in database.audit.latest(50) if row.action != "login"][::-1]
    return [(row.actor, row.role, row.action, row.target, row.reason, dict(row.detail)) for row in rows]


def test_an_act_is_in_the_audit_with_who_what_whom_and_why(enter: Enter, database: Database) -> None:
    browser = enter("ada")
    assert browser.post("/gadgets/device-7/revoke", data={**RIGHT, "csrf": token_of(browser)}).status_code == 200
    assert records(database) == [("ada", "operator", "device.revoke", "device-7", "lost on a train", {"kind": "test"})]


def test_an_act_that_fails_is_in_the_audit_as_one(enter: Enter, database: Database) -> None:
    browser = enter("ada")
    sent = {"confirm": "unknown", "reason": "lost", "csrf": token_of(browser)}
    assert browser.post("/gadgets/unknown/revoke", data=sent).status_code == 404
    first, second = records(database)
    assert first[:5] == ("ada", "operator", "device.revoke", "unknown", "lost") and second[2] == "device.revoke.failed"
    assert second[5]["error"] == "there is no device unknown" and isinstance(second[5]["of"], int)


def test_what_cannot_be_written_down_does_not_happen(
    enter: Enter, acts: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = enter("ada")
    right = {**RIGHT, "csrf": token_of(browser)}

    def full(*_: object, **__: object) -> None:
        raise StoreError("the database cannot add to the audit: disk full")

    monkeypatch.setattr(AuditStore, "append", full)
    assert browser.post("/gadgets/device-7/revoke", data=right).status_code == 503 and acts == []


def test_nothing_that_was_refused_is_in_the_audit(enter: Enter, database: Database) -> None:
    for name in ("ada", "vera", ""):
        enter(name).post("/gadgets/device-7/revoke", data=RIGHT)
    assert records(database) == []
