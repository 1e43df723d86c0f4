"""What is taken off probe counts keeps every bound valid: against liars at their worst place, and under the devices'
noise.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.routing import (
    Deduction,
    PooledNoise,
    RunningBound,
    clopper_pearson_upper,
    conservative,
    conservative_pair,
    from_above,
    grid_test,
)
from fedge.routing.certificate import risk_upper

GRID = tuple(round(0.05 + 0.09 * i, 3) for i in range(10))
BINS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=10, max_size=10)


def split(bins: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    agreed, wrong = np.array(bins, dtype=np.int64).T
    return agreed + wrong, wrong


@given(BINS, st.integers(0, 40), st.integers(0, 9), st.integers(0, 40))
def test_whatever_agreements_and_disagreements_a_liar_invents_the_honest_counts_are_never_overstated(
    bins, cap, place, wrong
):
    honest, disagreed = split(bins)
    lie = np.zeros(10, np.int64)
    lie[place] = cap
    extra = np.zeros(10, np.int64)
    extra[place] = wrong
    got = conservative(honest + lie + extra, disagreed + extra, Deduction(probes=cap), delta=0.05)
    assert (got.seen - got.disagreed <= from_above(honest - disagreed)).all()
    assert (got.disagreed >= from_above(disagreed)).all()
    assert (got.disagreed <= got.seen).all() and (np.diff(got.seen) <= 0).all() and (np.diff(got.disagreed) <= 0).all()


@given(BINS, st.integers(0, 9), st.integers(0, 9), st.integers(0, 40))
def test_disagreements_that_a_liar_hides_anywhere_come_back(bins, room, place, cap):
    honest, disagreed = split(bins)
    lie = np.zeros(10, np.int64)
    lie[place] = room
    extra = np.zeros(10, np.int64)
    extra[place] = cap
    got = conservative(honest - lie + extra, disagreed - lie, Deduction(probes=cap, hidden=room), delta=0.05)
    assert (got.seen - got.disagreed <= from_above(honest - disagreed)).all()
    assert (got.disagreed >= from_above(disagreed)).all() and (got.disagreed <= got.seen).all()


@given(BINS)
def test_without_deductions_nothing_changes(bins):
    seen, disagreed = split(bins)
    got = conservative(seen, disagreed, Deduction(), delta=0.05)
    assert (got.seen == from_above(seen)).all() and (got.disagreed == from_above(disagreed)).all()
    assert (got.order == got.seen).all() and got.noise == (None,) * 10


@given(st.integers(0, 500), st.integers(0, 60), st.integers(0, 30), st.integers(0, 20))
def test_fewer_agreements_and_more_disagreements_never_lower_a_bound(agreed, wrong, fewer, more):
    """The monotony that deductions rest on, for both bounds."""
    fewer = min(fewer, agreed)
    before, after = (wrong, agreed + wrong), (wrong + more, agreed - fewer + wrong + more)
    if before[1] and after[1]:
        assert clopper_pearson_upper(*after, 0.05) >= clopper_pearson_upper(*before, 0.05) - 1e-12
    for weight in (0, 4_000, 91_000):  # where probes weigh 1, 2 and 10
        past = RunningBound(weight, weight // 50)
        many = past.weight
        bound = [(past + RunningBound(many * n, many * d)).upper(0.05) for d, n in (before, after)]
        assert bound[1] >= bound[0] - 1e-12


@given(st.integers(0, 100), st.integers(0, 50), st.integers(0, 100))
def test_a_pair_loses_agreements_only(agreed, wrong, probes):
    seen, disagreed = conservative_pair(agreed, wrong, probes=probes)
    assert disagreed == wrong and seen == max(agreed - probes, 0) + wrong


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
@pytest.mark.parametrize("parts", [1.0, 1.45])
@pytest.mark.parametrize("bins", [1, 10])
def test_the_law_of_the_noise_is_that_of_the_shares_that_devices_draw(epsilon, parts, bins):
    rng, miss, runs = np.random.default_rng(5), 0.02, 200_000
    draws = rng.negative_binomial(bins * parts, 1 - np.exp(-epsilon), (2, runs))
    sums = draws[0] - draws[1]
    noise = PooledNoise(epsilon, parts).over(bins)
    values, masses = noise.law()
    assert masses.sum() == pytest.approx(1, abs=1e-11) and (masses == masses[::-1]).all()
    for value in (-3, 0, 1, 4):
        assert masses[values == value].sum() == pytest.approx((sums == value).mean(), abs=0.005)
    q = noise.quantile(miss)
    assert (sums > q).mean() <= miss + 4 * np.sqrt(miss / runs)
    assert q == 0 or (sums > q - 1).mean() > miss - 4 * np.sqrt(miss / runs)


@given(st.floats(0.3, 4), st.floats(0.2, 3), st.integers(1, 10), st.floats(1e-5, 0.2))
@settings(max_examples=30, deadline=None)
def test_fewer_shares_of_noise_never_need_a_larger_quantile(epsilon, parts, bins, miss):
    whole = PooledNoise(epsilon, parts).over(bins).quantile(miss)
    assert PooledNoise(epsilon, 0.7 * parts).over(bins).quantile(miss) <= whole


@given(st.integers(0, 40), st.integers(0, 800), st.floats(0.3, 5), st.floats(0.5, 6))
@settings(max_examples=30, deadline=None)
def test_a_bound_under_noise_falls_with_agreements_and_grows_with_disagreements(wrong, agreed, epsilon, parts):
    seen, noise = agreed + wrong + 1, PooledNoise(epsilon, parts)
    bound = risk_upper(wrong, seen, 0.05, noise)
    assert 0 < bound <= 1 and risk_upper(wrong, seen + 50, 0.05, noise) <= bound + 1e-9
    assert risk_upper(wrong + 1, seen, 0.05, noise) >= bound - 1e-9


@pytest.mark.parametrize(
    ("risk", "seen", "epsilon", "parts"), [(0.05, 400, 2.0, 4.3), (0.05, 150, 1.0, 2.0), (0.02, 900, 0.5, 1.4)]
)
def test_a_bound_under_noise_is_below_the_risk_in_at_most_delta_of_runs(risk, seen, epsilon, parts):
    rng, delta, runs = np.random.default_rng(11), 0.05, 4_000
    up, down = rng.negative_binomial(parts, 1 - np.exp(-epsilon), (2, runs))
    wrong = np.maximum(rng.binomial(seen, risk, runs) + up - down, 0)
    noise = PooledNoise(epsilon, parts)
    bounds = {value: risk_upper(int(value), seen, delta, noise) for value in np.unique(wrong)}
    missed = np.mean([bounds[value] < risk for value in wrong])
    assert missed <= delta + 3 * np.sqrt(delta / runs)
    without = np.mean([risk_upper(int(value), seen, delta, None) < risk for value in wrong])
    assert without >= missed  # what noise adds to the bound is not nothing


def test_a_walk_over_noisy_counts_keeps_its_promise_and_noise_costs_little():
    rng, delta, runs, parts, epsilon = np.random.default_rng(7), 0.05, 600, 1.43, 2.0
    honest, risk = np.array([10, 10, 20, 20, 30, 40, 60, 80, 120, 250]), np.linspace(0.25, 0.005, 10)
    truth = from_above((honest * risk * 10_000).round()) / 10_000 / from_above(honest)
    false = local = clean = 0
    for _ in range(runs):
        wrong = rng.binomial(honest, risk)
        up, down = rng.negative_binomial(parts, 1 - np.exp(-epsilon), (2, 2, 10))
        agreed_noise, wrong_noise = up - down
        test = grid_test(
            honest + agreed_noise + wrong_noise,
            wrong + wrong_noise,
            max_risk=0.05,
            delta=delta,
            grid=GRID,
            deduction=Deduction(noise=PooledNoise(epsilon, parts)),
            order=from_above(honest),
        )
        exact = grid_test(honest, wrong, max_risk=0.05, delta=delta, grid=GRID)
        false += test.index is not None and truth[test.index] > 0.05
        local += 0 if test.index is None else from_above(honest)[test.index]
        clean += 0 if exact.index is None else from_above(honest)[exact.index]
    assert false / runs <= delta + 3 * np.sqrt(delta / runs)
    assert local > 0.8 * clean


def test_noise_without_exact_counts_for_the_order_is_refused():
    seen = np.full(10, 50)
    with pytest.raises(InputError, match="order"):
        grid_test(seen, seen // 20, max_risk=0.05, delta=0.05, grid=GRID, deduction=Deduction(noise=PooledNoise(2.0, 1.4)))


def test_a_liar_at_the_strictest_threshold_never_makes_a_false_one_pass_more_often_than_delta():
    rng, delta, cap, runs, false = np.random.default_rng(3), 0.05, 60, 3_000, 0
    risk = np.linspace(0.12, 0.02, 10)
    honest = np.full(10, 40)
    above = from_above(honest)
    true_risk = from_above((honest * risk * 1000).round()) / 1000 / above
    bare = 0
    for _ in range(runs):
        wrong = rng.binomial(honest, risk)
        seen = honest.copy()
        seen[-1] += cap
        for deducted in (cap, 0):
            test = grid_test(seen, wrong, max_risk=0.05, delta=delta, grid=GRID, deduction=Deduction(probes=deducted))
            is_false = test.index is not None and true_risk[test.index] > 0.05
            false, bare = (false + is_false, bare) if deducted else (false, bare + is_false)
    assert false / runs <= delta + 3 * np.sqrt(delta / runs)
    assert bare > 2 * false  # the lie works where nothing is deducted: the experiment can fail


def test_a_liar_that_hides_disagreements_never_makes_a_false_threshold_pass_more_often_than_delta():
    rng, delta, room, runs = np.random.default_rng(5), 0.05, 9, 3_000
    risk = np.linspace(0.12, 0.02, 10)
    honest = np.full(10, 60)
    truth = from_above((honest * risk * 1000).round()) / 1000 / from_above(honest)
    false = {room: 0, 0: 0}
    for _ in range(runs):
        wrong = rng.binomial(honest, risk)
        hidden = min(room, int(wrong[-1]))  # counts without noise cannot be below 0
        shown, seen = wrong.copy(), honest.copy()
        shown[-1] -= hidden
        seen[-1] -= hidden
        for corrected in false:
            test = grid_test(seen, shown, max_risk=0.05, delta=delta, grid=GRID, deduction=Deduction(hidden=corrected))
            false[corrected] += test.index is not None and truth[test.index] > 0.05
    assert false[room] / runs <= delta + 3 * np.sqrt(delta / runs)
    assert false[0] > 2 * false[room]  # the lie works where nothing is added: the experiment can fail


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError):
        Deduction(probes=-1)
    with pytest.raises(InputError):
        Deduction(hidden=-1)
    for epsilon, parts in ((0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(InputError):
            PooledNoise(epsilon, parts)
