"""What pages say of amounts and of a round under way: units and numbers as a person says them, and no dead link."""

import pytest
from console_page import Page
from fastapi.testclient import TestClient

from aggregator.console import create_app
from aggregator.console.templating import counted, duration, small_usd, words
from aggregator.rounds.interfaces import Place
from aggregator.rounds.progress import StoredProgress
from aggregator.store import Database, RoundRow
from fedge.costs import Kind, LedgerEntry, Payer

HTML = {"Accept": "text/html"}


def text_of(client: TestClient, path: str) -> str:
    answer = client.get(path, headers=HTML)
    assert answer.status_code == 200
    return " ".join(Page(answer.text).text.split())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1.0, "1 second"),
        (45.0, "45 seconds"),
        (60.0, "1 minute"),
        (300.0, "5 minutes"),
        (3600.0, "1 hour"),
        (5000.0, "83 minutes"),
        (9000.0, "2 hours"),
        (86_400.0, "1 day"),
        (95_706_060.0, "1,108 days"),
    ],
)
def test_time_is_said_in_its_fitting_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_counts_agree_with_their_noun_and_keys_are_words() -> None:
    assert [counted(number, "device") for number in (0, 1, 1234)] == ["0 devices", "1 device", "1,234 devices"]
    assert counted(2, "query") == "2 queries" and counted(2, "day") == "2 days"
    assert [words(key) for key in ("device_hardware", "query.shares")] == ["device hardware", "shares"]
    assert [small_usd(amount) for amount in (0.0, 2e-7, 1234.5)] == ["0.000000", "under 0.000001", "1,234.500000"]


def test_a_warning_says_its_times_in_words(database: Database) -> None:
    database.save_round(RoundRow(round=1, state="finished", started=0.0, finished=60.0))
    app = create_app(database, federation={"period_s": 3600.0}, clock=lambda: 60.0 + 86_400 * 3)
    client = TestClient(app, base_url="http://127.0.0.1:8350")
    assert "No round has finished for 3 days; one is due every 1 hour." in text_of(client, "/")


def test_costs_of_a_round_are_named_in_words(database: Database, client: TestClient) -> None:
    database.save_round(RoundRow(round=1, state="finished", started=0.0, finished=60.0))
    database.add_ledger(1, [LedgerEntry(1.0, Payer.DEVICE_OWNER, Kind.DEVICE_HARDWARE, 960.0, "s", 1e-5, 9.6e-3)])
    for path in ("/rounds/1", "/costs"):
        assert "device hardware" in text_of(client, path) and "device_hardware" not in text_of(client, path)


def test_where_nothing_was_signed_no_signature_is_praised(client: TestClient) -> None:
    said = text_of(client, "/security")
    assert "Signed sums0there is none yet" in said and "signatures hold" not in said


def test_a_round_under_way_has_a_page_until_it_is_recorded(database: Database, client: TestClient) -> None:
    assert client.get("/rounds/4", headers=HTML).status_code == 404
    progress = StoredProgress(database, clock=lambda: 1_700_000_000.0, ticks=lambda: 0.0)
    with progress.phase(Place(4, 1, "update"), "train", expected=16, needed=11) as reported:
        reported(12)
        progress.event(
            "device.left",
            "device-7 left at query.shares: no answer",
            round_number=4,
            attempt=1,
            purpose="update",
            device="device-7",
            stage="query.shares",
        )
        progress.event("device.left", "device-9 left at query.shares: no answer", round_number=3)
        said = text_of(client, "/rounds/4")
        assert "running" in said and "0 of 16" in said and "at least 11 needed" in said
    page = Page(client.get("/rounds/4", headers=HTML).text)
    assert ["device-7", "update 1", "shares", "no answer"] in page.rows and "device-9" not in page.text
    assert "12 of 16 reported, at least 11 needed" in page.text
    assert "/rounds/4" in page.values("div", "hx-get") and "/api/v1/events/stream" in page.values("div", "sse-connect")
    assert "/rounds/4" in Page(client.get("/rounds", headers=HTML).text).values("a", "href")
    shown = client.get("/api/v1/rounds/4").json()
    assert (shown["state"], shown["cohort"], shown["survivors"]) == ("running", 16, 12)
    assert [one["device"] for one in shown["dropouts"]] == ["device-7"]
    database.save_round(RoundRow(round=4, state="finished", cohort=16, survivors=15, started=0.0, finished=9.0))
    page = Page(client.get("/rounds/4", headers=HTML).text)
    assert "finished" in page.text and page.values("div", "sse-connect") == []
