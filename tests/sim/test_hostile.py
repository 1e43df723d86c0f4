"""Simulated devices that lie: who they are, what their vectors hold, and what is left out of a run's figures."""

import json

import numpy as np
import pytest

from cli import main
from fedge.errors import InputError
from fedge.layouts import CountsLayout
from fedge.randomness import root_seed
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import SecAggError, SessionConfig, Task
from fedge.secagg.codec import decode, encode
from fedge.secagg.range_proof import prove, verify
from sim.config import SimulationConfig
from sim.hostile import LIES, Encoded, check_hostile, draw_hostile, parse_hostile
from sim.run import simulate

WEIGHTS = {
    "head.bias": np.array([0.0, 1.0, 2.0], np.float32),
    "head.weight": np.array([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]], np.float32),
}
"""A head over two features and three labels."""
HONEST = np.array([0.5, -0.25, 0.0, 0.125, 0.0, -1.0, 0.75, 0.0, 0.25])
SEED = bytes(32)


def session(*, reals: int, integers: int, bits: int = 32) -> SessionConfig:
    return SessionConfig(
        reals=reals,
        integers=integers,
        bits=bits,
        cohort_max=16,
        scale=2.0,
        clip_norm=2.0,
        weight_cap=20,
        n_min=2,
        deadline=1000.0,
    )


def lie(kind: str, *, purpose: str = "update") -> tuple[np.ndarray, np.ndarray]:
    """Return what the hostile device of a pair adds to the pair's sum."""
    config = session(reals=len(HONEST), integers=2)
    honest, lying = (encode(HONEST, np.array([7, 7]), config, SEED) for _ in range(2))
    LIES[kind](Encoded(vector=lying, config=config, purpose=purpose, weights=WEIGHTS, bins=4))
    both, alone = decode(honest + lying, 2, config), decode(honest, 1, config)
    return both.reals - alone.reals, both.integers - alone.integers


def test_a_flipped_sign_turns_every_coordinate_round():
    reals, integers = lie("sign_flip")
    assert np.allclose(reals, -HONEST, atol=1e-6) and integers.tolist() == [7, 7]


def test_a_scaled_update_fills_the_encoding_in_the_honest_direction():
    reals, _ = lie("scale")
    told = HONEST != 0
    assert np.allclose(reals[told], 2.0 * np.sign(HONEST[told]))


def test_the_worst_vector_reaches_the_bound_everywhere_and_weighs_nothing():
    reals, integers = lie("within_bounds")
    assert np.allclose(reals, 2.0 * np.array([1, -1, -1, 1, -1, -1, 1, -1, -1])), "every query becomes the first label"
    assert integers.tolist() == [0, 0]


def test_swapped_labels_move_two_columns_towards_each_other_and_no_other_one():
    reals, _ = lie("label_swap")
    bias, weight = reals[:3], reals[3:].reshape(2, 3)
    assert np.allclose(bias, [2.0, 0.0, -2.0]) and np.allclose(weight, [[2.0, 0.0, -2.0], [-2.0, 0.0, 2.0]])


@pytest.mark.parametrize("kind", ["sign_flip", "scale", "within_bounds", "label_swap", "forge_counts", "shade_counts"])
def test_a_lie_leaves_sessions_of_other_purposes_alone(kind):
    reals, integers = lie(kind, purpose="usage")
    assert np.allclose(reals, HONEST, atol=1e-6) and integers.tolist() == [7, 7]


@pytest.mark.parametrize("bits", [16, 32])
def test_forged_counts_add_agreeing_probes_and_take_disagreements_away(bits):
    layout = CountsLayout(8)
    config = session(reals=0, integers=layout.integers, bits=bits)
    honest = layout.encode(
        agreed=np.full(layout.coarse_bins, 5),
        disagreed=np.full(layout.coarse_bins, 3),
        new_seen=np.full(8, 4),
        new_disagreed=np.full(8, 2),
        running_seen=30,
        running_disagreed=3,
    )
    vectors = [encode(np.zeros(0), honest, config, SEED) for _ in range(2)]
    LIES["forge_counts"](Encoded(vector=vectors[1], config=config, purpose="counts", weights=WEIGHTS, bins=8))
    sums = layout.decode(decode(vectors[0] + vectors[1], 2, config).integers, devices=2)
    assert sums.disagreed.tolist() == [5] * layout.coarse_bins, "one of six is gone from each bin"
    assert (sums.seen - sums.disagreed > 60).all() and (sums.new_seen > 60).all() and sums.running_seen > 500
    assert sums.new_disagreed.tolist() == [4] * 8 and sums.running_disagreed == 6


def test_shaded_counts_stay_within_what_one_device_may_count():
    layout = CountsLayout(8)
    config = session(reals=0, integers=layout.integers)
    honest = np.full(layout.integers, 3)
    vectors = [encode(np.zeros(0), honest, config, SEED) for _ in range(2)]
    lying = Encoded(vector=vectors[1], config=config, purpose="counts", weights=WEIGHTS, bins=8, probe_cap=16)
    LIES["shade_counts"](lying)
    added = decode(vectors[0] + vectors[1], 2, config).integers - 2 * honest
    assert added.tolist() == [0, 0, 16, -1, -1, -1, *[0] * 7, 16, *[0] * 8, 16, 0]


def test_a_broken_tripwire_is_noticed():
    config = session(reals=1, integers=1)
    honest, lying = (encode(np.zeros(1), np.array([1]), config, SEED) for _ in range(2))
    LIES["tripwire"](Encoded(vector=lying, config=config, purpose="usage", weights=WEIGHTS, bins=4))
    with pytest.raises(SecAggError, match="tripwire"):
        decode(honest + lying, 2, config)


def test_counts_are_read_by_kind():
    texts = ["within_bounds:1", "label_swap+forge_counts:3"]
    assert parse_hostile(texts) == {"within_bounds": 1, "label_swap+forge_counts": 3}


@pytest.mark.parametrize("text", ["scale", "scale:", "scale:0", "scale:-1", "scale:1.5", "scale:²"])
def test_a_text_without_a_usable_count_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="give KIND:COUNT") as error:
        parse_hostile([text])
    assert text in str(error.value)


def test_a_kind_that_is_named_twice_is_refused():
    with pytest.raises(InputError, match="named twice"):
        parse_hostile(["scale:1", "scale:2"])


@pytest.mark.parametrize("kind", ["backdoor", "scale+backdoor", "+scale", ""])
def test_an_unknown_kind_is_refused_with_those_that_there_are(kind):
    with pytest.raises(InputError) as error:
        check_hostile({kind: 1}, devices=30)
    assert all(name in str(error.value) for name in LIES)


@pytest.mark.parametrize("counts", [{"scale": 30}, {"scale": 15, "tripwire": 15}, {"sign_flip": 31}])
def test_at_least_one_device_has_to_be_honest(counts):
    with pytest.raises(InputError, match="at least one has to be honest"):
        check_hostile(counts, devices=30)


def test_who_is_hostile_follows_from_the_seed_alone():
    counts = {"within_bounds": 2, "forge_counts+label_swap": 1}
    drawn = draw_hostile(counts, devices=30, seed=root_seed(1))
    assert drawn == draw_hostile(dict(reversed(counts.items())), devices=30, seed=root_seed(1))
    assert sorted(len(encoder.lies) for encoder in drawn.values()) == [1, 1, 2]
    others = [sorted(draw_hostile(counts, devices=30, seed=root_seed(seed))) for seed in range(5)]
    assert len({tuple(numbers) for numbers in others}) > 1
    assert draw_hostile({}, devices=30, seed=root_seed(1)) == {}


@pytest.mark.parametrize("option", ["backdoor:1", "scale", "scale:30"])
def test_the_command_refuses_what_cannot_be_in_one_line(monkeypatch, capsys, tmp_path, option):
    monkeypatch.setattr("sys.argv", ["fedge", "sim", "run", "--out", str(tmp_path / "run"), "--hostile", option])
    with pytest.raises(SystemExit) as stop:
        main.main()
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1 and "--hostile" in error


def test_hostile_devices_are_parameters_of_the_run():
    config = SimulationConfig(hostile={"scale": 1}).checked()
    assert json.loads(config.to_json())["hostile"] == {"scale": 1}
    assert SimulationConfig().differences(config.to_json()) == ["hostile"]
    assert config.differences(config.to_json()) == []


class Quiet:
    def stage(self, text):
        pass

    def round_finished(self, entry):
        pass


def test_a_run_plays_its_attackers_and_leaves_their_traffic_out(tmp_path):
    config = SimulationConfig(devices=10, rounds=1, seed=3, queries_per_round=6, out=tmp_path, hostile={"tripwire": 1})
    summary = simulate(config.checked(), observer=Quiet())
    (entry,) = summary["rounds"]
    assert summary["hostile"] == {"tripwire": 1} == summary["parameters"]["hostile"]
    assert entry["stream"]["queries"] == 9 * 6
    assert "tripwire" in " ".join(entry["notes"]), "the sums that the device spoiled are told of"
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Attackers were played: 1 of 10 devices lied in every round (1 tripwire)" in report


@pytest.mark.parametrize(
    ("hostile", "range_proofs", "expected"),
    [({}, None, False), ({"scale": 1}, None, True), ({"scale": 1}, False, False), ({}, True, True)],
)
def test_range_proofs_are_played_where_devices_lie_or_where_they_are_asked_for(hostile, range_proofs, expected):
    assert SimulationConfig(hostile=hostile, range_proofs=range_proofs).has_range_proofs is expected


PROVED = Task(
    purpose="counts",
    period=1,
    release_id="1" * 64,
    weights_sha256="2" * 64,
    structure_sha256="3" * 64,
    probe_epsilon=2.0,
    probe_cap=16,
    range_proofs=True,
    probe_store=128,
)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("kind", ["forge_counts", "shade_counts"])
def test_where_counts_have_to_be_proved_a_liar_fills_their_ranges_and_no_more(kind, bits):
    noise = ProbeNoise(PROVED.probe_epsilon, 1)
    layout = CountsLayout(8, lift=noise.bound)
    config = session(reals=0, integers=layout.integers, bits=bits)
    vector = encode(np.zeros(0), np.full(layout.integers, 30), config, SEED)
    LIES[kind](Encoded(vector=vector, config=config, purpose="counts", weights=WEIGHTS, bins=8, proved=PROVED))
    integers = decode(vector, 1, config).integers
    claim = layout.claim(probe_cap=16, probe_store=128, room=noise.room)
    proof = prove(claim.statement, claim.values(integers, 1), blinding=7, context=b"", entropy=bytes(32))
    assert verify(claim.statement, proof, context=b"")
    sums = layout.decode(integers, devices=1)
    assert (sums.new_seen.sum(), sums.new_disagreed.sum(), sums.running_seen) == (16, 0, 16)
    assert (int((sums.seen - sums.disagreed)[-1]), int(sums.disagreed[-1])) == (128 + noise.room, -noise.room)


def test_a_run_with_a_liar_about_counts_leaves_nobody_out(tmp_path):
    config = SimulationConfig(devices=10, rounds=2, seed=3, out=tmp_path, hostile={"forge_counts": 1})
    summary = simulate(config.checked(), observer=Quiet())
    assert all(entry["survivors"] == entry["cohort"] for entry in summary["rounds"])
    assert not any("aborted" in note or "left" in note for entry in summary["rounds"] for note in entry["notes"])
