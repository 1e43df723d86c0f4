"""The simulator's own parts: absence, clock, checkpoints, configuration."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError
from sim import checkpoint as checkpoints
from sim.availability import STAGES, Dropouts
from sim.checkpoint import Checkpoint
from sim.clock import SimulatedClock
from sim.config import SimulationConfig


def test_a_device_that_has_left_stays_away_for_the_rest_of_the_session() -> None:
    dropouts = Dropouts(0.5, b"s" * 32)
    for node in range(200):
        gone = [dropouts.absent(node, stage, "1.1") for stage in STAGES]
        assert gone == sorted(gone)


def test_devices_leave_with_the_given_probability_at_every_stage() -> None:
    dropouts = Dropouts(0.2, b"s" * 32)
    first = [sum(dropouts.absent(node, stage, "1.1") for node in range(4000)) for stage in STAGES]
    assert first[-1] == pytest.approx(800, abs=80)
    assert [later - earlier for earlier, later in zip([0, *first], first, strict=False)] == pytest.approx([200] * 4, abs=50)


def test_nobody_is_absent_from_checking_in_or_without_dropout() -> None:
    assert not any(Dropouts(0.9, b"s" * 32).absent(node, "train.check_in", "1.1") for node in range(100))
    assert not any(Dropouts(0.0, b"s" * 32).absent(node, STAGES[-1], "1.1") for node in range(100))


def test_a_clock_never_runs_backwards() -> None:
    clock = SimulatedClock(10.0)
    clock.set(5.0)
    clock.sleep(1.5)
    assert clock() == 11.5


@given(
    devices=st.lists(st.binary(max_size=40), max_size=5),
    files=st.dictionaries(st.sampled_from("abc"), st.binary(max_size=9)),
)
def test_a_checkpoint_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, devices: list[bytes], files: dict[str, bytes]
) -> None:
    out = tmp_path_factory.mktemp("run")
    saved = Checkpoint("{}", 4, 12.5, files, tuple(devices), [{"round": 4}])
    checkpoints.save(out, saved)
    assert checkpoints.load(out) == saved


def test_a_half_written_checkpoint_leaves_the_one_before_in_place(tmp_path: Path) -> None:
    saved = Checkpoint("{}", 1, 0.0, {}, (b"disk",), [])
    checkpoints.save(tmp_path, saved)
    (tmp_path / "state" / ".round-00002.part").mkdir()
    (tmp_path / "state" / ".round-00002.part" / "devices.bin").write_bytes(b"half")
    assert checkpoints.load(tmp_path) == saved


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, Checkpoint("{}", 1, 0.0, {}, (), []))
    head = tmp_path / "state" / "round-00001" / "checkpoint.json"
    whole = json.loads(head.read_text())
    spoiled = [{**whole, name: None} for name in ("config", "round", "clock", "rounds")]
    for text in ("{", "[" * 100_000, *map(json.dumps, spoiled)):
        head.write_text(text)
        with pytest.raises(InputError, match="without --resume"):
            checkpoints.load(tmp_path)


@pytest.mark.parametrize("stored", ["", "{", "[]", "[" * 100_000])
def test_a_stored_configuration_that_cannot_be_read_is_one_clear_error(stored: str) -> None:
    with pytest.raises(InputError, match="start the run anew"):
        SimulationConfig().differences(stored)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workload": "mnist"}, "--workload mnist"),
        ({"devices": 0}, "--devices 0"),
        ({"rounds": 0}, "--rounds 0"),
        ({"dropout": 1.0}, "--dropout 1.0"),
        ({"dropout": -0.1}, "--dropout -0.1"),
        ({"alpha": 0.0}, "--alpha 0.0"),
        ({"max_risk": 0.0}, "--max-risk 0.0"),
        ({"max_risk": 1.0}, "--max-risk 1.0"),
        ({"confidence": 1.0}, "--confidence 1.0"),
        ({"confidence": 0.4}, "--confidence 0.4"),
        ({"cohort": 1}, "--cohort 1:"),
        ({"cohort": 1}, "--cohort 1"),
        ({"queries_per_round": 0}, "--queries-per-round 0"),
        ({"workload": "csv"}, "--data FILE"),
        ({"data": Path("x.csv")}, "digits brings its own data"),
    ],
)
def test_an_unusable_parameter_is_named_with_its_remedy(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SimulationConfig(**changes).checked()  # type: ignore[arg-type]


def test_more_rounds_are_no_other_run_but_another_seed_is() -> None:
    stored = SimulationConfig(rounds=3).to_json()
    assert SimulationConfig(rounds=5).differences(stored) == []
    assert SimulationConfig(seed=2, out=Path("elsewhere")).differences(stored) == ["seed"]
