"""Rounds in the console's API and on its page: what is shown and what is refused."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from console_page import Page
from fastapi import APIRouter
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from aggregator.console import actions, is_loopback, login
from aggregator.console.app import ROUTERS
from aggregator.console.rounds import SHOWN
from aggregator.console.templating import static
from aggregator.store import Database, RoundRow, StoreError

Record = Callable[[int], None]
PATHS = ["/", static("console.css"), "/healthz", "/api/v1/rounds", "/api/v1/rounds/1", "/api/v1/openapi.json"]


def test_rounds_are_listed_oldest_first(client: TestClient, record_rounds: Record) -> None:
    record_rounds(3)
    listed = client.get("/api/v1/rounds").json()
    assert [entry["round"] for entry in listed] == [1, 2, 3]
    assert listed[0] == {
        "round": 1,
        "state": "finished",
        "cohort": 12,
        "survivors": 11,
        "started": 0.0,
        "finished": 60.0,
        "seconds": {"unmask": 2.5, "publish": 0.5},
        "release": "ab" * 32,
    }


def test_a_round_comes_with_its_sessions_and_dropouts(client: TestClient, record_rounds: Record) -> None:
    record_rounds(2)
    shown = client.get("/api/v1/rounds/2").json()
    assert shown["round"] == 2 and shown["metrics"] == {"certificate": "certified"}
    assert shown["attempts"] == [
        {
            "purpose": "update",
            "attempt": 1,
            "outcome": "finished",
            "reason": "",
            "cohort": 12,
            "survivors": 11,
            "devices": ["device-6", "device-7"],
            "needed": 9,
            "record": None,
        }
    ]
    assert shown["dropouts"] == [
        {"purpose": "update", "attempt": 1, "device": "device-7", "stage": "query.shares", "reason": "no answer"}
    ]


@pytest.mark.parametrize("number", ["4", "-1", str(2**31), "9" * 30])
def test_an_unknown_round_is_404_and_one_line_that_says_which_there_are(
    client: TestClient, record_rounds: Record, number: str
) -> None:
    record_rounds(3)
    answer = client.get(f"/api/v1/rounds/{number}")
    assert answer.status_code == 404
    assert answer.json() == {"error": f"no round {number} is recorded; rounds 1 to 3 are"}


def test_bad_requests_are_one_json_line(client: TestClient) -> None:
    assert client.get("/api/v1/rounds/1").json() == {"error": "no round 1 is recorded; none is"}
    unreadable = client.get("/api/v1/rounds/first")
    assert unreadable.status_code == 422 and "number" in unreadable.json()["error"]
    missing = client.get("/nowhere")
    assert (missing.status_code, missing.json()) == (404, {"error": "GET /nowhere: Not Found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(client: TestClient, record_rounds: Record, method: str) -> None:
    record_rounds(1)
    shaped_like_an_act = {("POST", "/api/v1/rounds/1"): 401}  # which takes a login, whatever the act is called
    for path in PATHS:
        assert client.request(method, path).status_code == shaped_like_an_act.get((method, path), 405), path


def test_a_database_that_fails_is_503(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreError("the database cannot read rows:\ndisk I/O error")

    for method in ("config", "rounds", "round", "latest_rounds"):
        monkeypatch.setattr(Database, method, fail)
    for path in ("/healthz", "/", "/api/v1/rounds", "/api/v1/rounds/1"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.json() == {"error": "the database cannot read rows: disk I/O error"}


def test_a_defect_is_500_without_its_details(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "rounds", lambda _: 1 / 0)
    answer = client.get("/api/v1/rounds")
    assert answer.status_code == 500 and "division" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:8350", "192.0.2.1", "127.0.0.1.example", "[", ""])
def test_a_page_under_another_name_reads_nothing(client: TestClient, record_rounds: Record, host: str) -> None:
    record_rounds(1)
    answer = client.get("/api/v1/rounds", headers={"Host": host})
    assert answer.status_code == 400 and "device" not in answer.text and list(answer.json()) == ["error"]


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "LOCALHOST", "127.0.0.1", "[::1]:8350"])
def test_loopback_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).json() == {"status": "ok"}


def test_what_counts_as_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "localhost.example", "")))


def test_the_page_lists_the_newest_round_first(client: TestClient, record_rounds: Record) -> None:
    record_rounds(2)
    heading, *rows = Page(client.get("/rounds").text).rows
    assert heading == ["Round", "State", "Devices", "Attempts", "Certificate", "Finished", "Seconds", "Release"]
    assert [row[0] for row in rows] == ["Round 2", "Round 1"]
    assert rows[1][1:7] == ["finished", "11 of 12", "1", "certified", "1970-01-01 00:01", "3.0"]
    assert rows[1][7].startswith("ab" * 6) and "ab" * 7 not in rows[1][7]


def test_the_page_of_a_new_run_says_what_will_come(client: TestClient) -> None:
    page = client.get("/rounds")
    assert page.status_code == 200 and "No round is recorded yet" in page.text and "table" not in Page(page.text).tags


def test_a_long_history_is_cut_and_says_so(database: Database, client: TestClient) -> None:
    for number in range(1, SHOWN + 2):
        database.save_round(RoundRow(round=number, state="running", started=0.0))
    html = client.get("/rounds").text
    rows = Page(html).rows[1:]
    assert len(rows) == SHOWN and rows[0][0] == f"Round {SHOWN + 1}" and rows[-1][0] == "Round 2"
    assert 'href="/rounds?before=2"' in html
    assert [row[0] for row in Page(client.get("/rounds?before=2").text).rows[1:]] == ["Round 1"]
    assert rows[0][1:] == ["running", "0 of 0", "0", "–", "–", "–", "–"]


def test_what_the_store_holds_never_becomes_markup(database: Database, client: TestClient) -> None:
    evil = "\"'><script>alert(1)</script>"
    database.save_round(
        RoundRow(round=1, state=evil, started=0.0, release=f"{evil}\n" * 2, metrics={"certificate": evil, "notes": [evil]})
    )
    page = Page(client.get("/rounds").text)
    assert "alert" not in "".join(page.scripts) and page.rows[1][1] == evil and page.rows[1][4] == evil
    for path in ("/", "/rounds/1"):
        other = Page(client.get(path).text)
        assert "alert" not in "".join(other.scripts) and evil in other.text


def test_each_column_name_is_repeated_in_the_cells_that_a_narrow_screen_stacks(
    client: TestClient, record_rounds: Record
) -> None:
    record_rounds(1)
    page = Page(client.get("/rounds").text)
    assert [value for tag, name, value in page.attributes if name == "data-label"] == page.rows[0][1:]


def test_readers_at_once_all_get_an_answer(client: TestClient, record_rounds: Record) -> None:
    """Read on one event loop, as a server does: FastAPI fills its routes on the first request, unsafely for threads."""
    record_rounds(5)

    async def read_24_times() -> list[httpx.Response]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url=str(client.base_url)) as reader:
            return await asyncio.gather(*(reader.get("/api/v1/rounds") for _ in range(24)))

    answers = asyncio.run(read_24_times())
    assert [(answer.status_code, answer.text) for answer in answers if answer.status_code != 200] == []
    assert all(len(answer.json()) == 5 for answer in answers)


def test_nothing_but_acting_and_the_login_is_more_than_a_read() -> None:
    def changing(router: APIRouter) -> set[str]:
        routes = [route for route in router.routes if isinstance(route, APIRoute)]
        return {route.path for route in routes if not route.methods <= {"GET", "HEAD"}}

    paths = changing(actions.pages)
    assert paths and changing(actions.api) == {f"/api/v1{path}" for path in paths}
    assert changing(login.pages) == {"/login", "/logout"}
    known = (actions.pages, actions.api, login.pages)
    assert not any(changing(router) for router in ROUTERS if router not in known)
