"""Policies in the closed loop: rules weigh in training, limits run by the simulated clock, and both are counted openly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedge.errors import InputError
from sim.config import SimulationConfig
from sim.policy_baseline import FOLDER, simulate_with_baseline
from sim.preparation import Preparation, prepare
from sim.run import simulate

PRICE_USD = 0.00075
RULES = '[labels.3]\nrule = "human"\n[topics.even]\nrule = "always-central"\n'
Play = Callable[..., dict[str, Any]]


class Observer:
    """Interrupts like Ctrl-C at a stage."""

    def __init__(self, stop_at: str) -> None:
        self.stop_at = stop_at

    def stage(self, text: str) -> None:
        if self.stop_at and text.startswith(self.stop_at):
            raise KeyboardInterrupt

    def round_finished(self, entry: dict[str, Any]) -> None:
        """Nothing to do."""


def config(out: Path, **changes: Any) -> SimulationConfig:
    values: dict[str, Any] = {"workload": "digits", "devices": 10, "rounds": 3, "seed": 3, "out": out, **changes}
    return SimulationConfig(**values).checked()


@pytest.fixture(scope="module")
def preparation(tmp_path_factory: pytest.TempPathFactory) -> Preparation:
    return prepare(config(tmp_path_factory.mktemp("preparation")), stage=lambda text: None)


@pytest.fixture(scope="module")
def play(preparation: Preparation, tmp_path_factory: pytest.TempPathFactory) -> Play:
    def play(
        out: Path, policy: str = "", *, how: Any = simulate, resume: bool = False, stop_at: str = "", **changes: Any
    ) -> dict[str, Any]:
        if policy:
            file = out.parent / f"{out.name}.toml"
            file.write_text(policy)
            changes["policy"] = file
        summary: dict[str, Any] = how(
            config(out, **changes), observer=Observer(stop_at), resume=resume, preparation=preparation
        )
        return summary

    return play


@pytest.fixture(scope="module")
def both(play: Play, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """With the rules in training, and beside it the same run without."""
    out = tmp_path_factory.mktemp("both") / "run"
    return out, play(out, RULES, how=simulate_with_baseline)


def test_rules_in_training_are_broken_less_often_than_rules_in_routing_alone(both: tuple[Path, dict[str, Any]]) -> None:
    out, summary = both
    baseline = json.loads((out / FOLDER / "summary.json").read_text())
    assert baseline["parameters"]["constraint"] is False and summary["parameters"]["constraint"] is True
    after, before = (sum(entry["policy"]["violations"] for entry in run["rounds"]) for run in (summary, baseline))
    assert 0 < after < before
    for entry, other in zip(summary["rounds"], baseline["rounds"], strict=True):
        policy = entry["policy"]
        assert policy["violation_rate"] == policy["violations"] / policy["pinned"]
        assert policy["violation_rate_unconstrained"] == other["policy"]["violation_rate"]
        assert policy["stream"]["violation_rate_unconstrained"] == other["policy"]["stream"]["violation_rate"]
        assert policy["pinned"] == other["policy"]["pinned"]
        assert set(policy["by_rule"]) == {"always-central", "human"}
    assert json.loads((out / "summary.json").read_text()) == summary
    assert "policy.violation_rate_unconstrained" in (out / "rounds.csv").read_text().splitlines()[0]
    report = (out / "report.html").read_text()
    assert "Broken rules" in report and "without the rules in training" in report


def test_the_first_round_asks_everything_so_both_runs_begin_alike(both: tuple[Path, dict[str, Any]]) -> None:
    out, summary = both
    baseline = json.loads((out / FOLDER / "summary.json").read_text())
    ours, theirs = (run["rounds"][0]["stream"] for run in (summary, baseline))
    assert ours == theirs
    assert summary["rounds"][0]["weights_sha256"] != baseline["rounds"][0]["weights_sha256"]


def test_plain_sums_give_the_same_weights_and_violations_with_rules_in_training(
    play: Play, both: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    plain = play(tmp_path / "plain", RULES, secagg=False)
    for ours, theirs in zip(plain["rounds"], both[1]["rounds"], strict=True):
        assert ours["weights_sha256"] == theirs["weights_sha256"]
        assert ours["policy"]["violations"] == theirs["policy"]["violations"]


def test_a_weight_of_zero_is_no_constraint(play: Play, both: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    zero = play(tmp_path / "zero", RULES + "[training]\nconstraint_weight = 0\n", secagg=False)
    baseline = json.loads((both[0] / FOLDER / "summary.json").read_text())
    assert [e["weights_sha256"] for e in zero["rounds"]] == [e["weights_sha256"] for e in baseline["rounds"]]


def test_a_comparison_that_was_interrupted_in_its_second_run_resumes_there(
    play: Play, both: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    stop_at = "without the rules in training: round 3: training"
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path / "run", RULES, how=simulate_with_baseline, stop_at=stop_at, secagg=False)
    resumed = play(tmp_path / "run", RULES, how=simulate_with_baseline, resume=True, secagg=False)
    assert [entry["policy"] for entry in resumed["rounds"]] == [entry["policy"] for entry in both[1]["rounds"]]


LIMITS = f"[budget]\ndaily_usd = {6.5 * PRICE_USD!r}\n[rate]\nper_hour = 4\nburst = 5\n"


def test_limits_run_by_the_simulated_clock_and_an_interrupted_run_resumes_under_them(play: Play, tmp_path: Path) -> None:
    whole = play(tmp_path / "whole", LIMITS, secagg=False)
    asked = [entry["stream"]["escalated"] + entry["stream"]["probes"] for entry in whole["rounds"]]
    assert asked == [10 * 5] * 3  # a burst a device and day: between two days the buckets fill
    for entry in whole["rounds"]:
        stream = entry["policy"]["stream"]
        assert stream["rate_limited"] == entry["stream"]["queries"] - 50 and stream["over_budget"] == 0
        assert entry["policy"]["violation_rate"] is None
        paid = entry["usd"].get("escalations", 0.0) + entry["usd"].get("probes", 0.0)
        assert paid == pytest.approx(50 * PRICE_USD)
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path / "broken", LIMITS, stop_at="round 3: training", secagg=False)
    resumed = play(tmp_path / "broken", LIMITS, resume=True, secagg=False)
    assert [e["policy"] for e in resumed["rounds"]] == [e["policy"] for e in whole["rounds"]]
    assert [e["weights_sha256"] for e in resumed["rounds"]] == [e["weights_sha256"] for e in whole["rounds"]]
    assert "more often than the rate" in (tmp_path / "whole" / "report.html").read_text()


def test_a_spent_budget_keeps_queries_home_until_the_next_day(play: Play, tmp_path: Path) -> None:
    summary = play(tmp_path / "run", f"[budget]\ndaily_usd = {6.5 * PRICE_USD!r}\n", rounds=2, secagg=False)
    for entry in summary["rounds"]:
        assert entry["stream"]["escalated"] + entry["stream"]["probes"] == 10 * 6
        assert entry["policy"]["stream"]["over_budget"] == entry["stream"]["queries"] - 60
        assert entry["probes"]["local"] == 0  # no threshold: nothing that stayed home for want of money is counted


@pytest.mark.parametrize("policy", ["", "error_price_usd = 0.1", RULES + "[training]\nconstraint_weight = 0\n"])
def test_a_comparison_that_compares_nothing_is_refused(play: Play, tmp_path: Path, policy: str) -> None:
    with pytest.raises(InputError, match="--policy-baseline compares"):
        play(tmp_path / "run", policy, how=simulate_with_baseline)
    assert not (tmp_path / "run").exists()


def test_no_constraint_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--no-constraint"):
        config(tmp_path, constraint=False)
