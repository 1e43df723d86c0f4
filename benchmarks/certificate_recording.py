"""What the coverage experiment resamples: a population of queries with every release's answers to it, from a real run.

A simulated fleet learns for some rounds (`sim.run`, sums unmasked). Each round's release, an int8 model as devices run it,
answers the third of the data that no one trains on; central answers it once. These columns are the whole population: any
threshold's true risk on it is a sum. Nothing here draws a stream or issues a certificate.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.routing import DEFAULT_GRID

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """R releases and n queries. ``confidence`` float64 [R, n], ``disagreed`` bool [R, n] (with central), ``eligible`` bool
    [R, n] (some threshold would keep it local), ``topic`` int64 [n] (-1: out of scope). ``oos_share``: of natural traffic.
    """

    workload: str
    confidence: NDArray[np.float64]
    disagreed: NDArray[np.bool_]
    eligible: NDArray[np.bool_]
    topic: NDArray[np.int64]
    oos_share: float

    def __post_init__(self) -> None:
        releases, queries = self.confidence.shape
        shapes = {self.disagreed.shape, self.eligible.shape}
        if shapes != {(releases, queries)} or self.topic.shape != (queries,) or not self.confidence.size:
            raise InputError(f"a recording's columns have other shapes than {releases} x {queries}, or none: record it anew")

    @property
    def queries(self) -> int:
        """How many there are."""
        return int(self.confidence.shape[1])

    def release(self, round_number: int) -> int:
        """The row of the release that round ``round_number`` (from 1) publishes; the last one stays."""
        return min(round_number, len(self.confidence)) - 1

    def local(self, release: int, threshold: float | None) -> NDArray[np.bool_]:
        """bool [n]: what that release answers on the device at ``threshold``."""
        if threshold is None:
            return np.zeros(self.queries, dtype=bool)
        return np.asarray(self.eligible[release] & (self.confidence[release] >= threshold))

    def save(self, path: Path) -> None:
        """Write it as ``.npz``: arrays only, no pickle."""
        arrays: dict[str, Any] = {
            "format": np.array(FORMAT),
            "workload": np.array(self.workload),
            "oos_share": np.array(self.oos_share),
        }
        for name in ("confidence", "disagreed", "eligible", "topic"):
            arrays[name] = getattr(self, name)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Read what `save` wrote. Raises InputError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if int(arrays["format"]) != FORMAT:
                    raise InputError(f"{path} is of another format than {FORMAT}: record it anew")
                return cls(
                    workload=str(arrays["workload"]),
                    confidence=arrays["confidence"].astype(np.float64),
                    disagreed=arrays["disagreed"].astype(bool),
                    eligible=arrays["eligible"].astype(bool),
                    topic=arrays["topic"].astype(np.int64),
                    oos_share=float(arrays["oos_share"]),
                )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} cannot be read as a recording ({error}): record it anew") from None


def record(workload: str, *, devices: int, rounds: int, seed: int, stage: Callable[[str], None]) -> Recording:
    """Play a run and keep every release's answers to the test third."""
    from sim.config import SimulationConfig
    from sim.measure import TestAnswers
    from sim.preparation import prepare
    from sim.run import simulate

    answers: list[TestAnswers] = []
    with tempfile.TemporaryDirectory(prefix="fedge-recording-") as folder:
        config = SimulationConfig(
            workload=workload, devices=devices, rounds=rounds, seed=seed, secagg=False, out=Path(folder)
        ).checked()
        prepared = prepare(config, stage=stage)
        simulate(config, observer=_Observer(stage), preparation=prepared, watch=lambda _, said: answers.append(said))
    measured, own = prepared.workload, np.array([said.own for said in answers])
    in_scope = measured.in_scope(measured.test)
    # Digits have no topics: their classes, which differ as much in how hard they are, take that place.
    groups = measured.test.groups if len(set(measured.test.groups[in_scope].tolist())) > 1 else measured.test.labels
    oos = measured.oos_index
    return Recording(
        workload=workload,
        confidence=np.array([said.sure for said in answers]),
        disagreed=own != prepared.central_test,
        eligible=np.ones(own.shape, dtype=bool) if oos is None else own != oos,
        topic=np.where(in_scope, groups, -1).astype(np.int64),
        oos_share=measured.oos_share,
    )


def flat(risk: float, *, queries: int = 400) -> Recording:
    """A population whose risk is the same, up to rounding, at the one threshold that keeps anything local: for controls."""
    wrong = round(risk * queries)
    return Recording(
        workload=f"flat risk {wrong / queries:g}",
        confidence=np.full((1, queries), DEFAULT_GRID[0]),
        disagreed=(np.arange(queries) < wrong)[None, :],
        eligible=np.ones((1, queries), dtype=bool),
        topic=np.zeros(queries, dtype=np.int64),
        oos_share=0.0,
    )


@dataclass(frozen=True, slots=True)
class _Observer:
    """Passes on what goes on."""

    stage: Callable[[str], None]

    def round_finished(self, entry: dict[str, Any]) -> None:
        """The stage says enough."""
