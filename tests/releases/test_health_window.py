"""A release that does badly on a device gives way to the one before, for good, and the device says why."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edge_client.inference.pipeline import Agent, Device
from edge_client.power.accounting import EnergyMeter
from edge_client.releases.health_window import ReleaseWatch, WatchRules
from edge_client.releases.inference import ReleaseLoader
from edge_client.releases.manager import Latest, ReleaseManager
from edge_client.releases.storage import FolderShelf
from edge_client.store import open_file
from fedge.costs import PriceBook, load_profiles
from fedge.errors import VerificationError
from fedge.release import file_hashes, save_public_key, sign_release
from fedge.routing import Policy

ROOT = Path(__file__).parents[2]
LEFT = np.array([1, 1, 0, 0], dtype=np.float32)
BREAKS = np.array([1, 1, 1, 0], dtype=np.float32)
RULES = WatchRules(health_s=600, max_errors=3, max_starts=3, escalation_rise=0.3, min_answers=20)


class Board:
    """A device with its store and shelf on disk: `start` is what a process does, whatever ended the one before."""

    def __init__(self, folder, release_key, parts):
        self.folder, self.key, self.parts = folder, release_key.public_key(), parts
        self.source, self.clock, self.central = parts.LocalSource(), parts.Clock(), parts.LocalCentral()
        folder.mkdir()
        self.start()

    def start(self):
        self.store = open_file(self.folder / "device.sqlite")
        self.manager = ReleaseManager(
            self.source,
            shelf=FolderShelf(self.folder / "releases", self.key),
            store=self.store,
            loader=ReleaseLoader(self.key),
            watch=ReleaseWatch(self.store, RULES, self.clock),
        )
        self.manager.restore()
        meter = EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"])
        device = Device(device_id="device-1", probe_key=b"k" * 32, policy=Policy.default(), meter=meter, clock=self.clock)
        self.agent = Agent(device, store=self.store, releases=self.manager, central=self.central)

    def crash(self):
        self.store.close()
        self.start()

    def stop(self):
        self.manager.close()
        self.store.close()

    @property
    def runs(self):
        return self.manager.active.loaded.release_id if self.manager.active else None

    def fate(self, release):
        return self.store.health.get(release.release_id)


@pytest.fixture
def board(tmp_path, release_key, device_parts):
    made = Board(tmp_path / "board", release_key, device_parts)
    yield made
    made.store.close()


@pytest.fixture
def two(make_release):
    return make_release(), make_release(scale=3.0, version=2)


def altered(release, release_key, change):
    """The release with another infer.onnx, signed like any other."""
    model = onnx.ModelProto.FromString(release.files["infer.onnx"])
    change(model.graph)
    files = {**release.files, "infer.onnx": model.SerializeToString()}
    return sign_release(dataclasses.replace(release.manifest, files=file_hashes(files)), files, release_key)


def gives_nan_on_bright_queries(graph):
    """0 / 0 where the pixels sum to more than 2.5, which no query of the self-test does."""
    next(node for node in graph.node if "logits" in node.output).output[0] = "plain"
    graph.initializer.append(numpy_helper.from_array(np.array(2.5, np.float32), "limit"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    graph.node.extend(
        [
            helper.make_node("ReduceSum", ["pixels", "axis"], ["bright"]),
            helper.make_node("Sub", ["limit", "bright"], ["left_over"]),
            helper.make_node("Sqrt", ["left_over"], ["root"]),
            helper.make_node("Sub", ["root", "root"], ["nothing"]),
            helper.make_node("Add", ["plain", "nothing"], ["logits"]),
        ]
    )


def test_a_release_that_does_well_is_healthy_after_its_window(board, two):
    for release in two:
        board.source.publish(release)
        board.manager.sync()
    assert board.fate(two[1]).state == "watched"
    assert len(list((board.folder / "releases").iterdir())) == 2
    board.clock.now += RULES.health_s
    board.manager.sync()
    assert board.fate(two[1]).state == "healthy"
    assert [path.name for path in (board.folder / "releases").iterdir()] == [two[1].release_id]


def test_no_query_fails_under_a_model_that_does_and_the_release_before_comes_back(board, two, release_key):
    bad = altered(two[1], release_key, gives_nan_on_bright_queries)
    for release in (two[0], bad):
        board.source.publish(release)
        board.manager.sync()
    answers = [board.agent.ask(BREAKS, mode="local-only" if i else "auto") for i in range(RULES.max_errors)]
    assert board.runs == two[0].release_id
    assert [answer.release for answer in answers] == [None, None, two[0].release_id]
    assert board.fate(bad).state == "rolled_back"
    assert "its model failed 3 times, last: ModelFailed" in board.fate(bad).reason
    assert not board.manager.sync().changed  # it is still the desired release, and is not taken again
    board.crash()
    assert board.runs == two[0].release_id
    assert not board.manager.sync().changed
    with pytest.raises(VerificationError, match="given up on this device"):
        board.manager.obtain(bad.release_id)


def test_the_release_after_a_bad_one_is_taken(board, two, make_release, release_key):
    bad = altered(two[1], release_key, gives_nan_on_bright_queries)
    for release in (two[0], bad):
        board.source.publish(release)
        board.manager.sync()
    board.manager.give_up(bad.release_id, "test")
    third = make_release(scale=4.0, version=3)
    board.source.publish(third)
    assert board.manager.sync().changed
    assert board.runs == third.release_id
    assert board.store.health.before().release_id == two[0].release_id


def test_a_failing_self_test_is_recorded_and_not_tried_again(board, two, make_release):
    board.source.publish(two[0])
    board.manager.sync()
    bad = make_release(scale=3.0, version=2, shift=1.0)
    board.source.publish(bad)
    with pytest.raises(VerificationError, match="self-test"):
        board.manager.sync()
    fetched = len(board.source.fetched)
    assert not board.manager.sync().changed
    assert len(board.source.fetched) == fetched
    assert board.runs == two[0].release_id
    assert "self-test" in board.fate(bad).reason


def test_a_process_that_keeps_ending_under_a_release_goes_back_to_the_one_before(board, two):
    for release in two:
        board.source.publish(release)
        board.manager.sync()
    for _ in range(RULES.max_starts - 1):
        board.crash()
        assert board.runs == two[1].release_id
    board.crash()
    assert board.runs == two[0].release_id
    assert board.fate(two[1]).reason == "the process ended unexpectedly under it 3 times"


def test_a_process_that_ends_after_a_while_counts_for_nothing(board, two):
    for release in two:
        board.source.publish(release)
        board.manager.sync()
    for _ in range(3 * RULES.max_starts):
        board.clock.now += 31
        board.manager.sync()
        board.crash()
    assert board.runs == two[1].release_id


def test_orderly_restarts_count_for_nothing(board, two):
    for release in two:
        board.source.publish(release)
        board.manager.sync()
    for _ in range(3 * RULES.max_starts):
        board.stop()
        board.start()
    assert board.runs == two[1].release_id
    assert board.fate(two[1]).starts == 1


def test_a_load_that_kills_the_process_is_given_up_after_three(tmp_path, board, two, release_key):
    """A real process, ended by a signal while it loads: at the fourth start the release is not loaded any more."""
    board.source.publish(two[0])
    board.manager.sync()
    board.stop()
    code = f"""
        import os, signal, sys
        from pathlib import Path
        import edge_client.releases.inference as loading
        from edge_client.releases.manager import Latest, ReleaseManager, ReleasePieces
        from edge_client.releases.storage import FolderShelf
        from edge_client.store import open_file
        from edge_client.releases.health_window import ReleaseWatch, WatchRules
        from fedge.release import load_public_key
        class Killed(loading.ReleaseLoader):
            def load(self, manifest, signature, files):
                os.kill(os.getpid(), signal.SIGKILL)
        class Source:
            def latest(self): return Latest({two[1].release_id!r}, None)
            def fetch(self, release_id, have): return ReleasePieces(b"", b"", {{}})
        key = load_public_key(Path({str(tmp_path / "key.pem")!r}))
        store = open_file(Path({str(board.folder / "device.sqlite")!r}))
        watch = ReleaseWatch(store, WatchRules(max_starts=3), lambda: 0.0)
        shelf = FolderShelf(Path({str(board.folder / "releases")!r}), key)
        ReleaseManager(Source(), shelf=shelf, store=store, loader=Killed(key), watch=watch).sync()
    """
    save_public_key(tmp_path / "key.pem", release_key.public_key())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ends = [subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False) for _ in range(4)]
    assert [end.returncode for end in ends] == [-9, -9, -9, 1]
    board.start()
    assert board.runs == two[0].release_id
    assert board.fate(two[1]).reason == "loading it ended the process 3 times"


def test_a_jump_of_escalations_goes_back(board, make_release, certify):
    sure, unsure = make_release(scale=4.0), make_release(scale=0.05, version=2)
    board.source.publish(sure, certify(sure, rate=0.0001))
    board.manager.sync()
    for i in range(RULES.min_answers):
        board.agent.ask(LEFT * np.float32(1 - i / 1000))
    board.clock.now += RULES.health_s
    board.manager.sync()
    board.source.publish(unsure, certify(unsure, round_number=2, rate=0.0001))
    board.manager.sync()
    assert board.runs == unsure.release_id
    for i in range(RULES.min_answers):
        assert board.runs == unsure.release_id
        board.agent.ask(LEFT * np.float32(1 - i / 1000))
    assert board.runs == sure.release_id
    assert board.fate(unsure).reason == "it escalated 100% of 20 queries, the release before 0%"


def test_without_a_release_before_central_answers(board, two, release_key):
    bad = altered(two[0], release_key, gives_nan_on_bright_queries)
    board.source.publish(bad)
    board.manager.sync()
    for _ in range(RULES.max_errors):
        assert board.agent.ask(BREAKS).answered_by == "central"
    assert board.runs is None
    board.crash()
    assert board.runs is None
    assert board.agent.ask(LEFT).answered_by == "central"


def test_a_withdrawn_release_gives_way_to_an_older_one_and_only_such_a_release_does(board, two, certify):
    board.source.publish(two[0], certify(two[0], round_number=1))
    board.manager.sync()
    board.source.publish(two[1], certify(two[1], round_number=2))
    board.manager.sync()
    older = Latest(two[0].release_id, certify(two[0], round_number=1))
    board.source.desired = older
    with pytest.raises(VerificationError, match="older or equal version"):
        board.manager.sync()
    board.source.desired = dataclasses.replace(older, withdrawn=frozenset([two[1].release_id]))
    assert board.manager.sync().changed
    assert board.runs == two[0].release_id
    assert board.manager.active.publication == 2  # the newest threshold that this device ever knew
    assert not board.manager.sync().changed


def test_counters_leave_in_a_secure_sum_only_once(board, two):
    for release in two:
        board.source.publish(release)
        board.manager.sync()
    for _ in range(5):
        board.agent.ask(LEFT)
    counts = board.manager.health_counts(two[1].release_id)
    assert (counts.taken, counts.rolled_back, counts.answered, counts.errors) == (1, 0, 5, 0)
    board.store.health.mark_sent(counts)
    board.agent.ask(LEFT)
    board.manager.give_up(two[1].release_id, "test")
    counts = board.manager.health_counts(two[1].release_id)
    assert (counts.taken, counts.rolled_back, counts.answered, counts.errors) == (0, 1, 1, 0)
    nothing = board.manager.health_counts("f" * 64)
    assert (nothing.taken, nothing.rolled_back, nothing.answered, nothing.errors) == (0, 0, 0, 0)
