"""What a run needs before its first round, made from nothing: the workload's data, central's strong model, the device model.

Depends on the workload and the seed alone, so several runs (a benchmark over fleets, say) may share one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.device_model import DeviceModel, build_device_model
from aggregator.workbench.strong import MemoizedModel, train_strong_model
from aggregator.workbench.workloads import Workload, load_workload
from fedge.randomness import derive, root_seed
from sim.config import SimulationConfig


@dataclass(frozen=True, slots=True)
class Preparation:
    """Data and models. ``central_test``: central's answers to the test third, int64 [n]. ``seconds``: wall time by step."""

    workload: Workload
    strong: MemoizedModel
    model: DeviceModel
    central_test: NDArray[np.int64]
    seconds: dict[str, float]


def prepare(config: SimulationConfig, *, stage: Callable[[str], None]) -> Preparation:
    """Load the data, train central's model and the device's encoder on the server's own part."""
    seed = derive(root_seed(config.seed), "preparation")
    seconds: dict[str, float] = {}

    def timed(name: str, started: float) -> None:
        seconds[name] = time.perf_counter() - started

    stage(f"loading {config.workload}")
    started = time.perf_counter()
    workload = load_workload(config.workload, seed=seed, data_file=config.data, devices=config.devices)
    timed("load", started)
    stage("training central's strong model")
    started = time.perf_counter()
    strong = MemoizedModel(train_strong_model(workload, seed, progress=stage))
    central_test = strong.predict(list(workload.test.queries)).argmax(axis=1).astype(np.int64)
    timed("strong_model", started)
    stage("training the device model's encoder")
    started = time.perf_counter()
    model = build_device_model(
        workload,
        seed,
        warm_start=config.warm_start,
        progress=lambda done, of: stage(f"training the device model's encoder: epoch {done} of {of}"),
    )
    timed("device_model", started)
    return Preparation(workload, strong, model, central_test, seconds)
