"""The settings that a device model is made and trained with, one set for text and one for pixels. Values only.

How they were found stands beside them; a change here changes every release that is built afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedge.features import FeatureSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderTraining:
    """How the server trains the encoder. ``teacher_weight``: of the cosine distance to a teacher's embeddings, if any."""

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    head_dropout: float = 0.3
    teacher_weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """``dimensions`` of the embedding; ``holdout_share`` of the server part; ``training`` goes into the manifest."""

    dimensions: int
    holdout_share: float
    encoder: EncoderTraining = field(default_factory=EncoderTraining)
    training: Mapping[str, float | str]


TEXT = Recipe(
    dimensions=128,
    holdout_share=1 / 16,
    training={
        "learning_rate": 0.3,
        "batch_size": 16,
        "epochs": 3,
        "clip_norm": 5.0,
        "weight_cap": 100,
        "l2": 1e-4,
        "label_smoothing": 0.1,
        "server_optimizer": "fedavgm",
        "server_learning_rate": 1.0,
        "server_momentum": 0.5,
    },
)

PIXELS = Recipe(
    dimensions=64,
    holdout_share=1 / 8,
    training={
        "learning_rate": 0.3,
        "batch_size": 16,
        "epochs": 3,
        "clip_norm": 5.0,
        "weight_cap": 100,
        "l2": 1e-4,
        "label_smoothing": 0.1,
        "server_optimizer": "fedavgm",
        "server_learning_rate": 1.0,
        "server_momentum": 0.5,
    },
)


def recipe_for(features: FeatureSpec) -> Recipe:
    """The recipe for a kind of query."""
    return TEXT if features.kind == "text" else PIXELS
