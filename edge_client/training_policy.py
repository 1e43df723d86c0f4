"""A release's training settings, and the device's bounds on them and on what leaves.

The bounds are the device's own: no release can widen them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_client.refusal import SessionRefused
from fedge.errors import VerificationError

if TYPE_CHECKING:  # arrays are loaded only where a device trains
    from fedge.architectures import Architecture, DescentSettings


@dataclass(frozen=True, slots=True)
class Training:
    """Hyperparameters of a device's training, from the release's manifest."""

    learning_rate: float
    batch_size: int
    epochs: int
    clip_norm: float
    weight_cap: int
    noise_multiplier: float = 0.0
    """Z of distributed differential privacy; above 0 every device weighs the same and reports nothing but its update."""
    example_clip_norm: float = math.inf
    """Bound on the L2 norm of one example's gradient."""
    l2: float = 0.0
    label_smoothing: float = 0.0

    @property
    def descent(self) -> "DescentSettings":
        """What one step needs."""
        from fedge.architectures import DescentSettings

        return DescentSettings(
            l2=self.l2, label_smoothing=self.label_smoothing, example_clip_norm=self.example_clip_norm
        )


def training_from_mapping(mapping: Mapping[str, object]) -> Training:
    """The hyperparameters that ``Manifest.training`` holds. Raises VerificationError for missing or unusable ones."""
    numbers: dict[str, float] = {}
    for name in ("learning_rate", "batch_size", "epochs", "clip_norm", "example_clip_norm", "weight_cap"):
        value = mapping.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise VerificationError(f"the release's training.{name} is {value!r}, it must be a number above 0")
        numbers[name] = float(value)
    for name in ("batch_size", "epochs", "weight_cap"):
        if numbers[name] != int(numbers[name]):
            raise VerificationError(f"the release's training.{name} is {numbers[name]}, it must be a whole number")
    for name in ("noise_multiplier", "l2", "label_smoothing"):
        value = mapping.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise VerificationError(f"the release's training.{name} is {value!r}, it must be a number of at least 0")
        numbers[name] = float(value)
    return Training(
        learning_rate=numbers["learning_rate"],
        batch_size=int(numbers["batch_size"]),
        epochs=int(numbers["epochs"]),
        clip_norm=numbers["clip_norm"],
        weight_cap=int(numbers["weight_cap"]),
        noise_multiplier=numbers["noise_multiplier"],
        example_clip_norm=numbers["example_clip_norm"],
        l2=numbers["l2"],
        label_smoothing=numbers["label_smoothing"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPolicy:
    """Bounds on a release's head and training settings, and conditions for an update to leave.

    The bounds are generous to every release that fedge makes: its heads have up to 30,000 values of 192 dimensions.
    """

    max_parameters: int = 65_536
    max_dimensions: int = 256
    max_learning_rate: float = 0.5
    min_batch_size: int = 4
    max_batch_size: int = 256
    max_epochs: int = 10
    max_clip_norm: float = 16.0
    max_example_clip_norm: float = 16.0
    max_weight_cap: int = 1024
    max_l2: float = 0.1
    max_label_smoothing: float = 0.5
    max_example_share: float = 0.5
    """Largest share of one example in an update (`DenseHead.shares`): an example above it is scaled down."""
    min_kept: float = 0.1
    """An update of which an example would keep less than this part, to be within its share, does not leave."""
    max_rise: float = 0.2
    """Largest rise of the mean miss (1 - probability of the right label) on the device's own examples from the release that
    it trained on before, beyond what chance allows (`allowed_rise`).
    """
    compare_s: float = 7 * 86_400.0
    """For how long the last fit is compared with: after that a fleet that begins anew on its base is followed."""
    base_wait_s: float = 3 * 86_400.0
    """How long a new base (encoder) waits after it was first seen here before the device trains on it."""

    def check(self, architecture: "Architecture", training: "Training") -> None:
        """Raise SessionRefused, naming the value and the bound, for a release outside of the bounds."""
        for name, value, bound in (
            ("dimensions", architecture.dimensions, self.max_dimensions),
            ("parameters", architecture.parameters, self.max_parameters),
            ("learning_rate", training.learning_rate, self.max_learning_rate),
            ("batch_size", training.batch_size, self.max_batch_size),
            ("epochs", training.epochs, self.max_epochs),
            ("clip_norm", training.clip_norm, self.max_clip_norm),
            ("example_clip_norm", training.example_clip_norm, self.max_example_clip_norm),
            ("weight_cap", training.weight_cap, self.max_weight_cap),
            ("l2", training.l2, self.max_l2),
            ("label_smoothing", training.label_smoothing, self.max_label_smoothing),
        ):
            if value > bound:
                raise SessionRefused(
                    f"the release's {name} is {value}, this device trains with at most {bound} (training.max_{name})"
                )
        if training.batch_size < self.min_batch_size:
            raise SessionRefused(
                f"the release's batch_size is {training.batch_size}, this device trains with at least {self.min_batch_size} "
                "(training.min_batch_size)"
            )

    def allowed_rise(self, now: int, before: int) -> float:
        """Return the largest rise of the mean miss that this device puts up with, ``now`` against ``before`` examples.

        By Hoeffding's inequality two means of n and m values in [0, 1] from one distribution differ by more than
        sqrt(ln(1/delta) / 2 * (1/n + 1/m)) with probability delta at most, here 1e-4; ``max_rise`` comes on top.
        """
        return self.max_rise + math.sqrt(math.log(1e4) / 2 * (1 / now + 1 / before))
