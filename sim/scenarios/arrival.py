"""Plays a new intent: withheld until a day, then asked at one device, or at every one. `new_intent` tells what came out.

Queries of one class are taken out of every device's traffic until that day, and out of the part of the data that the
device's encoder is trained on. Central's model knows the class from the start, since someone must. From the day on, the
device that asks it most on that day does so as it would have anyway; what others would have asked stays out or comes too.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.device_model import build_device_model
from aggregator.workbench.workloads import Drawn
from fedge.randomness import derive, root_seed
from sim.days import Traffic
from sim.measure import TestAnswers
from sim.record import RunRecord
from sim.scenarios.own_runs import OwnRuns

HALF = 0.5
EVERYWHERE_DAYS = 14
"""Days that suffice, at most, to compare with an intent that every device asks."""


@dataclass(slots=True)
class Arrival:
    """What is asked: an `Alter` that lets class ``intent`` through from round ``day`` on, at one device or ``everywhere``.

    ``device`` is found on the way; ``asked``: queries of the class by round.
    """

    intent: int
    day: int
    everywhere: bool = False
    device: int | None = None
    asked: dict[int, int] = field(default_factory=dict)

    def __call__(self, round_number: int, traffic: Traffic) -> Traffic:
        """The round's traffic without what is withheld."""
        counts = [sum(one.label == self.intent for one in queries) for queries in traffic]
        if round_number >= self.day and self.device is None and any(counts):
            self.device = int(np.argmax(counts))
        passing = [
            queries if self._passes(number, round_number) else [one for one in queries if not self._withheld(one)]
            for number, queries in enumerate(traffic)
        ]
        self.asked[round_number] = sum(self._withheld(one) for queries in passing for one in queries)
        return passing

    def _passes(self, device: int, round_number: int) -> bool:
        return round_number >= self.day and (self.everywhere or device == self.device)

    def _withheld(self, one: Drawn) -> bool:
        return one.label == self.intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """One case. One value a day from the day before the intent appears: queries ``asked`` of it, and shares of its test
    queries (those in the first device's handwriting left out) that the others answer ``right`` or ``wrong`` themselves.
    """

    name: str
    asked: tuple[int, ...]
    right: tuple[float, ...]
    wrong: tuple[float, ...]

    @property
    def days(self) -> int | None:
        """Days of asking after which the fleet answers half of them rightly by itself, and does to the end; None where it
        does not.
        """
        below = [day for day, share in enumerate(self.right) if share < HALF]
        first = max(1, below[-1] + 1) if below else 1
        return first if first < len(self.right) else None


def middle_class(record: RunRecord) -> int:
    """The class in scope that lies in the middle by how often the recorded run asked it."""
    classes = np.array([i for i in range(len(record.labels)) if i != record.oos_index])
    order = classes[np.argsort(record.asked[classes], kind="stable")]
    return int(order[len(order) // 2])


def shares(
    answers: TestAnswers, truth: NDArray[np.int64], owner: NDArray[np.int64], *, intent: int, device: int | None
) -> tuple[float, float]:
    """Of the intent's test queries that are not in ``device``'s handwriting: answered locally and right, and wrong."""
    mine = (truth == intent) & (owner != (-2 if device is None else device))
    if not mine.any():
        return 0.0, 0.0
    right = answers.own == truth
    return float((answers.local & right)[mine].mean()), float((answers.local & ~right)[mine].mean())


def play_new_intent(record: RunRecord, runs: OwnRuns, *, days: int) -> list[Learned]:
    """Play both cases: the rounds before the intent appears once, then ``days`` with it at one device, and at most
    EVERYWHERE_DAYS with it at every one.
    """
    workload, intent = runs.preparation.workload, middle_class(record)
    day = runs.config.rounds // 2 + 1
    server = workload.server.take(np.flatnonzero(workload.server.labels != intent).astype(np.int64))
    seed = derive(root_seed(runs.config.seed), "scenarios", "new intent")
    model = build_device_model(replace(workload, server=server), seed, warm_start=runs.config.warm_start)
    truth, owner = workload.test.labels, workload.test_device
    before: list[tuple[float, float]] = []

    def play(title: str, arrival: Arrival, rounds: int, measured: list[tuple[float, float]], after: str | None) -> None:
        def watch(round_number: int, answers: TestAnswers) -> None:
            if round_number >= day - 1:
                measured.append(shares(answers, truth, owner, intent=intent, device=arrival.device))

        runs.play(
            f"A new intent, {title}",
            name="the intent is unknown" if after is None else title,
            rounds=rounds,
            model=model,
            after=after,
            alter=arrival,
            watch=watch,
        )

    play(f"withheld: rounds 1 to {day - 1}", Arrival(intent, day), day - 1, before, None)
    found = []
    for name, everywhere in (("asked at one device", False), ("asked at every device", True)):
        last = day - 1 + (min(days, EVERYWHERE_DAYS) if everywhere else days)
        arrival, measured = Arrival(intent, day, everywhere), list(before)
        play(f"{name}: rounds {day} to {last}", arrival, last, measured, "the intent is unknown")
        found.append(
            Learned(
                name=name,
                asked=(0, *(arrival.asked[number] for number in range(day, last + 1))),
                right=tuple(right for right, _ in measured),
                wrong=tuple(wrong for _, wrong in measured),
            )
        )
    return found
