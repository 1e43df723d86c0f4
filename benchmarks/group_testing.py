"""How many sessions until the devices that spoil sums are found? Monte Carlo over the real draws and the real posterior.

Each period is played as a round plays it: one cohort while nothing is unexplained, else as many as `least_cohort_sizes`
gives, drawn by `order_nodes` from a beacon; every sum's outcome goes to `Suspicion.observe`. Only the protocol's messages
are left out. Hostile devices attack in a sum with a given probability. `framing`: they attack only beside one honest device,
so that it looks guilty. Intervals are 95 %: of means by the normal approximation, of shares by Clopper and Pearson.

    python benchmarks/group_testing.py --runs 200
    python benchmarks/group_testing.py --runs 200 --json > group_testing.json
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from aggregator.rounds.client_selection import COHORT_MAX, N_MIN, cohort_sizes, least_cohort_sizes, order_nodes
from aggregator.rounds.suspicion import FALSE_ALARM, Suspicion, SuspicionPolicy, Verdict
from benchmarks.results import machine
from fedge.randomness import derive, generator, root_seed
from fedge.routing import clopper_pearson_upper

COHORT = 32
PURPOSE = "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A fleet with ``hostile`` devices that attack with probability ``rate``; honest sums look spoiled with ``alarm``."""

    name: str
    devices: int = 30
    hostile: int = 1
    rate: float = 1.0
    alarm: float = 0.0
    framing: bool = False
    verdict: Verdict = Verdict.SUM
    periods: int = 200


CONDITIONS = (
    Condition(name="1 of 30, always"),
    Condition(name="1 of 30, half of the time", rate=0.5),
    Condition(name="1 of 30, one time in five", rate=0.2),
    Condition(name="3 of 30, always", hostile=3),
    Condition(name="3 of 30, half of the time", hostile=3, rate=0.5),
    Condition(name="3 of 30, one time in five", hostile=3, rate=0.2),
    Condition(name="5 of 30, always", hostile=5),
    Condition(name="1 of 20, always (one cohort)", devices=20),
    Condition(name="1 of 12, always (one cohort)", devices=12),
    Condition(name="1 of 100, always", devices=100),
    Condition(name="nobody, false norm alarms at 2 %", hostile=0, alarm=0.02, verdict=Verdict.NORM, periods=100),
    Condition(name="nobody, false norm alarms at 10 %", hostile=0, alarm=0.1, verdict=Verdict.NORM, periods=100),
    Condition(name="1 of 30 frames", framing=True, periods=100),
    Condition(name="2 of 30 frame", hostile=2, framing=True, periods=100),
    Condition(name="3 of 30 frame", hostile=3, framing=True, periods=100),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One simulated fleet. ``found``: the period after which all hostile devices were excluded, None where that never was.

    ``sessions`` and ``spoiled``: sums that were tried and lost up to then. ``false``: honest devices ever excluded.
    ``framed``: the period in which the one that was framed was excluded.
    """

    found: int | None
    sessions: int
    spoiled: int
    false: int
    framed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The runs of one condition. Means are over the runs in which all hostile devices were found."""

    condition: str
    runs: int
    found: int
    periods: float
    periods_interval: float
    periods_p90: float
    sessions: float
    spoiled: float
    false_devices: int
    runs_with_false: int
    runs_with_false_upper: float


def play(condition: Condition, policy: SuspicionPolicy, *, seed: bytes) -> Run:
    """Play periods until all hostile devices are excluded, or the condition's periods are over."""
    names = [f"device-{number:05d}" for number in range(condition.devices)]
    hostile = set(names[: condition.hostile])
    victim = names[-1]
    coins = generator(seed, "coins")
    suspicion, sessions, spoiled = Suspicion(), 0, 0
    false: set[str] = set()
    framed: int | None = None
    for period in range(1, condition.periods + 1):
        suspicion = suspicion.begin(period, policy)
        present = [node for node, name in enumerate(names) if name not in suspicion.excluded]
        ordered = order_nodes(
            present, beacon=derive(seed, "beacon", period), period=period, purpose=PURPOSE, name_of=lambda node: names[node]
        )
        for size in _sizes(suspicion, len(present)):
            cohort, ordered = {names[node] for node in ordered[:size]}, ordered[size:]
            attacks = coins.random(len(hostile & cohort)) < condition.rate
            is_spoiled = bool(attacks.any()) and (not condition.framing or victim in cohort)
            is_spoiled |= bool(coins.random() < condition.alarm)
            sessions, spoiled = sessions + 1, spoiled + is_spoiled
            suspicion = suspicion.observe(
                cohort,
                condition.verdict if is_spoiled else Verdict.CLEAN,
                period=period,
                purpose=PURPOSE,
                policy=policy,
            )
        false |= suspicion.excluded - hostile
        if victim in suspicion.excluded and framed is None:
            framed = period
        if hostile and hostile <= suspicion.excluded:
            return Run(found=period, sessions=sessions, spoiled=spoiled, false=len(false), framed=framed)
    return Run(found=None, sessions=sessions, spoiled=spoiled, false=len(false), framed=framed)


def _sizes(suspicion: Suspicion, devices: int) -> Sequence[int]:
    if suspicion.unexplained():
        return least_cohort_sizes(devices, n_min=N_MIN, cohort=COHORT, limit=COHORT_MAX)
    return cohort_sizes(min(COHORT, devices), limit=COHORT_MAX)


def summarize(condition: Condition, runs: Sequence[Run]) -> Summary:
    """Return means over the runs that found everybody, and what happened to honest devices in all of them."""
    found = [run for run in runs if run.found is not None]
    periods = np.array([run.found for run in found], dtype=np.float64)
    wrong = sum(run.false > 0 for run in runs)
    return Summary(
        condition=condition.name,
        runs=len(runs),
        found=len(found),
        periods=float(periods.mean()) if found else math.nan,
        periods_interval=float(1.96 * periods.std(ddof=1) / math.sqrt(len(found))) if len(found) > 1 else math.nan,
        periods_p90=float(np.percentile(periods, 90)) if found else math.nan,
        sessions=float(np.mean([run.sessions for run in found])) if found else math.nan,
        spoiled=float(np.mean([run.spoiled for run in found or runs])),
        false_devices=sum(run.false for run in runs),
        runs_with_false=wrong,
        runs_with_false_upper=clopper_pearson_upper(wrong, len(runs), 0.025),
    )


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--level", type=float, default=SuspicionPolicy().level)
    parser.add_argument("--only", default="", help="conditions whose name holds this text")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    policy = SuspicionPolicy(level=options.level)
    summaries = []
    for condition in (one for one in CONDITIONS if options.only in one.name):
        seed = derive(root_seed(options.seed), condition.name)
        runs = [play(condition, policy, seed=derive(seed, number)) for number in range(options.runs)]
        summaries.append(summarize(condition, runs))
        if not options.json:
            _show(summaries[-1])
    if options.json:
        assumed = {verdict.value: alarm for verdict, alarm in FALSE_ALARM.items()}
        document = {"machine": machine(), "policy": asdict(policy), "false_alarm": assumed}
        print(json.dumps({**document, "results": [asdict(summary) for summary in summaries]}, indent=1))


def _show(one: Summary) -> None:
    print(
        f"{one.condition:36s} found {one.found}/{one.runs}, periods {one.periods:.1f} +- {one.periods_interval:.1f} "
        f"(90 % within {one.periods_p90:.0f}), sessions {one.sessions:.1f}, spoiled {one.spoiled:.1f}, honest devices "
        f"excluded: {one.false_devices} in {one.runs_with_false} runs (at most {one.runs_with_false_upper:.1%})",
        flush=True,
    )


if __name__ == "__main__":
    main()
