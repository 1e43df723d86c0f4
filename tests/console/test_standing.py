"""What devices say of themselves, on the pages, in the API and in the figures: a server's folder with a fleet in it."""

from pathlib import Path

import pytest
from console_page import Page
from fastapi.testclient import TestClient

from aggregator.admin import Operator
from aggregator.console import create_app
from aggregator.console.devices import Device
from aggregator.fleet.authority import Authority
from aggregator.fleet.heartbeat import Report
from aggregator.settings import ServerHome
from aggregator.store import Database, RoundRow
from benchmarks.console_fleet import Size, device_id, make_home, release_id
from fedge.presence import Presence

NOW = 1_800_000_000.0
SIZE = Size(devices=8, rounds=3)
NEWEST, FOREIGN = release_id(3), "cd" * 32
MEMBER = device_id(1)


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    """Eight devices that belong to the fleet, or did, and three releases; none has reported yet."""
    made = ServerHome(tmp_path / "home")
    make_home(made, SIZE, now=NOW, say=lambda text: None)
    with Authority(made.authority)._tables.write() as connection:
        connection.execute("DELETE FROM presence")
    return made


@pytest.fixture
def live(home: ServerHome, database: Database) -> TestClient:
    app = create_app(database, operator=Operator(home, clock=lambda: NOW), clock=lambda: NOW)
    return TestClient(app, base_url="http://127.0.0.1:8350", headers={"Accept": "text/html"})


def say(home: ServerHome, number: int, *, at: float = NOW - 5.0, **said: object) -> None:
    Authority(home.authority).note_reports({device_id(number): Report(at, Presence(**said))})  # type: ignore[arg-type]


def cells(page: str, device: str) -> dict[str, str]:
    """The row of a device by the heads of its table."""
    rows = Page(page).rows
    row = next(row for row in rows if row[0].strip() == device)
    return {head.strip(): " ".join(cell.split()) for head, cell in zip(rows[0], row, strict=True)}


def test_a_device_is_shown_with_what_it_said_last(live: TestClient, home: ServerHome) -> None:
    say(home, 1, release=NEWEST, on_trial=True, supply="battery", sensor="battery", profile="raspberry-pi-4", queue=17)
    row = cells(live.get("/devices").text, MEMBER)
    assert row["Release"] == f"{NEWEST[:12]} on trial"
    assert (row["Energy"], row["Queue"], row["State"]) == ("battery measured by battery", "17", "member")
    page = Page(live.get(f"/devices/{MEMBER}").text)
    assert f"/releases/{NEWEST}" in page.values("a", "href")
    for said in ("17", "measured by battery", "raspberry-pi-4", "fedge of unknown version"):
        assert said in page.text
    assert live.get(f"/releases/{NEWEST}").status_code == 200


def test_a_device_that_never_reported_is_shown_without_what_nobody_knows(live: TestClient) -> None:
    row = cells(live.get("/devices").text, MEMBER)
    assert {row[name] for name in ("Release", "Energy", "Queue")} == {"–"}
    page = Page(live.get(f"/devices/{MEMBER}").text)
    assert "has not said yet how it stands" in page.text and "What it says of itself" not in page.text


def test_what_a_device_gave_up_and_where_its_figures_come_from_is_said(live: TestClient, home: ServerHome) -> None:
    say(home, 1, given_up=NEWEST)
    text = Page(live.get(f"/devices/{MEMBER}").text).text
    assert NEWEST[:12] in text and "takes no more" in text
    assert "none yet: central answers everything" in text and "worked out from its profile" in text


def test_devices_are_filtered_and_a_page_leads_on_within_its_filter(
    live: TestClient, home: ServerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aggregator.console import devices

    for number in (1, 2, 3, 4):
        say(home, number, release=NEWEST if number < 4 else release_id(2), queue=number % 2)
    say(home, 6, at=NOW - 3000.0, release=NEWEST, queue=9)

    def shown(query: str) -> list[str]:
        return [row[0].strip() for row in Page(live.get(f"/devices?{query}").text).rows[1:]]

    assert shown(f"release={NEWEST}") == [device_id(n) for n in (1, 2, 3, 6)]
    assert shown("waiting=1") == [device_id(n) for n in (6, 1, 3)], "the longest queue first"
    assert shown(f"release={NEWEST}&waiting=true") == [device_id(n) for n in (6, 1, 3)]
    monkeypatch.setattr(devices, "SHOWN", 2)
    first = live.get(f"/devices?release={NEWEST}")
    (later,) = [link for link in Page(first.text).values("a", "href") if "start=" in link]
    assert "4 devices" in Page(first.text).text
    assert [row[0].strip() for row in Page(live.get(later).text).rows[1:]] == [device_id(3), device_id(6)]
    assert live.get("/devices?release=xyz").status_code == 422
    assert live.get("/api/v1/devices?waiting=perhaps").status_code == 422


def test_a_filter_that_nothing_meets_says_so_and_not_that_nobody_joined(live: TestClient) -> None:
    text = Page(live.get("/devices?waiting=1").text).text
    assert "0 devices with questions that wait" in text and "No device has joined" not in text


def test_a_member_that_is_silent_is_marked_and_still_a_member(live: TestClient, home: ServerHome) -> None:
    with Authority(home.authority)._tables.write() as connection:
        connection.execute("UPDATE member SET seen_at = ?", (NOW - 5_000.0,))
    say(home, 2, at=NOW - 60.0)
    page = live.get("/devices").text
    assert cells(page, device_id(1))["State"] == "member silent"
    assert cells(page, device_id(2))["State"] == "member"
    assert cells(page, device_id(5))["State"] == "away"
    entries = {one["device"]: one for one in live.get("/api/v1/devices").json()}
    assert entries[device_id(1)]["silent"] and entries[device_id(2)]["seen"] == NOW - 60.0
    assert not entries[device_id(0)]["silent"], "who is away is not expected"
    listed = [one["device"] for one in live.get("/api/v1/devices?silent=1").json()]
    assert listed == [device_id(n) for n in (1, 3, 4, 6)]


def test_the_api_gives_what_its_schema_says(live: TestClient, home: ServerHome) -> None:
    say(home, 1, release=NEWEST)
    entries = live.get("/api/v1/devices").json()
    assert len(entries) == SIZE.devices
    for one in entries:
        assert Device.model_validate(one).model_dump() == one
    assert live.get(f"/api/v1/devices/{MEMBER}").json() == next(one for one in entries if one["device"] == MEMBER)
    assert live.get("/api/v1/devices/nobody").status_code == 404
    schema = live.get("/api/v1/openapi.json").json()
    assert set(schema["components"]["schemas"]["Device"]["properties"]) == set(entries[0])
    names = {one["name"] for one in schema["paths"]["/api/v1/devices"]["get"]["parameters"]}
    assert {"release", "waiting", "silent"} <= names


def test_the_fleet_is_added_up_of_members_that_reported_lately_alone(
    live: TestClient, home: ServerHome, database: Database
) -> None:
    database.save_round(RoundRow(round=1, state="finished", cohort=4, survivors=4, started=NOW - 60, finished=NOW - 50))
    assert live.get("/api/v1/overview").json()["fleet"]["reporting"] == 0
    assert "On the active release" not in live.get("/").text
    say(home, 1, release=NEWEST, supply="mains", sensor="ina219", queue=5)
    say(home, 2, release=NEWEST, supply="battery")
    say(home, 3, release=FOREIGN, queue=2)
    say(home, 4)
    say(home, 6, at=NOW - 3000.0, release=NEWEST, queue=1000)  # too long ago
    say(home, 0, release=NEWEST, queue=1000)  # away
    fleet = live.get("/api/v1/overview").json()["fleet"]
    assert fleet == {
        "members": 5,
        "reporting": 4,
        "silent": 0,
        "on_active_release": 2,
        "share_on_active_release": 0.5,
        "devices_on_version": {"3": 2, "none": 1, "unknown": 1},
        "energy_sources": {"unknown": 2, "mains": 1, "battery": 1},
        "energy_measured": 1,
        "queue": 7,
        "waiting": 2,
    }
    text = " ".join(Page(live.get("/").text).text.split())
    assert "On the active release50.0%2 of 4 devices that report; 0 silent" in text
    assert "Questions that wait7for central, on 2 devices" in text
    assert "On battery11 on mains, 2 cannot tell; 1 measure their energy" in text
    lines = live.get("/metrics").text.splitlines()
    for line in (
        'fedge_fleet_devices{energy_source="mains"} 1.0',
        'fedge_fleet_devices{energy_source="unknown"} 2.0',
        'fedge_fleet_devices_on_release{version="3"} 2.0',
        'fedge_fleet_devices_on_release{version="unknown"} 1.0',
        "fedge_fleet_queue_questions 7.0",
        "fedge_fleet_silent_devices 0.0",
    ):
        assert line in lines
    assert device_id(1) not in "\n".join(lines) and FOREIGN not in "\n".join(lines)


def test_a_revoked_device_has_no_voice(live: TestClient, home: ServerHome) -> None:
    say(home, 1, release=NEWEST, queue=5)
    Authority(home.authority).revoke(MEMBER, now=NOW, reason="stolen")
    fleet = live.get("/api/v1/overview").json()["fleet"]
    assert (fleet["members"], fleet["reporting"], fleet["queue"]) == (4, 0, 0)


def test_over_a_recorded_run_there_is_no_fleet_to_speak_of(client: TestClient) -> None:
    assert client.get("/api/v1/overview").json()["fleet"] is None
    assert "fedge_fleet" not in client.get("/metrics").text
    assert client.get("/api/v1/devices").json() == [] and client.get("/api/v1/devices/x").status_code == 404
