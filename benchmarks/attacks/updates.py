"""Attacks on sums of updates: one device's update out of a sum over many, or out of many sums.

Positive control: against version 1 of the protocol, where a device without news sent zeros and an update on one release
could be had again and again, both attacks read their victim's update (see docs/security.md, "Attacks, played").
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.hostile_aggregator import DEVICES, HostileAggregator, attack_fleet, cosine
from benchmarks.attacks.result import AttackResult
from edge_client.rounds.contribution import make_update
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

    No second sum is given in a period, so that a pair of sums takes two of them. What remains is stated: the cosine after
    `PAIRS` pairs, on a release that never changes, over cohorts of 16 and 15 devices, with nothing new to learn from.
    """

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names  # more than the fewest that are summed: some keep their update at home
        others = [*names[:5], *names[6:]]
        truth, total, cosines = _update_of(aggregator, names[5]), np.zeros(1), []
        at_once = pairs = 0
        for _ in range(PAIRS):
            one = aggregator.session(names, aggregator.task("update"))
            at_once += aggregator.session(others, aggregator.task("update")).decoded is not None
            aggregator.pass_day()
            other = aggregator.session(others, aggregator.task("update"))
            aggregator.pass_day()
            if one.decoded is not None and other.decoded is not None:
                total, pairs = total + one.decoded.reals - other.decoded.reals, pairs + 1
            cosines.append(cosine(total, truth))
        leaked = cosines[-1]
        note = (
            f"second sums in a period: {at_once}, pairs over two periods: {pairs} of {PAIRS}; "
            f"cosine after 2 periods {cosines[0]:.2f}, "
            f"after {PAIRS} {cosines[PAIRS // 2 - 1]:.2f}, after {2 * PAIRS} {leaked:.2f}"
        )
        return AttackResult("update_repetition", leaked < TOLD_NOTHING, "leaked", leaked, UNIT, note)

    return attack_fleet(attack, seed=seed)


def _update_of(aggregator: HostileAggregator, name: str) -> NDArray[np.float64]:
    """Train as the device does, on what it remembers; only the order of its examples is another."""
    device = aggregator.devices[name]
    update = make_update(device.store, aggregator.loaded(aggregator.release), seed=b"order of examples" * 2)
    return update.reals.astype(np.float64)
