"""One stream of queries through the real certificate code, with the truth beside every promise.

A stream is a fleet's traffic, drawn with replacement from a recording, so that the true risk of every threshold is known.
The coin is `is_probe`, the counts are `histogram` in `CountsLayout`, cohorts are `split_cohorts`, and each round's
statement is `certify`'s, whose threshold and probe rate the next round's queries meet: nothing of the certificate is written
anew here.

What the sums lack is as in a real round: a device that is away reports its pairs in a later round; a cohort whose session is
aborted after its vectors left has spent them, and they are in no sum ever.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.rounds.certification import CertificatePolicy, certify
from aggregator.rounds.client_selection import COHORT_MAX, order_nodes, split_cohorts
from aggregator.rounds.config import PROBE_CAP, PROBE_EPSILON
from aggregator.rounds.probe_sums import ProbeState, ProbeSums
from benchmarks.certificate_recording import Recording
from fedge.errors import InputError
from fedge.layouts import CountsLayout, CountSums
from fedge.randomness import derive, generator, root_seed
from fedge.routing import (
    DEFAULT_GRID,
    CertificateStatement,
    RunningBound,
    certificate_state,
    clopper_pearson_upper,
    coarse_grid,
    histogram,
    is_probe,
    probe_rate,
)
from fedge.routing.cross_check import ProbeTotals
from fedge.routing.probe_noise import ProbeNoise
from fedge.secagg import threshold as least_survivors

DAY_S = 86_400.0
COHORT = 32
NEW_SHARE = 0.5  # of the traffic after a shift
Issue = Callable[..., tuple[CertificateStatement, RunningBound]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A kind of stream. ``probes``: about how many over all rounds. ``skew``: Dirichlet parameter of each device's topics
    (None: devices are alike). ``shift_after``: share of the rounds after which half of the traffic is of topics that nobody
    asked before and out of scope. ``absent``: chance that a device misses a session, ``lost``: that a cohort's is aborted.
    """

    name: str
    probes: int
    rounds: int = 12
    devices: int = 96
    skew: float | None = None
    shift_after: float | None = None
    absent: float = 0.0
    lost: float = 0.0
    max_risk: float = 0.05
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.skew is not None and self.shift_after is not None:
            raise InputError(f"condition {self.name!r} both skews and shifts: a device might have nothing to ask before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One round's statement and the truth.

    ``release_risk``: of the threshold, on the traffic that its probes came from. ``probed_risk``: mean risk over the probes,
    with their weights, that the running bound speaks of. ``made``: share of all queries answered locally so far that
    really disagreed.
    """

    statement: CertificateStatement
    release_risk: float | None
    probed_risk: float | None
    made: float | None
    local_share: float


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Who asks what. ``topics`` float64 [phase, device, topic]: chances; ``items``: queries of each topic."""

    topics: NDArray[np.float64]
    items: list[NDArray[np.int64]]

    def draw(self, rng: np.random.Generator, phase: int, queries: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(device, item) of each query."""
        device = rng.integers(self.topics.shape[1], size=queries)
        edges = self.topics[phase].cumsum(axis=1)[device]
        topic = (rng.random(queries)[:, None] * edges[:, -1:] >= edges).sum(axis=1)
        sizes, starts, flat = self._flat()
        return device, flat[starts[topic] + (rng.random(queries) * sizes[topic]).astype(np.int64)]

    def weights(self, phase: int, queries: int) -> NDArray[np.float64]:
        """The fleet's chance of each query, float64 [n]."""
        weights, chances = np.zeros(queries), self.topics[phase].mean(axis=0)
        for chance, items in zip(chances, self.items, strict=True):
            weights[items] = chance / len(items)
        return weights

    def _flat(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        sizes = np.array([len(items) for items in self.items])
        return sizes, np.cumsum(sizes) - sizes, np.concatenate(self.items)


@dataclass(slots=True, eq=False)
class _Probes:
    """What the devices remember of their probes, one entry each."""

    device: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    item: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    phase: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    disagreed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    local: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    fresh: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    risk: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    weight: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    summed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def add(self, **columns: NDArray[np.generic]) -> None:
        for name, values in columns.items():
            setattr(self, name, np.concatenate([getattr(self, name), values]))

    def mean_risk(self) -> float | None:
        """Mean risk, with their weights, of the probes whose pairs were summed."""
        risk, weight = self.risk[self.summed], self.weight[self.summed]
        return float((risk * weight).sum() / weight.sum()) if len(risk) else None


def stream(recording: Recording, condition: Condition, *, seed: int, issue: Issue = certify) -> Iterator[Outcome]:
    """The rounds of one stream. ``issue`` other than `certify` is for controls."""
    root = derive(root_seed(seed), "stream", condition.name, condition.probes)
    rng = generator(root, "draws")
    fleet = traffic(recording, condition, rng)
    weights = [fleet.weights(phase, recording.queries) for phase in range(len(fleet.topics))]
    keys = [derive(root, "probe key", device) for device in range(condition.devices)]
    policy = CertificatePolicy(
        max_risk=condition.max_risk, confidence=condition.confidence, lifetime_s=7 * DAY_S, grid=DEFAULT_GRID
    )
    probes, running, state = _Probes(), RunningBound(), ProbeState()
    live, threshold, rate = recording.release(1), None, probe_rate(0, threshold_published=False)
    local = disagreed = asked = 0
    for number in range(1, condition.rounds + 1):
        phase = int(condition.shift_after is not None and number > condition.shift_after * condition.rounds)
        queries = max(1, round(condition.probes / condition.rounds / rate))
        device, item = fleet.draw(rng, phase, queries)
        contents = [(asked + i).to_bytes(32, "big") for i in range(queries)]
        asked += queries
        probe = np.array([is_probe(content, keys[who], rate) for content, who in zip(contents, device, strict=True)])
        stays = recording.local(live, threshold)
        answered = item[~probe & stays[item]]
        local, disagreed = local + len(answered), disagreed + int(recording.disagreed[live, answered].sum())
        drawn = item[probe]
        count = np.ones(len(drawn), dtype=np.int64)
        probes.add(
            device=device[probe],
            item=drawn,
            phase=phase * count,
            disagreed=recording.disagreed[live, drawn],
            local=stays[drawn],
            fresh=np.ones(len(drawn), dtype=bool),
            risk=np.full(len(drawn), _risk(recording, live, stays, weights[phase]) or 0.0),
            weight=running.weight * count,
            summed=np.zeros(len(drawn), dtype=bool),
        )
        candidate = recording.release(number)
        fresh = probes.fresh.copy()
        sums, told = _sums(recording, candidate, condition, probes, number, state, rng=rng, seed=root)
        precautions, state = sums.precautions()
        if sums.counts is None:
            continue  # as a real round: what devices have goes on
        seen, wrong = sums.pair()
        statement, running = issue(
            replace(sums.counts, running_seen=seen, running_disagreed=wrong),
            running,
            policy,
            release_id=f"{number:064x}",
            round_number=number,
            now=number * DAY_S,
            precautions=precautions,
        )
        tested = told & (fresh | (statement.release_statement != "valid"))
        live, threshold, rate = candidate, statement.threshold, statement.probe_rate
        keeps = recording.local(live, threshold)
        shares = np.bincount(probes.phase[tested], minlength=len(weights)) / max(1, tested.sum())
        mixed = sum((share * weight for share, weight in zip(shares, weights, strict=True)), np.zeros(recording.queries))
        yield Outcome(
            statement=statement,
            release_risk=_risk(recording, live, keeps, mixed),
            probed_risk=probes.mean_risk(),
            made=disagreed / local if local else None,
            local_share=float(weights[phase][keeps].sum()),
        )


def peeking(
    counts: CountSums, past: RunningBound, policy: CertificatePolicy, **about: Any
) -> tuple[CertificateStatement, RunningBound]:
    """`certify` with a bound that is wrong on purpose: Clopper-Pearson, valid for one look, looked at in every round."""
    statement, running = certify(counts, past, policy, **about)
    bound = clopper_pearson_upper(running.disagreed, running.seen, 1 - policy.confidence) if running.seen else None
    state = certificate_state(statement.threshold, bound, policy.max_risk, statement.cross_checked)
    return replace(statement, running_bound=bound, state=state), running


def unproven(
    counts: CountSums, past: RunningBound, policy: CertificatePolicy, **about: Any
) -> tuple[CertificateStatement, RunningBound]:
    """`certify` that promises more than it has shown: its thresholds are tested against twice the risk."""
    return certify(counts, past, replace(policy, max_risk=2 * policy.max_risk), **about)


def traffic(recording: Recording, condition: Condition, rng: np.random.Generator) -> Traffic:
    """The traffic of a condition; a skewed fleet's mixtures are drawn from ``rng``."""
    names = [int(name) for name in np.unique(recording.topic[recording.topic >= 0])]
    items = [np.flatnonzero(recording.topic == name) for name in names]
    sizes = np.array([len(of_topic) for of_topic in items], dtype=np.float64)
    wrong = np.array([recording.disagreed[-1, of_topic].mean() for of_topic in items])
    if condition.skew is None:
        mixes = np.tile(sizes / sizes.sum(), (condition.devices, 1))
    else:
        mixes = rng.dirichlet(np.full(len(names), condition.skew), size=condition.devices)
    outside = np.flatnonzero(recording.topic < 0)
    oos = recording.oos_share if len(outside) else 0.0
    if len(outside):
        items.append(outside)
        mixes = np.hstack([mixes * (1 - oos), np.full((condition.devices, 1), oos)])
    if condition.shift_after is None:
        return Traffic(mixes[None], items)
    new = np.zeros(len(items))
    hardest = np.argsort(-wrong)[: max(1, len(names) // 3)]
    new[hardest] = 1.0 / len(hardest)
    before = mixes * (new == 0)
    if len(outside):
        new[-1] = 1.0  # as much out of scope as of new topics
    before /= before.sum(axis=1, keepdims=True)
    return Traffic(np.stack([before, (1 - NEW_SHARE) * before + NEW_SHARE * new / new.sum()]), items)


def _sums(
    recording: Recording,
    release: int,
    condition: Condition,
    probes: _Probes,
    number: int,
    state: ProbeState,
    *,
    rng: np.random.Generator,
    seed: bytes,
) -> tuple[ProbeSums, NDArray[np.bool_]]:
    """Return what a round's cohorts sum to, and which probes are in it. Probes that left are not fresh any more.

    Nobody lies, and central's totals are those of the roster: what is deducted is the noise alone.
    """
    noise_seed = rng.bytes(32)
    total = ProbeSums(state, liars=0, cap=PROBE_CAP, epsilon=PROBE_EPSILON, has_source=True)
    told = np.zeros(len(probes.item), dtype=bool)
    away = rng.random(condition.devices) < condition.absent
    count = partial(histogram, grid=DEFAULT_GRID)
    ordered = order_nodes(range(condition.devices), beacon=seed, period=number, purpose="counts")
    for cohort, nodes in enumerate(split_cohorts(ordered, COHORT, limit=COHORT_MAX)):
        there = np.array([node for node in nodes if not away[node]], dtype=np.int64)
        there = there[np.isin(there, probes.device[probes.fresh])]  # a device without a fresh probe stays out
        mine = np.isin(probes.device, there)
        item, pairs, new = probes.item[mine], mine & probes.fresh & probes.local, probes.fresh[mine]
        sure, wrong, may = (of[release, item] for of in (recording.confidence, recording.disagreed, recording.eligible))
        seen, disagreed = histogram(sure, wrong, eligible=may, grid=coarse_grid(DEFAULT_GRID))
        new_seen, new_disagreed = count(sure, wrong, eligible=may & new)
        noise = ProbeNoise(PROBE_EPSILON, least_survivors(max(1, len(there))))
        layout = CountsLayout(len(DEFAULT_GRID), lift=noise.bound)
        shares = sum(
            (noise.sample(derive(noise_seed, cohort, int(node)), 2 * layout.coarse_bins) for node in there),
            np.zeros(2 * layout.coarse_bins, dtype=np.int64),
        )
        lifted = (len(there) - 1) * layout.lift  # by the other devices, whose counts are in the sums already
        integers = layout.encode(
            agreed=seen - disagreed + shares[: layout.coarse_bins] + lifted,
            disagreed=disagreed + shares[layout.coarse_bins :] + lifted,
            new_seen=new_seen,
            new_disagreed=new_disagreed,
            running_seen=int(pairs.sum()),
            running_disagreed=int((pairs & probes.disagreed).sum()),
        )
        answered = int(new.sum())
        probes.fresh = probes.fresh & ~mine
        if not len(there) or rng.random() < condition.lost:
            continue
        sums = layout.decode(integers, devices=len(there))
        pair = sums.running_seen - sums.running_disagreed, sums.running_disagreed
        total.add(sums, ProbeTotals(answered, *pair), roster=len(there), survivors=len(there))
        told |= mine
        probes.summed = probes.summed | pairs
    return total, told


def _risk(recording: Recording, release: int, local: NDArray[np.bool_], weights: NDArray[np.float64]) -> float | None:
    """P(disagrees with central | answered locally) on the fleet's traffic; None where nothing is."""
    kept = weights[local].sum()
    return float(weights[local & recording.disagreed[release]].sum() / kept) if kept > 0 else None
