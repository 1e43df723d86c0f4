"""Does the certificate keep its word? Many streams of real answers through the real code, judged by the known truth.

A real run is recorded once (`certificate_recording`), its population is drawn from again and again (`certificate_streams`),
and in every round of every stream both statements are held against the truth:

- *release*: a statement called "valid" is broken where the threshold's true risk, on the traffic that its probes came from,
  is above the promised ``max_risk``. Promised for each release at 1 - delta; shares are of all rounds, and of runs that ever
  had one.
- *running*: the bound is broken where the mean risk over the probes it speaks of is above it. Promised for all rounds of a
  run together at 1 - delta: one round is enough to break a run. "really made" judges it by what it stands for: the share
  that disagreed of all queries which the devices really answered.

Two controls have bounds that are wrong on purpose; the experiment is worth something only because it catches them.

    python benchmarks/certificate_coverage.py --workload digits --runs 1000
    python benchmarks/certificate_coverage.py --workload clinc150 --runs 1000 --json > coverage.json
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from aggregator.rounds.certification import certify
from benchmarks.certificate_recording import Recording, flat, record
from benchmarks.certificate_streams import Condition, Issue, Outcome, peeking, stream, unproven
from benchmarks.results import machine
from fedge.routing import clopper_pearson_upper

PROBES = (100, 500, 2_000)
KINDS = (
    Condition(name="devices alike", probes=0),
    Condition(name="skewed", probes=0, skew=0.3),
    Condition(name="skewed, sums with losses", probes=0, skew=0.3, absent=0.2, lost=0.2),
    Condition(name="shifted midway", probes=0, shift_after=0.5),
)
LONG = Condition(name="shifted after the probe rate fell", probes=12_000, shift_after=0.75)
"""Past 4,000 local probes the rate is halved, so that what comes later weighs less in the bound than in the traffic."""
NULL_RISK = 0.05
NULL = Condition(name="control", probes=2_000, rounds=40, max_risk=0.2)
"""Risk is `NULL_RISK` at every threshold, and permitted; only a bound that is too low can be wrong."""


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``of``, with its 95 % Clopper-Pearson interval."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """Exact and two-sided."""
        if not self.of:
            return 0.0, 1.0
        low = 1.0 - clopper_pearson_upper(self.of - self.count, self.of, 0.025)
        return low, clopper_pearson_upper(self.count, self.of, 0.025)

    def to_json(self) -> dict[str, Any]:
        """Ready to print."""
        low, high = self.interval
        share = self.count / self.of if self.of else None
        return {"count": self.count, "of": self.of, "share": share, "interval": [low, high]}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count}/{self.of} ({100 * low:.1f}-{100 * high:.1f} %)" if self.of else "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a condition's runs. Shares of runs, but ``release_broken``: of valid statements, one a round.

    ``certified``: of runs, at the end. ``local_share``: mean at the end; ``bound``: mean of those that have one, at the end.
    """

    workload: str
    condition: Condition
    bound_by: str
    release_broken: Share
    release_ever_broken: Share
    running_broken: Share
    made_above_bound: Share
    certified_wrongly: Share
    threshold: Share
    certified: Share
    local_share: float
    bound: float | None
    made: float | None

    def to_json(self) -> dict[str, Any]:
        """Ready to print."""
        values = {name: value.to_json() if isinstance(value, Share) else value for name, value in _fields(self).items()}
        return {**values, "condition": asdict(self.condition)}


def judge(
    recording: Recording,
    condition: Condition,
    *,
    runs: int,
    seed: int,
    issue: Issue = certify,
    each: Callable[[], object] = lambda: None,
) -> Verdict:
    """Play ``runs`` streams and count broken promises; ``each`` is called after every stream."""
    played: list[list[Outcome]] = []
    for run in range(runs):
        played.append(list(stream(recording, condition, seed=seed + run, issue=issue)))
        each()
    valid = [(one.release_risk or 0.0) > condition.max_risk for run in played for one in run if _valid(one)]
    ends = [run[-1] for run in played if run]
    bounds = [one.statement.running_bound for one in ends if one.statement.running_bound is not None]
    made = [one.made for one in ends if one.made is not None]

    def ever(broken: Callable[[Outcome], bool]) -> Share:
        return Share(sum(any(map(broken, run)) for run in played), runs)

    return Verdict(
        workload=recording.workload,
        condition=condition,
        bound_by=getattr(issue, "__name__", "other"),
        release_broken=Share(sum(valid), len(valid)),
        release_ever_broken=ever(lambda one: _valid(one) and (one.release_risk or 0.0) > condition.max_risk),
        running_broken=ever(lambda one: _above(one.probed_risk, one.statement.running_bound)),
        made_above_bound=ever(lambda one: _above(one.made, one.statement.running_bound)),
        certified_wrongly=ever(
            lambda one: one.statement.state == "certified" and _above(one.probed_risk, condition.max_risk)
        ),
        threshold=Share(sum(one.statement.threshold is not None for one in ends), runs),
        certified=Share(sum(one.statement.state == "certified" for one in ends), runs),
        local_share=sum(one.local_share for one in ends) / runs,
        bound=sum(bounds) / len(bounds) if bounds else None,
        made=sum(made) / len(made) if made else None,
    )


def plan(probes: Sequence[int] = PROBES, *, long: bool = True) -> list[Condition]:
    """All conditions of the experiment."""
    return [replace(kind, probes=count) for kind in KINDS for count in probes] + [LONG] * long


def _valid(one: Outcome) -> bool:
    return one.statement.release_statement == "valid"


def _above(truth: float | None, bound: float | None) -> bool:
    return truth is not None and bound is not None and truth > bound + 1e-12


def _fields(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in Verdict.__dataclass_fields__}


def main() -> None:
    """Record or load, play all conditions and the controls, print a table or JSON."""
    from rich.console import Console
    from rich.progress import track

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="digits", help="digits, clinc150 or home")
    parser.add_argument("--runs", type=int, default=500, help="streams of each condition")
    parser.add_argument("--long-runs", type=int, default=200, help="streams of the long condition")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, help="devices of the recorded run (default: 30 for digits, else 100)")
    parser.add_argument("--rounds", type=int, default=12, help="rounds of the recorded run")
    parser.add_argument("--recording", type=Path, help="file to take the recording from, or to keep it in")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    console = Console(stderr=True)
    recording = _recording(options, stage=lambda text: console.print(f"recording: {text}") if console.is_terminal else None)
    work: list[tuple[Recording, Condition, Issue, int]] = [
        *((recording, condition, certify, options.runs) for condition in plan(long=False)),
        (recording, LONG, certify, min(options.runs, options.long_runs)),
        *((flat(NULL_RISK), NULL, issue, options.runs) for issue in (certify, peeking)),
        (recording, replace(KINDS[0], probes=500), unproven, options.runs),
    ]
    ticks = iter(track(range(sum(runs for *_, runs in work)), "streams", console=console))
    verdicts = [
        judge(population, condition, runs=runs, seed=options.seed, issue=issue, each=lambda: next(ticks, None))
        for population, condition, issue, runs in work
    ]
    if options.json:
        print(json.dumps({"machine": machine(), "seed": options.seed, "verdicts": [one.to_json() for one in verdicts]}))
    else:
        show(verdicts, file=sys.stdout)


def show(verdicts: Sequence[Verdict], *, file: Any) -> None:
    """A table of verdicts."""
    from rich.console import Console
    from rich.table import Table

    names = ("stream", "probes", "bound by", "valid broken", "run ever", "running broken", "made > bound")
    table = Table(box=None, pad_edge=False)
    for name in (*names, "wrongly cert.", "certified", "threshold", "local", "bound", "made"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for one in verdicts:
        broken = (one.release_broken, one.release_ever_broken, one.running_broken)
        table.add_row(
            one.condition.name,
            str(one.condition.probes),
            one.bound_by,
            *map(str, (*broken, one.made_above_bound, one.certified_wrongly)),
            f"{one.certified.count / one.certified.of:.1%}",
            f"{one.threshold.count / one.threshold.of:.1%}",
            f"{one.local_share:.1%}",
            *("-" if value is None else f"{value:.3f}" for value in (one.bound, one.made)),
        )
    Console(file=file, width=220).print(table)


def _recording(options: argparse.Namespace, *, stage: Callable[[str], None]) -> Recording:
    if options.recording is not None and options.recording.exists():
        return Recording.load(options.recording)
    devices = options.devices or (30 if options.workload == "digits" else 100)
    made = record(options.workload, devices=devices, rounds=options.rounds, seed=options.seed, stage=stage)
    if options.recording is not None:
        made.save(options.recording)
    return made


if __name__ == "__main__":
    main()
