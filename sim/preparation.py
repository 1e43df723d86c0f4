"""What a run needs before its first round: data and models as a server prepares them, and central's answers that measure.

Depends on the workload and the seed alone, so several runs (a benchmark over fleets, say) may share one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.device_model import DeviceModel
from aggregator.workbench.preparation import prepare_models
from aggregator.workbench.strong import MemoizedModel
from aggregator.workbench.workloads import Workload
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
    prepared = prepare_models(
        config.workload,
        seed=config.seed,
        data=config.data,
        devices=config.devices,
        warm_start=config.warm_start,
        stage=stage,
    )
    stage("asking central's strong model what measures")
    started = time.perf_counter()
    strong = MemoizedModel(prepared.strong)
    central_test = strong.predict(list(prepared.workload.test.queries)).argmax(axis=1).astype(np.int64)
    seconds = {**prepared.seconds, "central_test": time.perf_counter() - started}
    return Preparation(prepared.workload, strong, prepared.model, central_test, seconds)
