"""The architectures that a device can train, as values that ship with the package.

A release names one of them and its sizes; the training step is the device's own code, never a file of the release. A later
architecture is one more file here and one more entry in the registry.
"""

from fedge.architectures.dense_head import HEAD_BIAS, HEAD_WEIGHT, SHARE_SLACK, DenseHead, DescentSettings, Step
from fedge.architectures.registry import ARCHITECTURES, Architecture, architecture_from_mapping

__all__ = [
    "ARCHITECTURES",
    "HEAD_BIAS",
    "HEAD_WEIGHT",
    "SHARE_SLACK",
    "Architecture",
    "DenseHead",
    "DescentSettings",
    "Step",
    "architecture_from_mapping",
]
