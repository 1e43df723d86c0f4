"""Attacks by one device of 30 on the model that everybody gets, and on what its certificate says.

The device is hostile from the first round on, when nothing is known of honest rounds yet. Damage is measured against
the same run with all devices honest. Positive control: on version 1 of the protocol, which added up whatever came, the
worst update within the encoding kept the device's accuracy at chance, and invented probes had such a model certified
(docs/security.md, "Attacks, played").
"""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.attacks.hostile_aggregator import Silent, prepared
from benchmarks.attacks.result import AttackResult
from sim.config import SimulationConfig
from sim.run import simulate

DEVICES = 30
ROUNDS = 6
FORGERS = ("forge_counts", "label_swap+forge_counts", "label_swap+shade_counts")
TOLERATED_POINTS = 2.0
"""How far one hostile device may pull the device's accuracy below the honest run's at the end."""


def poison_update(*, seed: int) -> AttackResult:
    """Send the honest update with its sign turned round, or as large as the encoding allows: the worse of the two."""
    return _damage("poison_update", ("sign_flip", "scale"), seed=seed)


def within_bounds(*, seed: int) -> AttackResult:
    """Send the worst update that passes every check, or one that exchanges two labels: the worse of the two."""
    return _damage("within_bounds", ("within_bounds", "label_swap"), seed=seed)


def forge_counts(*, seed: int) -> AttackResult:
    """Invent agreeing probes, with a spoiled model and with a sound one, so that what is wrong gets a certificate."""
    notes, false = [], 0
    for kind in FORGERS:
        rounds = _rounds({kind: 1}, seed)
        found = [entry["round"] for entry in rounds if _falsely_certified(entry)]
        false += len(found)
        certified = sum(entry["certificate"] == "certified" for entry in rounds)
        escalated = rounds[-1]["fallback_rate"]
        notes.append(f"{kind}: certified {certified}, falsely {len(found)}, {escalated:.0%} escalated at the end")
    unit = f"falsely certified rounds of {len(FORGERS) * ROUNDS}"
    return AttackResult("forge_counts", false == 0, "damage", float(false), unit, "; ".join(notes))


def _damage(attack: str, kinds: tuple[str, ...], *, seed: int) -> AttackResult:
    """Play each kind against the honest run; the damage is the worst loss of the device's accuracy, in points."""
    honest = _accuracy(_rounds({}, seed))
    lost = {kind: 100.0 * (honest - _accuracy(_rounds({kind: 1}, seed))) for kind in kinds}
    worst = max(lost.values())
    told = ", ".join(f"{kind} {points:+.1f}" for kind, points in lost.items())
    note = f"one of {DEVICES} devices over {ROUNDS} rounds, honest run {honest:.1%}; points lost: {told}"
    return AttackResult(attack, worst <= TOLERATED_POINTS, "damage", max(worst, 0.0), "points of device accuracy", note)


def _accuracy(rounds: list[dict[str, Any]]) -> float:
    return float(rounds[-1]["accuracy"]["device"])


def _falsely_certified(entry: dict[str, Any]) -> bool:
    """Tell whether a round's certificate promises what questions that no one trained on contradict."""
    risk = entry["local_disagreement"]
    return entry["certificate"] == "certified" and risk is not None and risk > SimulationConfig().max_risk


def _rounds(hostile: dict[str, int], seed: int) -> list[dict[str, Any]]:
    return list(_played(tuple(sorted(hostile.items())), seed))


@lru_cache(maxsize=16)
def _played(hostile: tuple[tuple[str, int], ...], seed: int) -> tuple[dict[str, Any], ...]:
    """Play a run with these hostile devices and return its rounds."""
    with tempfile.TemporaryDirectory(prefix="fedge-attack-") as folder:
        config = SimulationConfig(devices=DEVICES, rounds=ROUNDS, seed=seed, out=Path(folder), hostile=dict(hostile))
        summary = simulate(config.checked(), observer=Silent(), preparation=prepared(seed, DEVICES))
    return tuple(summary["rounds"])
