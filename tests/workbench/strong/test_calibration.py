import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.workbench.strong.calibration import Calibration, fit_calibration, softmax

SCORES = st.lists(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3), min_size=1, max_size=8)


@given(SCORES, st.floats(1, 100), st.floats(-50, 50), st.floats(-50, 50))
def test_labels_and_out_of_scope_sum_to_one(scores, sharpness, slope, intercept):
    within, strange = Calibration(sharpness, (slope, intercept)).probabilities(np.array(scores, dtype=np.float32))
    np.testing.assert_allclose(within.sum(axis=1) + strange, 1.0, atol=1e-5)
    assert within.min() >= 0 and strange.min() >= 0


def test_softmax_of_two_scores_in_closed_form():
    assert softmax(np.array([[np.log(3.0), 0.0]]), 1.0)[0].tolist() == pytest.approx([0.75, 0.25])
    assert softmax(np.array([[np.log(3.0), 0.0]]), 2.0)[0].tolist() == pytest.approx([0.9, 0.1])


def test_sharpness_makes_probabilities_match_frequencies():
    # Two labels whose scores differ by 1; the better one is right in 9 of 10 cases: the sharpness must be ln 9.
    scores = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (1000, 1))
    targets = (np.arange(1000) % 10 == 0).astype(np.int64)
    fitted = fit_calibration(scores, targets, np.ones(1000, dtype=bool), oos_share=0.0)
    assert fitted.sharpness == pytest.approx(np.log(9.0), rel=1e-3)
    assert fitted.scope is None


def sides(inside=900, strange=60, seed=0):
    draw = np.random.default_rng(seed)
    best = np.concatenate([draw.normal(0.8, 0.15, inside), draw.normal(0.3, 0.15, strange)])
    scores = np.stack([best, np.full(len(best), -1.0)], axis=1).astype(np.float32)
    return scores, np.zeros(len(best), dtype=np.int64), np.arange(len(best)) < inside


def test_out_of_scope_counts_as_in_the_natural_mixture_however_few_examples_there_are():
    # Both normal with standard deviation 0.15, means 0.3 and 0.8: the logit of in scope is, by Bayes, linear with slope
    # 0.5 / 0.15^2 = 22.2 and zero at 0.55 - ln((1 - share) / share) / 22.2.
    for share in (0.05, 0.2, 0.5):
        scores, targets, inside = sides(inside=20_000, strange=5_000)
        slope, intercept = fit_calibration(scores, targets, inside, oos_share=share).scope
        assert slope == pytest.approx(22.2, rel=0.1)
        assert -intercept / slope == pytest.approx(0.55 - np.log((1 - share) / share) / 22.2, abs=0.01)


def test_the_lower_the_best_score_the_likelier_out_of_scope():
    scores, targets, inside = sides()
    _, strange = fit_calibration(scores, targets, inside, oos_share=0.2).probabilities(
        np.array([[0.0, -1.0], [0.5, -1.0], [1.0, -1.0]], dtype=np.float32)
    )
    assert strange[0] > 0.9 > strange[1] > strange[2] and strange[2] < 0.02


@pytest.mark.parametrize(("share", "strange"), [(0.0, 60), (0.2, 0)])
def test_without_a_share_or_examples_nothing_is_out_of_scope(share, strange):
    scores, targets, inside = sides(strange=strange)
    assert fit_calibration(scores, targets, inside, oos_share=share).scope is None


def test_sides_that_do_not_overlap_give_a_finite_curve():
    scores = np.array([[0.9], [0.8], [0.1], [0.2]], dtype=np.float32)
    inside = np.array([True, True, False, False])
    slope, intercept = fit_calibration(scores, np.zeros(4, dtype=np.int64), inside, oos_share=0.2).scope
    assert 0.2 < -intercept / slope < 0.8 and np.isfinite(slope)
