"""What a confidence is worth, on queries few enough to count by hand."""

import numpy as np
import pytest

from fedge.randomness import root_seed
from sim.selective import selective_figures, threshold_counts

OOS = 3
TRUTH = np.array([0, 1, 2, 0, 1, 2, 0, 1, OOS, OOS])
CENTRAL = np.array([0, 1, 2, 0, 1, 2, 0, 1, OOS, 0])
DEVICE = np.array([0, 1, 2, 0, 1, 2, 1, 0, 0, 1])  # wrong on two in scope and on both out of scope
SURE = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.75, 0.1])
IN_SCOPE = TRUTH != OOS


def figures(sure: np.ndarray = SURE, central: np.ndarray = CENTRAL) -> dict:
    return selective_figures(sure, DEVICE, central, TRUTH, IN_SCOPE, seed=root_seed(1), draws=100)


def test_in_scope_a_perfect_order_answers_all_but_the_wrong_ones():
    found = figures()["in_scope"]
    assert found["accuracy"] == {"device": 0.75, "central": 1.0}
    assert found["local_at_equal"]["value"] == found["local_at_minus_one_point"]["value"] == 0.75
    assert found["aurc"]["value"] == pytest.approx((1 / 7 + 2 / 8) / 8)
    assert found["cpt_50"]["value"] == 0.125 and found["cpt_80"]["value"] == 0.25
    assert found["apgr"]["value"] == pytest.approx(0.875)
    low, high = found["local_at_equal"]["interval_95"]
    assert 0.25 < low < 0.75 < high <= 1.0


def test_out_of_scope_is_counted_at_the_in_scope_threshold_and_as_wrong_among_all():
    found = figures()
    # Of 8 x 2 pairs, one out-of-scope query at 0.75 stands above 0.7, 0.6, 0.5 and 0.4, the other below all.
    assert found["out_of_scope"]["auroc"]["value"] == pytest.approx(12 / 16)
    # The threshold is 0.6, the sixth of eight; of the two, the one at 0.75 would stay.
    assert found["out_of_scope"]["local_at_minus_one_point_in_scope"]["value"] == 0.5
    assert found["all"]["accuracy"] == {"device": 0.6, "central": 0.9}
    assert found["all"]["local_at_equal"]["value"] == pytest.approx(0.4)  # the fifth is wrong where central is right
    assert [point["risk"] for point in found["all"]["risk_coverage"]][-1] == pytest.approx(0.4)


def test_without_a_gap_nothing_is_recovered_and_everything_may_stay():
    found = figures(central=DEVICE)
    assert found["all"]["apgr"] is None and found["all"]["cpt_50"] is None
    assert found["all"]["local_at_equal"]["value"] == 1.0


def test_a_workload_without_out_of_scope_has_one_set_of_figures():
    rows = IN_SCOPE
    found = selective_figures(SURE[rows], DEVICE[rows], CENTRAL[rows], TRUTH[rows], rows[rows], seed=root_seed(1), draws=100)
    assert found["out_of_scope"] is None and found["all"] == found["in_scope"]


def test_a_threshold_errs_in_two_directions_counted_apart():
    local = SURE >= 0.7
    assert threshold_counts(DEVICE, CENTRAL, TRUTH, local, IN_SCOPE) == {
        "queries": 10,
        "local": 6,
        "in_scope": 8,
        "in_scope_local": 5,
        "out_of_scope": 2,
        "out_of_scope_local": 1,
        "kept_wrongly": 1,
        "escalated_needlessly": 1,
    }


def test_the_same_seed_gives_the_same_intervals():
    assert figures() == figures()
