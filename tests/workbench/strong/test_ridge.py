import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.workbench.strong.ridge import fit_kernel_ridge
from fedge.errors import FedgeError


def problem(seed, n=24, d=5, k=3):
    draw = np.random.default_rng(seed)
    targets = np.eye(k, dtype=np.float32)[draw.integers(k, size=n)]
    return draw.standard_normal((n, d)).astype(np.float32), targets


def test_one_example_is_shrunk_by_the_penalty():
    # (1 + 0.25) w = 1, so the score of the example itself is 1 / 1.25; left out, nothing is known: 0.
    ridge, left_out = fit_kernel_ridge(np.ones((1, 4), np.float32), np.ones((1, 1), np.float32), width=1.0, penalty=0.25)
    assert ridge.scores(np.ones((1, 4), np.float32))[0, 0] == pytest.approx(0.8)
    assert left_out[0, 0] == pytest.approx(0.0, abs=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 1.0]))
def test_left_out_scores_are_those_of_a_fit_without_the_example(seed, penalty):
    examples, targets = problem(seed)
    _, left_out = fit_kernel_ridge(examples, targets, width=0.2, penalty=penalty)
    for i in range(0, len(examples), 7):
        rest = np.delete(np.arange(len(examples)), i)
        without, _ = fit_kernel_ridge(examples[rest], targets[rest], width=0.2, penalty=penalty)
        np.testing.assert_allclose(left_out[i], without.scores(examples[i : i + 1])[0], atol=2e-4)


@given(st.integers(0, 10_000))
def test_scores_solve_the_regression(seed):
    examples, targets = problem(seed)
    ridge, _ = fit_kernel_ridge(examples, targets, width=0.2, penalty=0.1)
    distance = ((examples[:, None].astype(np.float64) - examples[None]) ** 2).sum(axis=2)
    kernel = np.exp(-0.2 * distance)
    exact = kernel @ np.linalg.solve(kernel + 0.1 * np.eye(len(kernel)), targets)
    np.testing.assert_allclose(ridge.scores(examples), exact, atol=1e-4)


def test_far_from_all_examples_every_score_is_zero():
    examples, targets = problem(1)
    ridge, _ = fit_kernel_ridge(examples, targets, width=0.2, penalty=0.1)
    assert np.abs(ridge.scores(np.full((1, 5), 100.0, dtype=np.float32))).max() < 1e-12


def test_a_matrix_without_inverse_is_named():
    twins = np.ones((3, 2), np.float32)
    with pytest.raises(FedgeError, match="penalty"):
        fit_kernel_ridge(twins, np.ones((3, 1), np.float32), width=1.0, penalty=-1.0)
