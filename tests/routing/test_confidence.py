"""Confidence, the temperature's sums, and their edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedge.errors import InputError
from fedge.routing import TEMPERATURE_GRID, best_temperature, confidence, nll_sums, softmax
from fedge.routing.confidence import NLL_CAP

logits = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-50, 50))


def test_grid_is_ascending_and_holds_one():
    assert len(TEMPERATURE_GRID) == 24
    assert TEMPERATURE_GRID[0] == 0.05
    assert TEMPERATURE_GRID[13] == 1.0
    assert TEMPERATURE_GRID[-1] == pytest.approx(10.02, abs=0.01)
    ratios = np.array(TEMPERATURE_GRID[1:]) / np.array(TEMPERATURE_GRID[:-1])
    assert ratios == pytest.approx(np.full(23, 20 ** (1 / 13)))


@given(logits, st.sampled_from(TEMPERATURE_GRID))
def test_softmax_rows_are_probabilities(rows, temperature):
    probabilities = softmax(rows, temperature)
    assert probabilities.dtype == np.float64
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    assert (probabilities >= 0).all()


def test_softmax_of_known_logits():
    assert softmax([[0.0, math.log(3.0)]])[0] == pytest.approx([0.25, 0.75])
    assert softmax([[0.0, math.log(9.0)]], 2.0)[0] == pytest.approx([0.25, 0.75])
    assert softmax([[1e4, 0.0]])[0] == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(InputError, match="temperature"):
        softmax([[0.0, 1.0]], temperature)


def test_confidence_of_known_probabilities():
    rows = [[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]]
    assert confidence(rows).dtype == np.float32
    assert confidence(rows) == pytest.approx([0.7, 0.4])
    assert confidence(rows, "margin") == pytest.approx([0.5, 0.0])
    assert confidence([[1.0]], "margin") == pytest.approx([1.0])


def test_a_row_that_is_no_number_has_no_confidence():
    assert confidence([[math.nan, 0.5]])[0] == 0.0
    assert confidence([[math.nan, 0.5]], "margin")[0] == 0.0


def test_unknown_kind_and_shapes_are_refused():
    with pytest.raises(InputError, match="energy"):
        confidence([[1.0, 0.0]], "energy")
    for shape in ((3,), (2, 0), (1, 2, 2)):
        with pytest.raises(InputError, match="C >= 1"):
            confidence(np.zeros(shape))


@given(logits, st.data())
def test_sums_of_two_devices_are_the_sum_over_both(rows, data):
    labels = np.array(data.draw(st.lists(st.integers(0, rows.shape[1] - 1), min_size=len(rows), max_size=len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    together = nll_sums(rows, labels)
    parts = nll_sums(rows[:cut], labels[:cut]) + nll_sums(rows[cut:], labels[cut:])
    assert together == pytest.approx(parts)
    assert (together >= 0).all()
    assert (together <= NLL_CAP * len(rows) + 1e-9).all()


def test_sum_of_a_known_example():
    assert nll_sums([[0.0, math.log(3.0)]], [0])[13] == pytest.approx(math.log(4.0))
    assert nll_sums([[0.0, 1e6]], [0])[13] == NLL_CAP
    assert nll_sums([[math.nan, 0.0]], [0])[13] == NLL_CAP
    assert nll_sums(np.zeros((0, 3)), np.zeros(0, dtype=int)).tolist() == [0.0] * 24


@pytest.mark.parametrize("labels", [[2], [-1], [0, 1]])
def test_labels_outside_the_classes_are_refused(labels):
    with pytest.raises(InputError, match="labels"):
        nll_sums([[0.0, 1.0]], labels)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature):
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 3 * true_temperature, (4000, 5))
    labels = [rng.choice(5, p=p) for p in softmax(rows, true_temperature)]
    assert best_temperature(nll_sums(rows, labels)) == pytest.approx(true_temperature, rel=0.26)


def test_ties_go_to_the_less_sure_and_no_evidence_to_one():
    assert best_temperature([0.0] * 24) == 1.0
    assert best_temperature([1.0] * 24) == TEMPERATURE_GRID[-1]
    assert best_temperature([2.0, 1.0, 1.0, *[2.0] * 21]) == TEMPERATURE_GRID[2]


@pytest.mark.parametrize("sums", [[1.0] * 23, [math.nan] * 24, [math.inf] * 24])
def test_sums_that_cannot_be_are_refused(sums):
    with pytest.raises(InputError, match="temperature"):
        best_temperature(sums)
