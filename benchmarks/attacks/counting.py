"""Attacks on sums of counters: one device's probe counts, health or usage out of a sum over many.

Positive control: against version 1 of the protocol, whose check-in requests no descriptor bound and whose budgets hung on
release ids, each of these read its victim's numbers exactly, all of them (see docs/security.md, "Attacks, played").
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.hostile_aggregator import Heard, HostileAggregator, attack_fleet, count_answers
from benchmarks.attacks.result import AttackResult
from edge_client.releases.health_window import WatchRules
from edge_client.rounds.budget import DEFAULT_BUDGET
from edge_client.rounds.updates import ProbeCounts, count_probes
from fedge.layouts import CountSums, HealthLayout
from fedge.release import Release
from fedge.routing.grid import coarse_indices
from fedge.usage import Usage

NOBODYS_RELEASE = "f" * 64
UNIT = "share of the victim's numbers read exactly"
VICTIM = 7
Numbers = NDArray[np.int64]


def isolate_counts(*, seed: int) -> AttackResult:
    """Ask the victim for its probe counts and everyone else for something else, under one descriptor."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim, others = _victim_of(names)
        release, twin = aggregator.release, aggregator.twin(aggregator.release)
        truth = _new(_counts_of(aggregator, victim, release))
        wanted = aggregator.task("counts", release)
        read: list[Numbers | None] = []
        for instead in (
            aggregator.task("counts", twin),
            aggregator.task("counts", release, periods_ahead=1),
            replace(wanted, probe_cap=1),
            aggregator.task("usage"),
        ):
            heard = aggregator.session(names, wanted, apart=dict.fromkeys(others, instead))
            read.append(_new(_sums(aggregator, heard)))
        return _result("isolate_counts", heard, max(_read_exactly(each, truth) for each in read))

    return attack_fleet(attack, seed=seed)


def twin_release(*, seed: int) -> AttackResult:
    """Sum everyone's histogram under one release, everyone's but the victim's under its twin, and subtract.

    Once more on the next day, when the others have new probes, which are summed exactly and so can be taken away again: then
    only the noise that devices add is left between the aggregator and the victim's histogram.
    """

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim, others = _victim_of(names)
        one, other = aggregator.twin(aggregator.release), aggregator.twin(aggregator.release, 2)
        truth = _counts_of(aggregator, victim, one)
        everyone = _sums(aggregator, aggregator.session(names, aggregator.task("counts", one)))
        heard = aggregator.session(others, aggregator.task("counts", other))
        at_once = _read_exactly(_difference(_new(everyone), _new(_sums(aggregator, heard))), _new(truth))
        aggregator.live_one_day()
        rest = _sums(aggregator, aggregator.session(others, aggregator.task("counts", other)))
        read = _difference(_old(everyone, without_new=False), _old(rest, without_new=True))
        next_day = 0.0 if read is None else _read_exactly(read, _old(truth, without_new=False))
        result = _result("twin_release", heard, at_once)
        note = f"{result.note}; on the next day noise leaves {next_day:.0%} of the coarse histogram's bins as they are"
        return replace(result, note=note)

    return attack_fleet(attack, seed=seed)


def isolate_health(*, seed: int) -> AttackResult:
    """Ask the victim about the release that it runs, and everyone else about one that nobody ever took."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim, others = _victim_of(names)
        running = aggregator.release.release_id
        nobodys = aggregator.task("health", canary=NOBODYS_RELEASE)
        heard = aggregator.session(
            names, aggregator.task("health", canary=running), apart=dict.fromkeys(others, nobodys)
        )
        stored = aggregator.devices[victim].store.health.get(running)
        truth = np.array([1, 0, stored.answered, stored.errors] if stored is not None else [0] * 4)
        read = None
        if heard.decoded is not None:
            sums = HealthLayout().decode(heard.decoded.integers)
            read = np.array([sums.taken, sums.rolled_back, sums.answered, sums.errors])
        return _result("isolate_health", heard, _read_exactly(read, truth))

    return attack_fleet(attack, seed=seed, health_window=WatchRules())


def drain_then_sum(*, seed: int) -> AttackResult:
    """Sum the usage of everyone but the victim, then that of everyone: only the victim has something left to say."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim, others = _victim_of(names)
        truth = np.array([count_answers(aggregator.devices[victim])])
        aggregator.session(others, aggregator.task("usage"))
        at_once = aggregator.session(names, aggregator.task("usage"))
        aggregator.pass_day()
        next_day = aggregator.session(names, aggregator.task("usage"))
        share = max(_read_exactly(_usage(heard), truth) for heard in (at_once, next_day))
        return _result("drain_then_sum", next_day, share)

    return attack_fleet(attack, seed=seed)


def lonely_window(*, seed: int) -> AttackResult:
    """Sum everyone's usage, wait until one user alone asks something, and open the next window at once and a day later."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim, _ = _victim_of(names)
        aggregator.session(names, aggregator.task("usage"))
        truth = np.array([aggregator.ask(victim, 7)])
        tries = [aggregator.session(names, aggregator.task("usage", periods_ahead=ahead)) for ahead in (0, 1)]
        aggregator.pass_day()
        tries.append(aggregator.session(names, aggregator.task("usage")))
        share = max(_read_exactly(_usage(heard), truth) for heard in tries)
        return _result("lonely_window", tries[-1], share)

    return attack_fleet(attack, seed=seed)


def _victim_of(names: list[str]) -> tuple[str, list[str]]:
    """Return the victim and everyone else."""
    return names[VICTIM], [*names[:VICTIM], *names[VICTIM + 1 :]]


def _result(attack: str, heard: Heard, share: float) -> AttackResult:
    told = f"a sum over {heard.survivors} devices" if heard.decoded is not None else f"no sum: {heard.reason}"
    return AttackResult(attack, share == 0.0, "leaked", share, UNIT, told)


def _read_exactly(read: Numbers | None, truth: Numbers | None) -> float:
    """Return the share of the victim's numbers above 0 that were read as they are."""
    if read is None or truth is None or not truth.any():
        return 0.0
    told = truth > 0
    if np.count_nonzero(read[~told]) > np.count_nonzero(~told) / 2:
        return 0.0  # a sum over many: a number that agrees does so by chance
    return float((read[told] == truth[told]).mean())


def _sums(aggregator: HostileAggregator, heard: Heard) -> CountSums | None:
    if heard.decoded is None:
        return None
    return aggregator.run.settings.counts_layout.decode(heard.decoded.integers, devices=heard.survivors)


def _counts_of(aggregator: HostileAggregator, name: str, release: Release) -> ProbeCounts:
    """Return what the device itself would count under ``release`` now, without noise."""
    device = aggregator.devices[name].agent.device
    selection = aggregator.devices[name].store.probes.select(
        fresh=aggregator.run.settings.probe_cap, max_scored=DEFAULT_BUDGET.max_rescores
    )
    return count_probes(
        aggregator.loaded(release),
        selection,
        policy=device.policy,
        central_price_usd=device.meter.book.central_price_usd,
    )


def _new(sums: CountSums | ProbeCounts | None) -> Numbers | None:
    """Return the new probes by bin, and those that disagreed."""
    return None if sums is None else np.concatenate([sums.new_seen, sums.new_disagreed])


def _old(sums: CountSums | ProbeCounts | None, *, without_new: bool) -> Numbers | None:
    """Return all probes by coarse bin, and those that disagreed; ``without_new``: less those that are new."""
    if sums is None:
        return None
    seen, disagreed = sums.seen, sums.disagreed
    if without_new:
        starts = list(coarse_indices(len(sums.new_seen)))
        seen, disagreed = (
            seen - np.add.reduceat(sums.new_seen, starts),
            disagreed - np.add.reduceat(sums.new_disagreed, starts),
        )
    return np.concatenate([seen, disagreed])


def _difference(one: Numbers | None, other: Numbers | None) -> Numbers | None:
    return None if one is None or other is None else one - other


def _usage(heard: Heard) -> Numbers | None:
    """Return how many queries a sum of usage says were answered, int64 [1]."""
    return None if heard.decoded is None else np.array([Usage.decode(heard.decoded.integers).queries])
