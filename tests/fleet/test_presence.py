"""What devices say of themselves, over real TLS at a real door: kept, bounded, refused, and told apart from silence."""

import logging
import random
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import grpc
import pytest

from aggregator.fleet.authority import Authority
from aggregator.fleet.heartbeat import Report
from aggregator.fleet.inventory import SILENT_S, Wanted
from edge_client import fleet_plugins
from edge_client.membership.channel import DoorChannel
from edge_client.membership.heartbeat import ASK_AGAIN_S, LOOK_S, NotReported, Reporter
from edge_client.membership.renewal import Renewer
from edge_client.store import open_file
from fedge.presence import Presence
from protos.fedge.fleet.v1 import presence_pb2 as pb
from protos.fedge.fleet.v1 import presence_pb2_grpc

FIRST, SECOND = "11" * 32, "22" * 32
SAID = Presence(release=FIRST, supply="mains", sensor="ina219", profile="raspberry-pi-4", queue=3, fedge="0.1.0")


class Teller:
    """A device's reporter with a stopwatch and a view of itself that a test sets."""

    def __init__(self, home, *, period_s=60.0):
        self.now, self.seen = 1000.0, SAID
        self.door = DoorChannel(home, home.settings().fleet)
        self.reporter = Reporter(
            self.door,
            lambda: self.seen,
            name=home.settings().fleet,
            period_s=period_s,
            stopwatch=lambda: self.now,
            rng=random.Random(3),
            timeout_s=20,
        )

    def step(self, *, after=0.0, **changes):
        self.now += after
        self.seen = Presence(**{name: changes.get(name, getattr(self.seen, name)) for name in Presence.__slots__})
        return self.reporter.step()


@pytest.fixture
def teller():
    made = []

    def make(home, **how):
        made.append(Teller(home, **how))
        return made[-1]

    yield make
    for one in made:
        one.door.close()


def entry(federation, name="kitchen"):
    found = federation.authority.listed(Wanted(device=name), now=federation.clock())
    assert len(found) == 1
    return found[0]


def report(home, message):
    """One report as any client could send it. Returns the status."""
    door = DoorChannel(home, home.settings().fleet)
    try:
        presence_pb2_grpc.PresenceStub(door()).Report(message, timeout=20)
    except grpc.RpcError as error:
        return error.code(), error.details()
    finally:
        door.close()
    return grpc.StatusCode.OK, ""


def test_a_report_stands_beside_the_membership_of_the_device_that_sent_it_and_of_no_other(federation, teller):
    kitchen = federation.enroll("kitchen")
    federation.enroll("cellar")
    before = federation.clock()
    assert entry(federation)["reported"] is None and entry(federation)["queue"] is None
    assert teller(kitchen).step()
    found = entry(federation)
    assert before <= found["reported"] <= federation.clock() and found["seen"] == found["reported"]
    wanted = {
        "release": FIRST, "on_trial": False, "given_up": None, "energy_source": "mains", "energy_sensor": "ina219",
        "profile": "raspberry-pi-4", "queue": 3, "fedge": "0.1.0", "state": "member", "silent": False,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert entry(federation, "cellar")["reported"] is None
    standing = federation.authority.standing(now=federation.clock())
    assert (standing.members, standing.reporting, standing.queue, standing.waiting) == (2, 1, 3, 1)
    assert standing.releases == {FIRST: 1} and standing.supplies == {"unknown": 0, "mains": 1, "battery": 0}


def test_a_report_goes_out_once_a_period_and_at_once_when_anything_but_the_queue_changes(federation, teller, patient):
    patient()
    device = teller(federation.enroll("kitchen"))
    assert device.step()
    assert not device.step(after=10, queue=9)
    assert device.step(after=10, release=SECOND, on_trial=True)
    found = entry(federation)
    assert (found["release"], found["on_trial"], found["queue"]) == (SECOND, True, 9)
    assert not device.step(after=50)
    assert device.step(after=20)


def test_reports_that_come_too_fast_are_refused_and_the_device_says_it_later(federation, teller, patient):
    home = federation.enroll("kitchen")
    device = teller(home)
    assert device.step()
    assert report(home, SAID.to_proto())[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not device.step(release=SECOND)  # refused at the door, and no failure
    assert entry(federation)["release"] == FIRST
    patient()
    assert device.step(after=LOOK_S)
    assert entry(federation)["release"] == SECOND


@pytest.mark.parametrize(
    "message",
    [
        pb.ReportRequest(),
        pb.ReportRequest(release_id="../../etc", energy_source=pb.ENERGY_SOURCE_MAINS),
        pb.ReportRequest(energy_source=99),
        pb.ReportRequest(energy_source=pb.ENERGY_SOURCE_MAINS, queue_questions=2**32 - 1),
        pb.ReportRequest(energy_source=pb.ENERGY_SOURCE_MAINS, profile="x" * 100_000),
        pb.ReportRequest(energy_source=pb.ENERGY_SOURCE_MAINS, fedge_version="<b>1</b>"),
    ],
    ids=["empty", "path", "enum", "queue", "long", "markup"],
)
def test_what_cannot_be_is_refused_and_not_kept(federation, message):
    home = federation.enroll("kitchen")
    code, details = report(home, message)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and 0 < len(details) < 300
    assert entry(federation)["reported"] is None


def test_garbage_in_place_of_a_message_is_answered_and_the_door_goes_on(federation, teller):
    home = federation.enroll("kitchen")
    door = DoorChannel(home, home.settings().fleet)
    raw = door().unary_unary("/fedge.fleet.v1.Presence/Report")
    for data in (b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xc3\x28"):  # the last one is no UTF-8
        with pytest.raises(grpc.RpcError):
            raw(data, timeout=20)
    door.close()
    assert entry(federation)["reported"] is None
    assert teller(home).step()


def test_a_revoked_device_is_refused_says_no_more_and_counts_no_more(federation, teller, caplog):
    device = teller(federation.enroll("kitchen"))
    assert device.step()
    federation.revoke("kitchen")
    asked = []
    sent = device.reporter._send
    device.reporter._send = lambda *arguments: asked.append(1) or sent(*arguments)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            assert not device.step(after=100, queue=7)
    assert asked == [1] and len(caplog.records) == 1 and "revoked" in caplog.text
    found = entry(federation)
    assert (found["state"], found["queue"], found["silent"]) == ("revoked", 3, False)
    standing = federation.authority.standing(now=federation.clock())
    assert (standing.members, standing.reporting, standing.queue) == (0, 0, 0)
    federation.authority.note_reports({"kitchen": Report(federation.clock(), SAID)})  # as if it had been under way
    assert entry(federation)["reported"] == found["reported"]


def test_a_device_whose_certificate_ran_out_says_no_more_until_it_is_renewed(federation, teller, patient):
    federation.clock.shift_s = -0.7 * 86_400
    home = federation.enroll("kitchen")
    federation.clock.shift_s = 0.5 * 86_400  # over for the door; TLS itself goes by the machine's clock
    device = teller(home)
    assert not device.step() and not device.step(after=100)
    federation.clock.shift_s = 0.0
    assert not device.step(after=100), "it asks again only with other certificates"
    keeper = Renewer(home, home.settings(), door=device.door, clock=federation.clock, rng=random.Random(7), timeout_s=20)
    assert keeper.step().certificates
    patient()
    assert device.step(after=100)


def test_a_device_that_is_offline_is_told_by_silence_and_comes_back(closed, teller, wait_for):
    with closed.open():
        home = closed.enroll("kitchen")
        device = teller(home)
        assert device.step()
    for _ in range(3):
        with pytest.raises(NotReported) as away:
            device.step(after=100)
        assert str(away.value).startswith(f"the door at {home.settings().fleet} is out of reach")
    now = closed.clock()
    (before,) = closed.authority.listed(now=now + SILENT_S - 60)
    (later,) = closed.authority.listed(now=now + SILENT_S + 60)
    assert (before["silent"], later["silent"]) == (False, True) and later["state"] == "member"
    assert later["queue"] == 3  # its last word
    standing = closed.authority.standing(now=now + SILENT_S + 60)
    assert (standing.silent, standing.reporting, standing.queue) == (1, 0, 0)
    assert closed.authority.matching(Wanted(silent=True), now=now + SILENT_S + 60) == 1
    with closed.open():
        wait_for(lambda: reached(device, queue=0))
    assert entry(closed)["silent"] is False and entry(closed)["queue"] == 0


def reached(device, **changes):
    """Whether a step got through: gRPC itself waits a moment before it tries a door again that was away."""
    try:
        return device.step(after=100, **changes)
    except NotReported:
        return False


def test_silence_is_logged_once_for_each_change(closed, caplog, wait_for):
    with closed.open():
        home = closed.enroll("kitchen")
    loop, done = loop_of(home, closed)
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            assert not loop._succeeded()
        with closed.open():
            wait_for(loop._succeeded)
            assert loop._succeeded()
    done()
    said = [record.getMessage() for record in caplog.records if record.name == "edge_client.scheduler"]
    assert len(said) == 2 and "out of reach" in said[0] and "well again" in said[1]


def loop_of(home, federation):
    """The agent's loop over a process of which only what is looked at is there."""
    door = DoorChannel(home, home.settings().fleet)
    store = open_file(home.store)
    process = SimpleNamespace(
        home=home,
        settings=home.settings(),
        store=store,
        clock=federation.clock,
        meter=SimpleNamespace(power=None),
        releases=SimpleNamespace(active=None),
    )

    def done():
        store.close()
        door.close()

    return fleet_plugins.FleetPart(door).presence_loop(process), done


def test_a_door_that_knows_no_reports_is_asked_again_after_an_hour(federation, teller, monkeypatch):
    home = federation.enroll("kitchen")
    monkeypatch.setattr(presence_pb2_grpc, "PresenceStub", Older)
    device = teller(home)
    assert not device.step()
    monkeypatch.undo()
    assert not device.step(after=ASK_AGAIN_S - 1)
    assert device.step(after=2)


class Older:
    """As a device asks a door that was there before: for a method that it does not have."""

    def __init__(self, channel):
        self.Report = channel.unary_unary(
            "/fedge.fleet.v1.Presences/Report", request_serializer=pb.ReportRequest.SerializeToString
        )


def test_a_home_of_before_gets_the_table_when_it_is_opened_and_keeps_its_devices(closed, teller):
    with closed.open():
        home = closed.enroll("kitchen")
    file = closed.home.authority / "enrolment.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TABLE presence")  # as a home that was made before there was one
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"device", "member"} <= tables and "presence" not in tables
    assert Authority(closed.home.authority).listed(now=closed.clock())[0]["reported"] is None
    with closed.open():
        assert teller(home).step()
    assert entry(closed)["queue"] == 3


def test_a_door_that_cannot_write_says_try_again_and_not_why(federation, teller, monkeypatch):
    home = federation.enroll("kitchen")
    file = federation.home.authority / "enrolment.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON presence BEGIN SELECT RAISE(ABORT, 'disk secret'); END")
    code, details = report(home, SAID.to_proto())
    assert code == grpc.StatusCode.UNAVAILABLE and "try again" in details and "secret" not in details
