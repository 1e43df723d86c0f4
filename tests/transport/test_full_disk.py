"""The rounds process on disks that are really full: it waits, says so once, and goes on when there is space."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from aggregator.fleet.keys import AggregatorKeys
from aggregator.releases.registry import ReleaseRegistry
from aggregator.rounds.state import StateFolder
from aggregator.store import Database
from tests.small_disk import fill, small_disk

N_MIN = 3


@pytest.fixture(scope="module")
def fleet(world, processes) -> Iterator:
    world.make_folder(processes.folder, devices=4, n_min=N_MIN, phase_timeout_s=5.0)
    with ExitStack() as stack:
        for name in ("state", "registry"):
            stack.enter_context(small_disk(processes.folder / name, size_bytes=4 << 20))
        processes.superlink()
        processes.rounds()
        stop = threading.Event()
        threads = [world.start_node(processes.folder, f"device-{number}", stop=stop)[1] for number in range(1, 5)]
        yield processes
        stop.set()
        for thread in threads:
            thread.join()
        processes.end()


def newest(fleet) -> int:
    path = fleet.folder / "aggregator.sqlite"
    if not path.exists():
        return 0
    with Database.open(f"sqlite:///{path}") as database:
        return database.latest_round()


def said(fleet) -> int:
    return (fleet.folder / "rounds.log").read_text().count("the disk is full")


@pytest.mark.parametrize("name", ["state", "registry"])
def test_rounds_wait_on_a_full_disk_and_go_on_when_there_is_space(fleet, name):
    fleet.wait_for("a round", lambda: newest(fleet) >= 1)
    before = said(fleet)
    ballast = fill(fleet.folder / name)
    fleet.wait_for("the log to say that the disk is full", lambda: said(fleet) > before)
    assert fleet.running["rounds"].poll() is None
    stuck = newest(fleet)
    ballast.unlink()
    fleet.wait_for("two more rounds", lambda: newest(fleet) >= stuck + 2)
    assert fleet.running["rounds"].poll() is None
    assert said(fleet) <= before + 4, "once for each wait, not once for each try"


def test_afterwards_what_is_published_and_what_is_stored_are_the_same(fleet):
    fleet.wait_for("a round", lambda: newest(fleet) >= 1)
    fleet.kill("rounds")
    state = StateFolder(fleet.folder / "state").load()
    registry = ReleaseRegistry(fleet.folder / "registry", AggregatorKeys.open(fleet.folder / "keys").release.public_key())
    assert state is not None
    published = {release.release_id for release in registry.releases()}
    assert state.release_id in published
    with Database.open(f"sqlite:///{fleet.folder / 'aggregator.sqlite'}") as database:
        rounds = database.rounds()
    assert [row.round for row in rounds] == list(range(1, len(rounds) + 1)), "no round is missing, none is there twice"
    assert {row.release for row in rounds} <= published
