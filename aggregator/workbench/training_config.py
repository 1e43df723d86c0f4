"""The settings that a device model is made and trained with, one set for text and one for pixels. Values only.

Found on clinc150: half of train for the server; 100 devices, Dirichlet 0.3 over domains, 20 queries a device and round, 18 %
of them out of scope; cohorts of 32; central's real answers, and only to what escalated. Share of the natural mixture that
the device could answer at 4 % disagreement with central, after rounds 2, 3, 5, 10 and 20:

    the recipe below, int8                        0.51  0.63  0.66  0.66  0.68
    FedAdagrad 0.08, fp32, whitened embedding     0.50  0.61  0.66  0.70  0.69
      and answers "out of scope" learned as well  0.51  0.62  0.66  0.64  0.61
      and FedAvgM 4.0, momentum 0.5, instead      0.16  0.23  0.48  0.68  0.71
      and FedAdam 0.03, momentum 0.9, tau 1e-3    0.18  0.28  0.41  0.67  0.68

Differences of 0.02 are noise. An adaptive server optimizer magnifies noise that is added for differential privacy: FedAvgM
suits that better. A change here changes every release that is built afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedge.features import FeatureSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderTraining:
    """How the server trains the encoder."""

    epochs: int = 25
    batch_size: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    head_dropout: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """``dimensions`` of the embedding. ``holdout_share`` of the server part is kept from training, for the quality gate.
    ``training`` goes into the manifest: what devices need, and ``server_*`` for the aggregator.
    """

    dimensions: int
    holdout_share: float
    encoder: EncoderTraining = field(default_factory=EncoderTraining)
    training: Mapping[str, float | str]


TRAINING: Mapping[str, float | str] = {
    "learning_rate": 0.02,
    "batch_size": 16,
    "epochs": 3,
    "clip_norm": 0.5,  # updates of the first rounds have norms of 0.18 to 0.5, on digits and on clinc150
    "example_clip_norm": 16.0,
    "weight_cap": 100,
    "l2": 2e-3,
    "label_smoothing": 0.0,
    "server_optimizer": "fedadagrad",
    "server_learning_rate": 0.08,
    "server_momentum": 0.5,
    "server_tau": 1e-4,
}

TEXT = Recipe(dimensions=128, holdout_share=1 / 16, training=TRAINING)
PIXELS = Recipe(dimensions=64, holdout_share=1 / 8, training=TRAINING)


def recipe_for(features: FeatureSpec) -> Recipe:
    """The recipe for a kind of query."""
    return TEXT if features.kind == "text" else PIXELS
