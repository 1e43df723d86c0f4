"""The small form of `fedge bench attacks`: every attack that takes seconds is played, and held."""

import json

import pytest

from benchmarks.attacks.runner import ATTACKS, QUICK, choose_attacks, play
from cli import main
from fedge.errors import InputError


@pytest.mark.parametrize("attack", QUICK, ids=lambda attack: attack.__name__)
def test_a_quick_attack_is_held_and_reads_nothing(attack):
    stages = []
    (result,) = play([attack], seed=1, stage=stages.append)
    assert result.attack == attack.__name__
    assert result.held, result.note
    assert result.measure == "damage" or result.value == 0.0, result.note
    assert attack.__name__ in stages[0] and "held" in stages[1]


def test_names_choose_attacks_in_the_order_of_the_catalog():
    chosen = choose_attacks(["idle_cohort", "isolate_counts"])
    assert [attack.__name__ for attack in chosen] == ["isolate_counts", "idle_cohort"]
    assert choose_attacks([]) == list(ATTACKS)
    assert len({attack.__name__ for attack in ATTACKS}) == len(ATTACKS)


def test_every_attack_says_in_a_line_what_the_attacker_does():
    assert all((attack.__doc__ or "").partition("\n")[0].endswith((".", "?")) for attack in ATTACKS)


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="no such attack") as error:
        choose_attacks(["blackmail"])
    assert "isolate_counts" in str(error.value)


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["fedge", "bench", "attacks", *arguments])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return stop.value.code or 0


def test_the_command_prints_one_document_and_its_progress_apart(monkeypatch, capsys):
    assert run(monkeypatch, "--only", "drain_then_sum", "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    (entry,) = document["results"]
    assert entry["attack"] == "drain_then_sum" and entry["held"] is True and entry["leaked"] == 0.0
    assert {"unit", "note"} <= entry.keys() and document["seed"] == 1
    assert "drain_then_sum" in err


def test_the_command_refuses_an_unknown_attack_in_one_line(monkeypatch, capsys):
    assert run(monkeypatch, "--only", "blackmail") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "blackmail" in error
