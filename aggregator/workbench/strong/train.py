"""The strong model of a workload, by the kind of its queries."""

from collections.abc import Callable

from aggregator.workbench.strong.base import TrainedModel
from aggregator.workbench.workloads.base import Workload


def train_strong_model(workload: Workload, seed: bytes, *, progress: Callable[[str], None]) -> TrainedModel:
    """Train on ``workload.server`` alone; the same workload and seed give the same model. ``progress`` gets a few words."""
    if isinstance(workload.server.queries, list):
        from aggregator.workbench.strong.text import train_text_model

        return train_text_model(workload, seed, progress=progress)
    from aggregator.workbench.strong.pixels import train_pixel_model

    return train_pixel_model(workload, seed, progress=progress)
