"""What hostile releases get out of one secure sum; the figures stand in docs/security.md."""

import math

import numpy as np
import pytest

from benchmarks.attacks.reconstruction import Blocks, exfiltrating_release, fishing_head


@pytest.mark.parametrize("packed", [1, 3])
def test_a_block_with_one_example_is_read_exactly(packed):
    blocks = Blocks(blocks=2, bins=2, packed=packed)
    levels = np.random.default_rng(1).integers(0, 17, 64)
    padded = np.zeros(math.ceil(64 / packed) * packed, np.int64)
    padded[:64] = levels
    row = [*(padded.reshape(-1, packed) * 17 ** np.arange(packed)).sum(axis=1), blocks.unit]
    change = np.zeros((blocks.dimensions, 11))
    change[1 : 1 + blocks.block_width, 4] = 0.003 * np.array(row)
    exact, images = blocks.read(change)
    assert exact == {(4, levels.tobytes())}
    np.testing.assert_allclose(images[0][1] * 16, levels, atol=1e-9)


def test_a_hostile_base_gets_a_few_examples_out_of_one_sum():
    result = exfiltrating_release(seed=1)
    assert result.held
    assert 0.01 < result.value < 0.1, result.note


def test_a_fishing_head_gets_none_exactly():
    result = fishing_head(seed=1)
    assert result.held
    assert result.value == 0.0, result.note
