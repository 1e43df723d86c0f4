"""The threshold grid and the counts over it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.routing import DEFAULT_GRID, bin_index, from_above, histogram
from fedge.routing.grid import check_grid

GRID = (0.25, 0.5, 0.75)


def test_default_grid_is_valid_and_denser_near_one():
    points = check_grid(DEFAULT_GRID)
    assert points.size == 40
    assert (points > 0.9).sum() == 16
    assert points[0] == 0.05
    assert points[-1] == 0.9999


def test_a_bin_counts_the_grid_points_at_or_below():
    assert bin_index([0.0, 0.2499, 0.25, 0.5, 0.7, 0.75, 1.0, math.nan], GRID).tolist() == [0, 0, 1, 2, 2, 3, 3, 0]


def test_histogram_of_known_probes():
    seen, disagreed = histogram([0.1, 0.3, 0.3, 0.6, 0.9], [True, True, False, False, True], grid=GRID)
    assert seen.tolist() == [2, 1, 1]
    assert disagreed.tolist() == [1, 0, 1]
    assert from_above(seen).tolist() == [4, 2, 1]
    seen, disagreed = histogram([0.3, 0.3, 0.9], [True, True, True], eligible=[True, False, True], grid=GRID)
    assert (seen.tolist(), disagreed.tolist()) == ([1, 0, 1], [1, 0, 1])


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans(), st.booleans()), max_size=50))
def test_counts_from_above_are_those_a_threshold_would_answer(probes):
    """The router answers at confidence >= threshold; the histogram must say the same of every threshold."""
    confidences, wrong, kept = (np.array(column) for column in zip(*probes, strict=True)) if probes else (np.zeros(0),) * 3
    seen, disagreed = histogram(confidences, wrong.astype(bool), eligible=kept.astype(bool))
    for g, threshold in enumerate(DEFAULT_GRID):
        local = [(w, k) for c, w, k in probes if k and c >= threshold]
        assert from_above(seen)[g] == len(local)
        assert from_above(disagreed)[g] == sum(w for w, _ in local)


def test_histograms_of_no_probes_are_zero():
    seen, disagreed = histogram([], [])
    assert seen.tolist() == disagreed.tolist() == [0] * 40


@pytest.mark.parametrize(
    "grid", [(), (0.5, 0.5), (0.5, 0.4), (0.0, 0.5), (0.5, 1.0), (math.nan,), tuple(np.linspace(0.1, 0.9, 257))]
)
def test_a_grid_that_is_none_is_refused(grid):
    with pytest.raises(InputError, match="grid"):
        bin_index([0.5], grid)


def test_columns_of_different_length_are_refused():
    with pytest.raises(InputError, match="shape"):
        histogram([0.5, 0.6], [True])
    with pytest.raises(InputError, match="shape"):
        histogram([0.5], [True], eligible=[True, False])
    with pytest.raises(InputError, match="shape"):
        histogram([[0.5]], [[True]])
