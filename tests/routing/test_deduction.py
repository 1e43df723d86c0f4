"""What is taken off probe counts keeps every bound valid: against liars at their worst place, and under the devices' noise."""

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

GRID = tuple(round(0.05 + 0.09 * i, 3) for i in range(10))
BINS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=10, max_size=10)


def split(bins: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    agreed, wrong = np.array(bins, dtype=np.int64).T
    return agreed + wrong, wrong


@given(BINS, st.integers(0, 40), st.integers(0, 9), st.integers(0, 40))
def test_whatever_agreements_and_disagreements_a_liar_invents_the_honest_counts_are_never_overstated(bins, cap, place, wrong):
    honest, disagreed = split(bins)
    lie = np.zeros(10, np.int64)
    lie[place] = cap
    extra = np.zeros(10, np.int64)
    extra[place] = wrong
    got = conservative(honest + lie + extra, disagreed + extra, Deduction(probes=cap), delta=0.05)
    assert (got.seen - got.disagreed <= from_above(honest - disagreed)).all()
    assert (got.disagreed >= from_above(disagreed)).all()
    assert (got.disagreed <= got.seen).all() and (np.diff(got.seen) <= 0).all() and (np.diff(got.disagreed) <= 0).all()


@given(BINS)
def test_without_deductions_nothing_changes(bins):
    seen, disagreed = split(bins)
    got = conservative(seen, disagreed, Deduction(), delta=0.05)
    assert (got.seen == from_above(seen)).all() and (got.disagreed == from_above(disagreed)).all()
    assert (got.order == got.seen).all() and not got.noise.any()


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
def test_a_quantile_is_the_smallest_that_noise_exceeds_seldom_enough(epsilon, parts, bins):
    noise, rng, miss, runs = PooledNoise(epsilon, parts), np.random.default_rng(5), 0.02, 200_000
    draws = rng.negative_binomial(bins * parts, 1 - np.exp(-epsilon), (2, runs))
    sums = draws[0] - draws[1]
    q = noise.quantile(bins, miss)
    assert (sums > q).mean() <= miss + 4 * np.sqrt(miss / runs)
    assert q == 0 or (sums > q - 1).mean() > miss - 4 * np.sqrt(miss / runs)


@given(st.floats(0.3, 4), st.floats(0.2, 3), st.integers(1, 10), st.floats(1e-5, 0.2))
@settings(max_examples=60, deadline=None)
def test_fewer_shares_of_noise_never_need_a_larger_quantile(epsilon, parts, bins, miss):
    whole = PooledNoise(epsilon, parts).quantile(bins, miss)
    assert PooledNoise(epsilon, 0.7 * parts).quantile(bins, miss) <= whole


@pytest.mark.parametrize("parts", [1.0, 1.4])
def test_all_thresholds_are_covered_at_once_in_the_stated_share_of_runs(parts):
    rng, delta, epsilon, runs = np.random.default_rng(11), 0.05, 1.0, 4_000
    seen, disagreed = np.arange(100, 50, -5), np.arange(10, 0, -1)
    missed = 0
    for _ in range(runs):
        up, down = rng.negative_binomial(parts, 1 - np.exp(-epsilon), (2, 2, 10))
        agreed_noise, wrong_noise = up - down
        got = conservative(
            seen + agreed_noise + wrong_noise,
            disagreed + wrong_noise,
            Deduction(noise=PooledNoise(epsilon, parts)),
            delta=delta,
        )
        missed += (got.seen - got.disagreed > from_above(seen - disagreed)).any() or (
            got.disagreed < from_above(disagreed)
        ).any()
    assert missed / runs <= 0.1 * delta + 3 * np.sqrt(0.1 * delta / runs)


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


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError):
        Deduction(probes=-1)
    for epsilon, parts in ((0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(InputError):
            PooledNoise(epsilon, parts)
