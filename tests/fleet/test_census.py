"""What devices said, as the authority keeps it: written together, found again, and added up."""

import asyncio
from threading import Event

import pytest

from aggregator.fleet.heartbeat import Report, Reports
from aggregator.fleet.inventory import Wanted
from fedge.errors import FedgeError
from fedge.presence import Presence

FIRST, SECOND = "11" * 32, "22" * 32
SAID = Presence(release=FIRST, supply="mains", sensor="ina219", profile="raspberry-pi-4", queue=3, fedge="0.1.0")


def test_reports_of_strangers_are_not_kept(federation):
    now = federation.clock()
    federation.authority.note_reports({"nobody": Report(now, SAID)})
    assert federation.authority.listed(now=now) == []
    assert federation.authority.standing(now=now).reporting == 0


def test_devices_are_found_by_release_and_by_queue(federation):
    now = federation.clock()
    for name in ("attic", "cellar", "hall", "kitchen"):
        federation.enroll(name)
    said = {
        "attic": Presence(release=FIRST, queue=2),
        "cellar": Presence(release=SECOND),
        "hall": Presence(release=FIRST, supply="battery"),
    }
    federation.authority.note_reports({name: Report(now, presence) for name, presence in said.items()})

    def found(**wanted):
        names = [one["device"] for one in federation.authority.listed(Wanted(**wanted), now=now)]
        assert len(names) == federation.authority.matching(Wanted(**wanted), now=now)
        return names

    assert found(release=FIRST) == ["attic", "hall"]
    assert found(waiting=True) == ["attic"]
    assert found(release=SECOND, waiting=True) == []
    assert found(silent=True) == []
    assert len(found()) == 4
    standing = federation.authority.standing(now=now)
    assert standing.releases == {FIRST: 2, SECOND: 1} and standing.supplies == {"unknown": 2, "mains": 0, "battery": 1}


def test_reports_that_come_at_once_share_a_transaction_and_each_sees_its_own_written():
    batches, held = [], Event()

    def keep(batch):
        batches.append(dict(batch))
        if len(batches) == 1:
            held.wait(20)

    async def run():
        reports = Reports(keep)
        first = asyncio.create_task(reports.add("device-0", Report(0.0, SAID)))
        while not batches:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(reports.add(f"device-{n}", Report(float(n), SAID))) for n in range(1, 200)]
        newer = asyncio.create_task(reports.add("device-7", Report(900.0, SAID)))
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(first, newer, *others)

    asyncio.run(run())
    assert [len(batch) for batch in batches] == [1, 199]
    assert batches[1]["device-7"].at == 900.0


def test_reports_that_could_not_be_written_are_written_with_the_next_one():
    written, failures = {}, [FedgeError("the disk is full")]

    def keep(batch):
        if failures:
            raise failures.pop()
        written.update(batch)

    async def run():
        reports = Reports(keep)
        with pytest.raises(FedgeError, match="full"):
            await reports.add("kitchen", Report(1.0, SAID))
        await reports.add("cellar", Report(2.0, SAID))

    asyncio.run(run())
    assert set(written) == {"kitchen", "cellar"}
