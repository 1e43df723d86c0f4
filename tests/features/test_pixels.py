"""What pixel features promise: the pixels themselves, and a clear refusal of anything else."""

import numpy as np
import pytest

from fedge.errors import InputError
from fedge.features import PixelFeatures, features_from_mapping


def test_pixels_come_through_as_float32_rows():
    rows = [np.array([0.0, 0.5], dtype=np.float32), np.array([1.0, 0.25], dtype=np.float32)]
    encoded = PixelFeatures(size=2).encode(rows)
    assert set(encoded) == {"pixels"}
    assert encoded["pixels"].dtype == np.float32
    assert encoded["pixels"].tolist() == [[0.0, 0.5], [1.0, 0.25]]
    np.testing.assert_array_equal(PixelFeatures(size=2).encode(np.stack(rows))["pixels"], encoded["pixels"])
    assert PixelFeatures(size=2).encode([])["pixels"].shape == (0, 2)


@pytest.mark.parametrize(
    "queries",
    [
        ["a text"],
        [np.zeros(3, dtype=np.float32)],
        [np.zeros(2, dtype=np.float32), np.zeros(3, dtype=np.float32)],
        [np.zeros((1, 2), dtype=np.float32)],
        [np.array([0.0, np.nan], dtype=np.float32)],
        [np.array([0.0, np.inf], dtype=np.float32)],
        [np.array([-0.01, 0.0], dtype=np.float32)],
        [np.array([0.0, 16.0], dtype=np.float32)],
    ],
)
def test_other_lengths_kinds_and_ranges_are_refused(queries):
    with pytest.raises(InputError):
        PixelFeatures(size=2).encode(queries)


def test_pixel_specification_survives_its_mapping_and_refuses_unknown_keys():
    assert features_from_mapping(PixelFeatures(size=64).to_mapping()) == PixelFeatures(size=64)
    for wrong in ({"kind": "pixels"}, {"kind": "pixels", "size": 0}, {"kind": "pixels", "size": 8, "side": 8}, {}):
        with pytest.raises(InputError, match="feature specification"):
            features_from_mapping(wrong)
