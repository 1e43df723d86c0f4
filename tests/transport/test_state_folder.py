"""What a new run goes on from."""

import numpy as np
import pytest

from aggregator.rounds.robust_sum import SumHistory
from aggregator.rounds.server_optimizer import init
from aggregator.rounds.state import FederationState, StateFolder
from fedge.errors import InputError
from fedge.routing.running import RunningBound


def state_of(round_number: int) -> FederationState:
    return FederationState(
        round_number=round_number,
        head={"head.bias": np.full(2, round_number, np.float32), "head.weight": np.zeros((3, 2), np.float32)},
        optimizer=init(8),
        temperature=1.0,
        release_id="ab" * 32,
        version=round_number,
        running=RunningBound(),
        threshold=None,
        probe_rate=0.3,
        certificate_state="none",
        certificate_bound=None,
        history=SumHistory.begin(clip_norm=2.0, weight_cap=100),
    )


def test_nothing_stored_is_no_state(tmp_path):
    assert StateFolder(tmp_path / "state").load() is None


def test_the_later_of_file_and_database_counts(tmp_path):
    folder = StateFolder(tmp_path)
    folder.save(state_of(3))
    for other, expected in ((None, 3), (2, 3), (4, 4)):
        found = folder.load(None if other is None else state_of(other).to_bytes())
        assert found is not None and found.round_number == expected
        assert found.head["head.bias"].tolist() == [expected, expected]


def test_a_write_that_was_cut_short_leaves_the_old_state(tmp_path):
    folder = StateFolder(tmp_path)
    folder.save(state_of(3))
    (tmp_path / ".state.bin.part").write_bytes(state_of(4).to_bytes()[:100])
    assert folder.load().round_number == 3
    folder.save(state_of(5))
    assert folder.load().round_number == 5


def test_attempts_count_on_within_a_round_and_from_nothing_in_the_next(tmp_path):
    folder = StateFolder(tmp_path)
    assert folder.last(1) == 0
    folder.begin(1, 1)
    folder.begin(1, 2)
    assert (StateFolder(tmp_path).last(1), StateFolder(tmp_path).last(2)) == (2, 0)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "attempt.json").write_text("{")
    with pytest.raises(InputError, match=r"attempt\.json"):
        StateFolder(tmp_path).last(1)
