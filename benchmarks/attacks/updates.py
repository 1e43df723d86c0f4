"""Attacks on sums of updates: one device's update out of a sum over many, or out of many sums.

Positive control: against version 1 of the protocol, where a device without news sent zeros and an update on one release
could be had again and again, both attacks read their victim's update (see docs/security.md, "Attacks, played").
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.hostile_aggregator import DEVICES, HostileAggregator, attack_fleet, cosine
from benchmarks.attacks.result import AttackResult
from edge_client.rounds.updates import make_update
from sim.days import Traffic

UNIT = "cosine with the victim's update"
N_MIN = 11
PAIRS = 10
TOLD_NOTHING = 0.2
"""A cosine that the mean of other devices' updates has with one of them, too."""


def idle_cohort(*, seed: int) -> AttackResult:
    """Make a cohort of the victim and of devices that never asked anything, which have no update to give."""

    def alter(number: int, traffic: Traffic) -> Traffic:
        return [queries if device >= N_MIN else [] for device, queries in enumerate(traffic)]

    def attack(aggregator: HostileAggregator) -> AttackResult:
        *idle, victim = aggregator.names[: N_MIN + 1]
        heard = aggregator.session([*idle, victim], aggregator.task("update"))
        read = None if heard.decoded is None else heard.decoded.reals
        leaked = 0.0 if read is None else cosine(read, _update_of(aggregator, victim))
        note = heard.reason or f"a sum over {heard.survivors} devices, {N_MIN} of them idle"
        return AttackResult("idle_cohort", leaked < TOLD_NOTHING, "leaked", leaked, UNIT, note)

    return attack_fleet(attack, seed=seed, devices=2 * DEVICES, alter=alter, rounds=1)


def update_repetition(*, seed: int) -> AttackResult:
    """Sum updates on one release over cohorts with the victim and without it, in period after period, and subtract.

    No second sum is given in a period, so that a pair of sums takes two of them, and no device gives an update twice without
    an example that is new. Two fleets are attacked, on a release that never changes, over cohorts of 16 and 15 devices: one
    in which nobody asks anything any more, and one in which everybody goes on asking. What remains is stated: the cosine
    after `PAIRS` pairs, the larger of both.
    """
    quiet = attack_fleet(lambda aggregator: _repeat(aggregator, aggregator.pass_day), seed=seed)
    busy = attack_fleet(lambda aggregator: _repeat(aggregator, aggregator.live_one_day), seed=seed)
    leaked = max(fleet.cosines[-1] for fleet in (quiet, busy))
    note = f"a quiet fleet: {quiet}; a busy one: {busy}"
    return AttackResult("update_repetition", leaked < TOLD_NOTHING, "leaked", leaked, UNIT, note)


@dataclass(slots=True)
class _Repeated:
    """What became of pairs of sums: ``at_once`` second sums in one period, ``pairs`` over two, the cosine after each."""

    at_once: int = 0
    pairs: int = 0
    cosines: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        after = ", ".join(f"{self.cosines[pairs - 1]:.2f} after {2 * pairs}" for pairs in (1, PAIRS // 2, PAIRS))
        return f"second sums in a period {self.at_once}, pairs over two periods {self.pairs} of {PAIRS}, cosine {after}"


def _repeat(aggregator: HostileAggregator, next_day: Callable[[], None]) -> _Repeated:
    names = aggregator.names  # more than the fewest that are summed: some keep their update at home
    others = [*names[:5], *names[6:]]
    truth, total, seen = _update_of(aggregator, names[5]), np.zeros(1), _Repeated()
    for _ in range(PAIRS):
        one = aggregator.session(names, aggregator.task("update"))
        seen.at_once += aggregator.session(others, aggregator.task("update")).decoded is not None
        next_day()
        other = aggregator.session(others, aggregator.task("update"))
        next_day()
        if one.decoded is not None and other.decoded is not None:
            total, seen.pairs = total + one.decoded.reals - other.decoded.reals, seen.pairs + 1
        seen.cosines.append(cosine(total, truth))
    return seen


def _update_of(aggregator: HostileAggregator, name: str) -> NDArray[np.float64]:
    """Train as the device does, on what it remembers; only the order of its examples is another."""
    device = aggregator.devices[name]
    update = make_update(device.store, aggregator.loaded(aggregator.release), seed=b"order of examples" * 2)
    return update.reals.astype(np.float64)
