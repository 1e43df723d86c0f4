"""Attacks on sums of counters: one device's probe counts, health or usage out of a sum over many.

Positive control: against version 1 of the protocol, whose check-in requests no descriptor bound and whose budgets hung on
release ids, each of these reads its victim's numbers exactly (see docs/security.md, "Attacks, played").
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.hostile_aggregator import CheckIn, Heard, HostileAggregator, attack_fleet
from benchmarks.attacks.result import AttackResult
from edge_client.releases.watch import WatchRules
from edge_client.rounds.probe_counts import probe_counts
from fedge.layouts import CountsLayout, CountSums, HealthLayout, HealthSums
from fedge.release import Release
from fedge.usage import Usage
from protos.fedge.rounds.v1 import rounds_pb2

EVERY_PROBE_IS_OLD = 2**32 - 1
NOBODYS_RELEASE = "f" * 64
UNIT = "share of the victim's numbers read exactly"


def isolate_counts(*, seed: int) -> AttackResult:
    """Ask all devices for their probe counts, but tell only the victim that its probes are new ones."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim = names[7]
        release = aggregator.twin(aggregator.release)
        truth = _counts_of(aggregator, victim, release)
        about = CheckIn(rounds_pb2.PURPOSE_COUNTS, release.release_id, publication=EVERY_PROBE_IS_OLD)
        heard = aggregator.session(names, about, apart={victim: replace(about, publication=0)})
        return _result("isolate_counts", heard, _read_exactly(_new(_sums(heard, release)), truth))

    return attack_fleet(attack, seed=seed)


def twin_release(*, seed: int) -> AttackResult:
    """Sum everyone's histogram under one release, everyone's but the victim's under its twin, and subtract."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim = names[7]
        one, other = aggregator.twin(aggregator.release), aggregator.twin(aggregator.release, 2)
        truth = _counts_of(aggregator, victim, one)
        everyone = aggregator.session(names, CheckIn(rounds_pb2.PURPOSE_COUNTS, one.release_id))
        others = [name for name in names if name != victim]
        rest = aggregator.session(others, CheckIn(rounds_pb2.PURPOSE_COUNTS, other.release_id))
        all_of, all_but = _sums(everyone, one), _sums(rest, other)
        read = None if all_of is None or all_but is None else _all(all_of) - _all(all_but)
        return _result("twin_release", rest, _read_exactly(read, truth))

    return attack_fleet(attack, seed=seed)


def isolate_health(*, seed: int) -> AttackResult:
    """Ask the victim about the release that it runs, and everyone else about one that nobody ever took."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim, release = names[7], aggregator.release.release_id
        about = CheckIn(rounds_pb2.PURPOSE_HEALTH, release, canary_release_id=NOBODYS_RELEASE)
        heard = aggregator.session(names, about, apart={victim: replace(about, canary_release_id=release)})
        stored = aggregator.devices[victim].store.health.get(release)
        truth = np.array([1, 0, stored.answered, stored.errors] if stored is not None else [0] * 4)
        sums = None if heard.decoded is None else HealthLayout().decode(heard.decoded.integers)
        return _result("isolate_health", heard, _read_exactly(None if sums is None else _health(sums), truth))

    return attack_fleet(attack, seed=seed, health_window=WatchRules())


def drain_then_sum(*, seed: int) -> AttackResult:
    """Sum the usage of everyone but the victim, and at once that of everyone: only the victim has something left to say."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim = names[7]
        truth = _answered(aggregator, victim)
        about = CheckIn(rounds_pb2.PURPOSE_USAGE, aggregator.release.release_id)
        aggregator.session([name for name in names if name != victim], about)
        heard = aggregator.session(names, about)
        return _result("drain_then_sum", heard, _read_exactly(_usage(heard), np.array([truth])))

    return attack_fleet(attack, seed=seed)


def lonely_window(*, seed: int) -> AttackResult:
    """Sum everyone's usage, wait until one user asks something, and open the next window at once."""

    def attack(aggregator: HostileAggregator) -> AttackResult:
        names = aggregator.names
        victim = names[7]
        about = CheckIn(rounds_pb2.PURPOSE_USAGE, aggregator.release.release_id)
        aggregator.session(names, about)
        device, before = aggregator.devices[victim], _answered(aggregator, victim)
        device.agent.ask_many([drawn.query for drawn in device.stream.round(50, queries=7)], topics=None)
        truth = np.array([_answered(aggregator, victim) - before])
        heard = aggregator.session(names, about)
        return _result("lonely_window", heard, _read_exactly(_usage(heard), truth))

    return attack_fleet(attack, seed=seed)


def _result(attack: str, heard: Heard, share: float) -> AttackResult:
    told = f"a sum over {heard.survivors} devices" if heard.decoded is not None else f"no sum: {heard.reason}"
    return AttackResult(attack, share == 0.0, "leaked", share, UNIT, told)


def _read_exactly(read: NDArray[np.int64] | None, truth: NDArray[np.int64]) -> float:
    """Return the share of the victim's numbers above 0 that were read as they are."""
    if read is None or not truth.any():
        return 0.0
    told = truth > 0
    if np.count_nonzero(read[~told]) > np.count_nonzero(~told) / 2:
        return 0.0  # a sum over many: a number that agrees does so by chance
    return float((read[told] == truth[told]).mean())


def _sums(heard: Heard, release: Release) -> CountSums | None:
    if heard.decoded is None:
        return None
    return CountsLayout(len(release.manifest.threshold_grid)).decode(heard.decoded.integers)


def _new(sums: CountSums | None) -> NDArray[np.int64] | None:
    return None if sums is None else np.concatenate([sums.new_seen, sums.new_disagreed])


def _all(sums: CountSums) -> NDArray[np.int64]:
    return np.concatenate([sums.seen, sums.disagreed])


def _health(sums: HealthSums) -> NDArray[np.int64]:
    return np.array([sums.taken, sums.rolled_back, sums.answered, sums.errors])


def _usage(heard: Heard) -> NDArray[np.int64] | None:
    """Return how many queries a sum of usage says were answered, int64 [1]."""
    if heard.decoded is None:
        return None
    usage = Usage.decode(heard.decoded.integers)
    return np.array([usage.queries])


def _counts_of(aggregator: HostileAggregator, name: str, release: Release) -> NDArray[np.int64]:
    """Return what the device's own histogram is: its probes by bin, and those that disagreed."""
    device = aggregator.devices[name].agent.device
    counts = probe_counts(
        aggregator.loaded(release),
        aggregator.devices[name].store,
        policy=device.policy,
        publication=0,
        central_price_usd=device.meter.book.central_price_usd,
    )
    return np.concatenate([counts.seen, counts.disagreed])


def _answered(aggregator: HostileAggregator, name: str) -> int:
    """Return how many queries the device ever answered."""
    counters = aggregator.devices[name].store.counters()
    return sum(count for key, count in counters.items() if key.startswith("answered."))
