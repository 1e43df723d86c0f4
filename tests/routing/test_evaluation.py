"""Closed-form curves: what calls buy, ties, risk at a coverage."""

import numpy as np
import pytest

from fedge.errors import InputError
from fedge.routing.evaluation import aurc, auroc, bootstrap, curve, risk_at, risk_coverage

WEAK = np.array([0.0, 0.0, 1.0, 1.0])
STRONG = np.array([1.0, 1.0, 1.0, 1.0])


def test_a_perfect_order_closes_the_gap_in_half_of_the_calls():
    line = curve([4, 3, 2, 1], WEAK, STRONG)
    assert line.quality.tolist() == [0.5, 0.75, 1.0, 1.0, 1.0] and line.gap == 0.5
    assert line.cpt(0.5) == 0.25 and line.cpt(0.8) == 0.5
    assert line.apgr() == pytest.approx(0.75)  # a triangle over the first half, then 1
    assert line.local_share() == 0.5 and line.local_share(0.25) == 0.75


def test_the_worst_order_closes_it_in_the_last_calls():
    line = curve([1, 2, 3, 4], WEAK, STRONG)
    assert line.apgr() == pytest.approx(0.25)
    assert line.cpt(0.5) == 0.75 and line.cpt(0.8) == 1.0 and line.local_share() == 0.0


def test_a_tie_is_worth_as_much_as_a_random_order_whatever_the_order_of_the_rows():
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        line = curve(np.zeros(4), WEAK[order], STRONG)
        assert line.apgr() == pytest.approx(0.5)
        assert line.cpt(0.5) == 0.5 and line.pgr().tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_router_can_beat_the_strong_model_where_the_strong_one_errs():
    line = curve([2, 1, 0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0])
    assert line.pgr().tolist() == pytest.approx([0.0, 1.0, 2.0, 1.0])
    assert line.local_share() == pytest.approx(2 / 3)


def test_no_gap_is_an_error():
    with pytest.raises(InputError, match="no gap to recover"):
        curve([1, 2], [1.0, 0.0], [0.0, 1.0]).apgr()
    with pytest.raises(InputError, match="shapes"):
        curve([1, 2, 3], [1.0, 0.0], [0.0, 1.0])


def test_risk_coverage_by_hand():
    coverage, risk = risk_coverage([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert aurc([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1]) == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert aurc([1, 1, 1, 1], [0, 0, 1, 1]) == pytest.approx(0.5)
    assert risk_at([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1], (0.5, 0.6, 1.0)) == pytest.approx([0, 1 / 3, 1 / 2])


def test_the_bootstrap_of_a_mean_has_the_width_of_the_normal_interval():
    rows = np.arange(400) % 2
    ((low, high),) = bootstrap(lambda drawn: [rows[drawn].mean()], 400, np.random.default_rng(0), draws=2000)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.01)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)


def test_the_bootstrap_says_when_nothing_is_defined():
    with pytest.raises(InputError, match="none of 5 bootstrap draws"):
        bootstrap(lambda drawn: [curve(drawn, drawn * 0, drawn * 0).apgr()], 3, np.random.default_rng(0), draws=5)


def test_area_under_risk_coverage_of_the_best_and_the_worst_order():
    wrong = [0, 0, 1, 1]
    assert aurc([4, 3, 2, 1], wrong) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert aurc([1, 2, 3, 4], wrong) == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)
    assert aurc([7, 7, 7, 7], wrong) == pytest.approx(0.5)  # one tie: the mean over all orders


def test_auroc_is_the_share_of_pairs_in_the_right_order_a_tie_half():
    assert auroc([3, 2, 1, 0], [True, True, False, False]) == 1.0
    assert auroc([0, 1, 2, 3], [True, True, False, False]) == 0.0
    assert auroc([2, 1, 1, 0, 3], [True, True, False, False, False]) == pytest.approx((2 + 1.5) / 6)
    assert auroc([5, 5, 5], [True, False, False]) == 0.5


def test_auroc_needs_rows_of_both_kinds():
    with pytest.raises(InputError, match="2 positive and 0 others"):
        auroc([1, 2], [True, True])
    with pytest.raises(InputError, match="shapes"):
        auroc([1, 2, 3], [True, False])
