"""Central's strong models: trained on the server's own part of a workload, and on nothing else."""

from aggregator.workbench.strong.base import MemoizedModel, StrongModel, TrainedModel
from aggregator.workbench.strong.train import train_strong_model

__all__ = ["MemoizedModel", "StrongModel", "TrainedModel", "train_strong_model"]
