"""All attacks by name, and the loop that plays them."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.attacks.aborts import blameless_abort
from benchmarks.attacks.counting import drain_then_sum, isolate_counts, isolate_health, lonely_window, twin_release
from benchmarks.attacks.poisoning import forge_counts, poison_update, within_bounds
from benchmarks.attacks.reconstruction import exfiltrating_release, fishing_head
from benchmarks.attacks.resources import fill_gateway, starve_central
from benchmarks.attacks.result import AttackResult
from benchmarks.attacks.totals import roster_totals
from benchmarks.attacks.updates import idle_cohort, update_repetition
from fedge.errors import InputError


class Attack(Protocol):
    """Plays one attack. The first line of its docstring says what the attacker does."""

    __name__: str

    def __call__(self, *, seed: int) -> AttackResult:
        """Play it on a fleet made from ``seed``."""


QUICK: tuple[Attack, ...] = (
    isolate_counts,
    isolate_health,
    twin_release,
    drain_then_sum,
    lonely_window,
    idle_cohort,
    blameless_abort,
)
"""Some seconds each, and all of them held: CI plays these."""
ATTACKS: tuple[Attack, ...] = (
    *QUICK,
    roster_totals,
    update_repetition,
    exfiltrating_release,
    fishing_head,
    poison_update,
    within_bounds,
    forge_counts,
    starve_central,
    fill_gateway,
)


def choose_attacks(only: Sequence[str]) -> list[Attack]:
    """Return the attacks with these names, or all of them for none. Raises InputError for a name that is unknown."""
    by_name = {attack.__name__: attack for attack in ATTACKS}
    if unknown := [name for name in only if name not in by_name]:
        raise InputError(f"--only {unknown[0]}: no such attack, choose of {', '.join(by_name)}")
    return [by_name[name] for name in by_name if not only or name in only]


def play(attacks: Sequence[Attack], *, seed: int, stage: Callable[[str], None]) -> list[AttackResult]:
    """Play the attacks one after the other, and tell ``stage`` which one is at work and how it ended."""
    logging.getLogger("edge_client").addHandler(logging.NullHandler())  # devices that refuse say so, each of them
    results = []
    for number, attack in enumerate(attacks, start=1):
        what = (attack.__doc__ or "").partition("\n")[0]
        stage(f"{number} of {len(attacks)}: {attack.__name__}. {what}")
        started = time.perf_counter()
        result = attack(seed=seed)
        results.append(result)
        stage(f"   {describe(result)} ({time.perf_counter() - started:.0f} s)")
    return results


def describe(result: AttackResult) -> str:
    """Say in a few words how an attack ended."""
    return f"{'held' if result.held else 'NOT HELD'}: {result.measure} {result.value:.3g} ({result.unit})"
