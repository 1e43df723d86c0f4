"""An agent on a disk that is really full: it answers, says that it records nothing, promises nothing, and recovers."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.local_device import Fleet, central_service
from cli.device_run import show_status
from edge_client.store import StoreUnwritableError, open_file
from tests.edge_client.service.conftest import Api, World
from tests.small_disk import fill, small_disk

MOST = 5000
BUDGET = ("central_timeout_s = 20.0", "daily_budget_usd = 1.0")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size_bytes=8 << 20) as mounted:
        yield mounted


@pytest.fixture
def world(disk: Path, tmp_path: Path) -> World:
    return World(disk, Fleet.make(tmp_path / "fleet"), central_service(time.time))


def ask_until_unrecorded(api: Api, **fields: Any) -> dict[str, Any]:
    """The first answer that is not recorded: the database may have room of its own left."""
    for number in range(MOST):
        answer = api.ask(f"query {number} {'x' * 2000}", **fields)
        if not answer["recorded"]:
            return answer
    raise AssertionError("every answer was recorded")


def shown(api: Api) -> dict[str, Any]:
    status, health, _ = api.call("GET", "/health")
    assert status == 200
    return health


def fates(api: Api) -> int:
    assert api.process is not None
    return api.process.store.fates.count()[0]


def test_a_full_disk_costs_the_record_and_no_answer(world: World, disk: Path, capsys: pytest.CaptureFixture[str]):
    with world.central(), world.agent(world.home()) as api:
        before = api.ask()
        assert before["recorded"] and before["id"] > 0 and shown(api)["recording"]
        ballast = fill(disk)
        answer = ask_until_unrecorded(api)
        assert (answer["id"], answer["answered_by"], answer["degraded"]) == (0, "device", False)
        assert answer["answer"] is not None and answer["release"] == before["release"]
        health = shown(api)
        assert health["ready"] and not health["recording"]
        assert "full" in health["missing"]["storage"] and "free some space" in health["missing"]["storage"]
        show_status(world.folder / "home", json_output=False)
        printed = capsys.readouterr().out
        assert "ready, records nothing" in printed and "missing   storage: " in printed
        status, _, headers = api.call("POST", "/v1/ask", {"query": "x" * 2000})
        assert status == 200 and headers["x-fedge-recorded"] == "false"
        assert api.call("GET", "/v1/answers/0")[0] == 404
        seen = fates(api)
        batch = api.call("POST", "/v1/ask/batch", {"queries": [f"new {number} {'x' * 2000}" for number in range(20)]})
        assert batch[0] == 200 and not any(one["recorded"] for one in batch[1]["answers"])
        assert fates(api) == seen, "no fate was kept, so none was decided"
        ballast.unlink()
        after = api.ask()
        assert after["recorded"] and after["id"] > before["id"], "without a restart"
        assert shown(api)["recording"] and "storage" not in shown(api)["missing"]


def test_what_was_answered_meanwhile_is_booked_once_there_is_space(world: World, disk: Path):
    with world.central(), world.agent(world.home(threshold=None)) as api:
        assert api.process is not None
        ballast = fill(disk)
        unrecorded = [ask_until_unrecorded(api)]
        assert unrecorded[0]["answered_by"] == "central", "no budget holds here, so central is asked"
        unrecorded += [api.ask(f"more {number} {'x' * 2000}") for number in range(9)]
        assert not any(answer["recorded"] for answer in unrecorded)
        paid_usd, ledger = sum(one.price_usd for one in world.service.served().values()), api.process.store.ledger
        assert ledger.paid_to_central_usd(day_of=time.time()) < paid_usd * 0.999
        ballast.unlink()
        assert shown(api)["recording"], "a look is enough"
        assert ledger.paid_to_central_usd(day_of=time.time()) == pytest.approx(paid_usd)


def test_a_budget_that_cannot_be_counted_is_not_spent_and_nothing_is_promised(world: World, disk: Path):
    with world.central(), world.agent(world.home(threshold=None, settings=BUDGET)) as api:
        assert api.ask()["answered_by"] == "central"
        fill(disk)
        ask_until_unrecorded(api)
        served = dict(world.service.served())
        answer = api.ask("x" * 2000)
        assert (answer["answered_by"], answer["reason"], answer["degraded"]) == ("device", "not_stored", True)
        status, promised, _ = api.call("POST", "/v1/ask", {"query": "y" * 2000, "queue": True})
        assert status == 200 and promised["queued"] is False and promised["recorded"] is False
        assert world.service.served() == served, "central was paid for nothing"


def test_a_correction_that_cannot_be_kept_is_refused_in_one_line(world: World, disk: Path):
    with world.central(), world.agent(world.home()) as api:
        answers = [api.ask(f"{number} {'x' * 2000}") for number in range(40)]
        fill(disk)
        ask_until_unrecorded(api)
        for answer in answers:
            status, refusal, _ = api.call("POST", f"/v1/answers/{answer['id']}/correction", {"label": "label-1"})
            if status == 507:
                break
        else:
            raise AssertionError("every correction was kept")
        assert refusal["error"]["code"] == "storage_full" and "free some space" in refusal["error"]["message"]


def test_a_transaction_on_a_full_disk_leaves_nothing_behind(disk: Path):
    store = open_file(disk / "device.db")
    fill(disk)
    with pytest.raises(StoreUnwritableError, match="free some space"):
        for number in range(MOST):
            with store.transaction(durable=number % 2 == 0):
                store.count({f"{number} {'x' * 500}": 1})
                store.count({f"{number} {'y' * 500}": 1})
    assert store.fault is not None
    names = list(store.counters())
    assert len(names) % 2 == 0, "both or neither"
    with store.transaction():
        pass
    assert store.fault is not None, "an empty transaction proves nothing"
    (disk / "ballast").unlink()
    store.count({"again": 1})
    assert store.fault is None and len(store.counters()) == len(names) + 1
    assert store.rows("PRAGMA synchronous") == [(1,)], "durable transactions set it back"
    store.close()
