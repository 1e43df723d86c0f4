"""Simulated devices that lie: who they are, what their vectors hold, and what is left out of a run's figures."""

import json

import pytest

from cli import main
from fedge.errors import InputError
from fedge.randomness import root_seed
from sim.config import SimulationConfig
from sim.hostile import LIES, check_hostile, draw_hostile, parse_hostile


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
