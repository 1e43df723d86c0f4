"""Plays the replacement of a fleet's model: a new base release in the middle of a run. `model_replaced` tells what came out.

The rounds before it are played once, what comes after them three times: with the old model kept, and with a new encoder
(another seed, half as many dimensions again) whose head is empty, or has learned the server's own part. The new base is
published and promoted at midnight, without a certificate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aggregator.workbench.device_model import build_device_model
from aggregator.workbench.training_config import recipe_for
from edge_client.store import restore
from fedge.costs.ledger import Kind
from fedge.randomness import derive, root_seed
from sim import checkpoint as checkpoints
from sim.scenarios.own_runs import OwnRuns

WIDER = 1.5
KEPT = "old model kept"
CASES = ((KEPT, None), ("new base, empty head", False), ("new base, warm start", True))
Round = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What stood on all devices' disks, and in the aggregator's state, on the evening before: ``pairs`` and ``disagreed`` of
    the running bound; ``fallback_rate`` of the test queries.
    """

    round: int
    labelled: int
    probes: int
    pairs: int
    disagreed: int
    fallback_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way on: the summary's rounds from the day of the replacement on."""

    name: str
    rounds: tuple[Round, ...]

    @property
    def blind_days(self) -> int:
        """Days on which nothing is answered locally."""
        return sum(entry["stream"]["local"] == 0 for entry in self.rounds)

    @property
    def asked(self) -> int:
        """Answers of central, probes among them."""
        return sum(entry["stream"]["escalated"] + entry["stream"]["probes"] for entry in self.rounds)

    def used(self, *kinds: Kind) -> float:
        """Quantity of these kinds over all rounds."""
        return float(sum(entry["quantities"].get(kind.value, 0.0) for entry in self.rounds for kind in kinds))

    def first(self, holds: Sequence[bool]) -> int | None:
        """Rounds until something holds at a round's end; None where it never does."""
        return next((index for index, one in enumerate(holds, start=1) if one), None)

    @property
    def certified_after(self) -> int | None:
        """Rounds until the fleet's answers are certified again."""
        return self.first([entry["certificate"] == "certified" for entry in self.rounds])

    def back_after(self, fallback_rate: float) -> int | None:
        """Rounds until no more falls back than before."""
        return self.first([entry["fallback_rate"] <= fallback_rate for entry in self.rounds])


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """All of it; the first case is the model that is kept."""

    before: Before
    cases: tuple[Case, ...]


def play_model_replaced(runs: OwnRuns) -> Replaced:
    """Play the rounds before the replacement once and every way on from them."""
    workload, config = runs.preparation.workload, runs.config
    day = config.rounds // 2 + 1
    first = runs.play(f"A model is replaced: rounds 1 to {day - 1} before it", name="before", rounds=day - 1)
    before = _before(runs, first["rounds"][-1])
    width = round(WIDER * recipe_for(workload.features).dimensions)
    seed = derive(root_seed(config.seed), "scenarios", "new base")
    cases = []
    for name, warm in CASES:
        model = None if warm is None else build_device_model(workload, seed, warm_start=warm, dimensions=width)
        summary = runs.play(
            f"A model is replaced, {name}: rounds {day} to {config.rounds}",
            name=name,
            rounds=config.rounds,
            model=model,
            after="before",
            new_base=model is not None,
        )
        cases.append(Case(name=name, rounds=tuple(summary["rounds"][day - 1 :])))
    return Replaced(before=before, cases=tuple(cases))


def _before(runs: OwnRuns, last: Round) -> Before:
    stored = checkpoints.load(runs.folder("before"))
    assert stored is not None  # the run has just left it
    stores = [restore(device) for device in stored.devices]
    counted = [(len(store.memory), len(store.probes)) for store in stores]
    for store in stores:
        store.close()
    return Before(
        round=last["round"],
        labelled=sum(labelled for labelled, _ in counted),
        probes=sum(probes for _, probes in counted),
        pairs=last["probes"]["local"],
        disagreed=last["probes"]["disagreed"],
        fallback_rate=last["fallback_rate"],
    )
