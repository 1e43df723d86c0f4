"""What rounds and central start from, made from nothing: the workload's data, central's strong model, the device model.

Depends on the workload and the seed alone, so a simulated run and a server of one seed prepare the same.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aggregator.workbench.device_model import DeviceModel, build_device_model
from aggregator.workbench.strong import TrainedModel, train_strong_model
from aggregator.workbench.workloads import Workload, load_workload
from fedge.randomness import derive, root_seed


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prepared:
    """Data and models. ``seconds``: wall time by step."""

    workload: Workload
    strong: TrainedModel
    model: DeviceModel
    seconds: dict[str, float]


def prepared_workload(name: str, *, seed: int, data: Path | None, devices: int | None) -> Workload:
    """The workload as `prepare_models` splits it for ``seed``, without any model. Raises InputError."""
    return load_workload(name, seed=_stream(seed), data_file=data, devices=devices)


def prepare_models(
    name: str,
    *,
    seed: int,
    data: Path | None = None,
    devices: int | None = None,
    warm_start: bool = False,
    stage: Callable[[str], None],
) -> Prepared:
    """Load the data, train central's model and the device's encoder on the server's own part. ``stage`` gets a few words."""
    seconds: dict[str, float] = {}
    stage(f"loading {name}")
    with _timed(seconds, "load"):
        workload = prepared_workload(name, seed=seed, data=data, devices=devices)
    stage("training central's strong model")
    with _timed(seconds, "strong_model"):
        strong = train_strong_model(workload, _stream(seed), progress=stage)
    stage("training the device model's encoder")
    with _timed(seconds, "device_model"):
        model = build_device_model(
            workload,
            _stream(seed),
            warm_start=warm_start,
            progress=lambda done, of: stage(f"training the device model's encoder: epoch {done} of {of}"),
        )
    return Prepared(workload=workload, strong=strong, model=model, seconds=seconds)


def _stream(seed: int) -> bytes:
    return derive(root_seed(seed), "preparation")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started
