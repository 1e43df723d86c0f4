"""A handwriting style per device: slant, position, pen pressure over the paper, and a little noise.

Handwritten digits come from unknown writers and are easy; a style makes devices differ from each other and from the server's
data, as real ones do. A style is a pure function of the seed and the writer's number. Never changes what a digit is.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedge.randomness import generator

_SIDE = 8
# Standard deviations: shear and stretch (fractions), position (pixels); pressure, paper and noise in units of full black.
_SLANT, _STRETCH, _MOVE, _PRESSURE, _PAPER, _NOISE = 0.13, 0.04, 0.28, 0.15, 0.04, 0.07


@dataclass(frozen=True, slots=True)
class Handwriting:
    """The styles of one run. ``seed``: 32 bytes."""

    seed: bytes

    def write(self, pixels: NDArray[np.float32], writer: str | int, noise: np.random.Generator) -> NDArray[np.float32]:
        """``pixels`` float32 [n, 64] in [0, 1] as ``writer`` would have drawn them; ``noise`` is what varies each time."""
        style = _style(self.seed, writer)
        moved = (pixels[:, style.corners].astype(np.float64) * style.shares).sum(axis=1)
        inked = moved * style.pressure + style.paper + _NOISE * noise.standard_normal(moved.shape)
        return np.asarray(np.clip(inked, 0.0, 1.0), dtype=np.float32)


class _Style(NamedTuple):
    corners: NDArray[np.int64]  # [4, 64]: the four pixels that each pixel is interpolated from
    shares: NDArray[np.float64]  # [4, 64]: how much of each, 0 beyond the edge of the paper
    pressure: NDArray[np.float64]  # [64]
    paper: NDArray[np.float64]  # [64]


@lru_cache(maxsize=1024)
def _style(seed: bytes, writer: str | int) -> _Style:
    draw = generator(seed, "handwriting", writer)
    slant, tall, wide, down, right = draw.standard_normal(5)
    pressure = np.clip(1.0 + _PRESSURE * _smooth_field(draw), 0.4, 1.6)
    paper = _PAPER * np.abs(_smooth_field(draw))
    centre = (_SIDE - 1) / 2
    rows, columns = np.divmod(np.arange(_SIDE * _SIDE), _SIDE)
    y = (rows - centre) * (1.0 + _STRETCH * tall) + centre + _MOVE * down
    x = (columns - centre) * (1.0 + _STRETCH * wide) + _SLANT * slant * (rows - centre) + centre + _MOVE * right
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    corners, shares = [], []
    for row, near_y in ((top, 1.0 - (y - top)), (top + 1, y - top)):
        for column, near_x in ((left, 1.0 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < _SIDE) & (column >= 0) & (column < _SIDE)
            corners.append(np.where(inside, row * _SIDE + column, 0))
            shares.append(np.where(inside, near_y * near_x, 0.0))
    return _Style(np.stack(corners), np.stack(shares), pressure, paper)


def _smooth_field(draw: np.random.Generator) -> NDArray[np.float64]:
    """[64], about unit variance, without waves shorter than the paper: products of three cosines, randomly weighted."""
    position = (np.arange(_SIDE) + 0.5) / _SIDE
    waves = np.stack([np.cos(np.pi * order * position) for order in range(3)])
    weights = draw.standard_normal((3, 3)) / 2.0
    return np.asarray(
        (weights[:, :, None, None] * waves[:, None, :, None] * waves[None, :, None, :]).sum(axis=(0, 1)).reshape(-1)
    )
