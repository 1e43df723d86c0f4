"""Pixels as they are: the features of a picture are its grey values. Never rescales, crops or decodes a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.features.fields import checked_keys, whole_number
from fedge.features.query import Queries, checked_pixels


@dataclass(frozen=True, slots=True)
class PixelFeatures:
    """Vectors of ``size`` grey values in [0, 1]."""

    kind: ClassVar[str] = "pixels"

    size: int

    def __post_init__(self) -> None:
        whole_number("size", self.size, low=1, high=1 << 20)

    def encode(self, queries: Queries) -> dict[str, NDArray[Any]]:
        """``{"pixels": float32 [n, size]}``. Raises InputError for a text, another length or values outside [0, 1]."""
        if len(queries) == 0:
            return {"pixels": np.zeros((0, self.size), dtype=np.float32)}
        if any(isinstance(query, str) for query in queries):
            raise InputError("this model takes pixels, not text: send a list of numbers from 0 to 1")
        if len({np.shape(query) for query in queries}) > 1:
            raise InputError(f"the queries differ in length: this model takes {self.size} pixels each")
        pixels = checked_pixels(np.asarray(queries, dtype=np.float32), size=self.size)
        if pixels.ndim != 2:
            raise InputError(
                f"a query of shape {pixels.shape[1:]} does not fit: this model takes {self.size} pixels in a row"
            )
        return {"pixels": np.ascontiguousarray(pixels)}

    def to_mapping(self) -> dict[str, object]:
        """The specification as it stands in a manifest."""
        return {"kind": self.kind, "size": self.size}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> "PixelFeatures":
        """The specification back from a manifest. Raises InputError for unknown or missing keys and wrong values."""
        checked_keys(mapping, {"kind", "size"})
        return cls(size=whole_number("size", mapping["size"], low=1, high=1 << 20))
