"""The interface of a feature specification and the way back from a manifest's mapping."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.features.pixels import PixelFeatures
from fedge.features.query import Queries
from fedge.features.text import TextFeatures


class FeatureSpec(Protocol):
    """How queries become the inputs of ``infer.onnx``. An immutable value; equal mappings give equal arrays."""

    @property
    def kind(self) -> str:
        """``"text"`` or ``"pixels"``."""

    def encode(self, queries: Queries) -> dict[str, NDArray[Any]]:
        """The model's inputs by name, one row a query. Raises InputError for a query of another kind or shape."""

    def to_mapping(self) -> dict[str, object]:
        """Plain values that a manifest can hold; ``features_from_mapping`` reads them back."""


def features_from_mapping(mapping: Mapping[str, object]) -> FeatureSpec:
    """The specification that ``mapping`` describes. Raises InputError for an unknown kind, unknown or missing keys."""
    kind = mapping.get("kind")
    if kind == TextFeatures.kind:
        return TextFeatures.from_mapping(mapping)
    if kind == PixelFeatures.kind:
        return PixelFeatures.from_mapping(mapping)
    raise InputError(f"feature specification: kind is {kind!r}, it must be 'text' or 'pixels'")
