"""Violations before and after: one run with the policy's rules in training, and the same run with them in routing only.

Both share data, models, traffic and seed; they differ in the weight of pinned labels' examples and in what follows from it.
The second one sums its updates unmasked, which gives the same weights in less time, and is kept in ``unconstrained/``.
"""

from dataclasses import replace
from typing import Any

from fedge.errors import InputError
from sim import checkpoint as checkpoints
from sim.config import SimulationConfig
from sim.days import Observer
from sim.preparation import Preparation, prepare
from sim.report import render
from sim.run import read_policy, simulate
from sim.summary import write as write_summary

FOLDER = "unconstrained"


class _Quietly:
    """Passes on what is going on, and no rounds: those on the screen are the first run's."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def stage(self, text: str) -> None:
        """What is going on now."""
        self._observer.stage(f"without the rules in training: {text}")

    def round_finished(self, entry: dict[str, Any]) -> None:
        """Not shown."""


def simulate_with_baseline(
    config: SimulationConfig, *, observer: Observer, resume: bool = False, preparation: Preparation | None = None
) -> dict[str, Any]:
    """Both runs; returns the first one's summary with ``violation_rate_unconstrained`` of each round filled in.

    Raises InputError as `simulate`, and for a policy without rules or weight, which makes both runs the same.
    """
    policy = read_policy(config.policy)
    if not config.constraint or not policy.pins or not policy.constraint_weight:
        raise InputError(
            "--policy-baseline compares a policy's rules in training with none: give --policy FILE with rules and a "
            "training.constraint_weight above 0, without --no-constraint"
        )
    prepared = preparation or prepare(config, stage=observer.stage)
    summary = simulate(config, observer=observer, resume=resume, preparation=prepared)
    other = replace(config, constraint=False, secagg=False, out=config.out / FOLDER)
    begun = resume and checkpoints.load(other.out) is not None
    baseline = simulate(other, observer=_Quietly(observer), resume=begun, preparation=prepared)
    for entry, before in zip(summary["rounds"], baseline["rounds"], strict=True):
        entry["policy"]["violation_rate_unconstrained"] = before["policy"]["violation_rate"]
        entry["policy"]["overreach_unconstrained"] = before["policy"]["overreach"]
        entry["policy"]["stream"]["violation_rate_unconstrained"] = before["policy"]["stream"]["violation_rate"]
    write_summary(config.out, summary)
    (config.out / "report.html").write_text(render(summary), encoding="utf-8")
    return summary
