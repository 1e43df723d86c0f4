"""The exact binomial bound against another implementation, and the walk down the grid: what it finds and that it holds."""

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from math import comb

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from fedge.errors import InputError
from fedge.routing import DEFAULT_GRID, GridTest, clopper_pearson_upper, grid_test, probes_needed
from fedge.routing.certificate import START_ALLOWANCE, binomial_cdf, grid_test_at

GRID = (0.2, 0.4, 0.6, 0.8)
counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.floats(1e-6, 0.999))
def test_the_bound_equals_the_beta_quantile(pair, delta):
    disagreed, seen = pair
    expected = 1.0 if disagreed == seen else stats.beta.ppf(1 - delta, disagreed + 1, seen - disagreed)
    assert clopper_pearson_upper(disagreed, seen, delta) == pytest.approx(expected, rel=1e-9)


@given(counts, st.floats(0, 1))
@example((22, 924), 0.546875)  # 1.7e-272: SciPy's own value is off by 2e-8 there
def test_the_tail_equals_the_binomial_distribution(pair, risk):
    disagreed, seen = pair
    with localcontext(Context(prec=60, Emin=MIN_EMIN, Emax=MAX_EMAX)):
        p = Decimal(risk)
        terms = (comb(seen, k) * p**k * (1 - p) ** (seen - k) for k in range(disagreed + 1))
        expected = 1.0 if disagreed == seen else float(sum(terms)) if 0 < risk < 1 else 1 - risk
    assert binomial_cdf(disagreed, seen, risk) == pytest.approx(expected, rel=1e-9, abs=1e-280)


def test_the_tail_at_its_ends():
    assert binomial_cdf(3, 10, 0.0) == 1.0
    assert binomial_cdf(3, 10, 1.0) == 0.0
    assert binomial_cdf(10, 10, 1.0) == 1.0
    assert binomial_cdf(0, 0, 0.5) == 1.0
    assert binomial_cdf(0, 2, 0.25) == pytest.approx(0.5625)
    assert binomial_cdf(1, 2, 0.25) == pytest.approx(0.9375)


@given(counts, st.floats(1e-4, 0.5))
def test_the_bound_is_rounded_towards_caution(pair, delta):
    disagreed, seen = pair
    bound = clopper_pearson_upper(disagreed, seen, delta)
    assert disagreed / seen <= bound <= 1.0
    assert disagreed == seen or binomial_cdf(disagreed, seen, bound) < delta
    assert disagreed == seen or binomial_cdf(disagreed, seen, float(np.nextafter(bound, 0))) >= delta


def test_without_disagreements_the_bound_is_a_root():
    for n in (1, 59, 1000):
        assert clopper_pearson_upper(0, n, 0.05) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-12)


def test_without_evidence_nothing_is_known():
    assert clopper_pearson_upper(0, 0, 0.05) == 1.0
    assert clopper_pearson_upper(7, 7, 0.05) == 1.0


def test_probes_needed_for_known_allowances():
    assert [probes_needed(0.05, 0.05, k) for k in range(4)] == [59, 93, 124, 153]
    assert probes_needed(0.01, 0.05) == 299
    assert probes_needed(0.6, 0.5) == 1


@given(st.floats(0.005, 0.6), st.floats(0.001, 0.5), st.integers(0, 12))
def test_probes_needed_is_the_smallest_number_that_passes(max_risk, delta, allowed):
    n = probes_needed(max_risk, delta, allowed)
    assert n > allowed
    assert stats.binom.cdf(allowed, n, max_risk) <= delta * (1 + 1e-9)
    assert n == allowed + 1 or stats.binom.cdf(allowed, n - 1, max_risk) > delta * (1 - 1e-9)


@pytest.mark.parametrize(("disagreed", "seen"), [(-1, 3), (4, 3), (0, -1)])
def test_counts_that_cannot_be_are_refused(disagreed, seen):
    with pytest.raises(InputError, match="disagreements among"):
        clopper_pearson_upper(disagreed, seen, 0.05)
    with pytest.raises(InputError, match="disagreements among"):
        binomial_cdf(disagreed, seen, 0.5)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_probabilities_outside_zero_to_one_are_refused(value):
    with pytest.raises(InputError, match="delta"):
        clopper_pearson_upper(0, 3, value)
    with pytest.raises(InputError, match="delta"):
        probes_needed(0.05, value)
    with pytest.raises(InputError, match="max_risk"):
        probes_needed(value, 0.05)
    with pytest.raises(InputError, match="max_risk"):
        walk([1, 1, 1, 1], [0, 0, 0, 0], max_risk=value)
    with pytest.raises(InputError, match="delta"):
        walk([1, 1, 1, 1], [0, 0, 0, 0], delta=value)


def walk(seen, disagreed, max_risk=0.05, delta=0.05) -> GridTest:
    return grid_test(np.array(seen), np.array(disagreed), max_risk=max_risk, delta=delta, grid=GRID)


def test_the_walk_goes_down_until_the_first_failure():
    """Cumulative from above: 200 probes with 1 error, 300 with 3, 400 with 8, 500 with 40."""
    result = walk([100, 100, 100, 200], [32, 5, 2, 1])
    assert result == GridTest(1, 0.4, 400, 8, clopper_pearson_upper(8, 400, 0.05), 4)
    assert result.bound < 0.05


def test_a_failure_ends_the_walk_even_where_a_lower_threshold_would_pass():
    """59 clean probes suffice, the next bin is bad, the lowest would pass alone."""
    seen, disagreed = [2000, 40, 40, 120], [0, 0, 20, 0]
    assert clopper_pearson_upper(20, 2200, 0.05) < 0.05
    result = walk(seen, disagreed)
    assert (result.index, result.seen, result.disagreed) == (
        0,
        2200,
        20,
    )  # the start needs more than the 200 above
    result = walk([150, 40, 40, 120], disagreed)
    assert result.index == 3
    assert result.tested == 2


def test_too_few_probes_certify_nothing():
    assert walk([0, 0, 0, 58], [0, 0, 0, 0]) == GridTest(None, None, 0, 0, None, 0)
    assert walk([0, 0, 0, 0], [0, 0, 0, 0]).tested == 0
    assert walk([0, 0, 0, 59], [0, 0, 0, 0]) == GridTest(0, 0.2, 59, 0, clopper_pearson_upper(0, 59, 0.05), 4)
    assert walk([59, 0, 0, 0], [0, 0, 0, 0]) == GridTest(0, 0.2, 59, 0, clopper_pearson_upper(0, 59, 0.05), 1)
    assert walk([0, 0, 0, 59], [0, 0, 0, 1]) == GridTest(None, None, 0, 0, None, 1)


@pytest.mark.parametrize("allowed", range(1, START_ALLOWANCE + 1))
def test_the_start_bears_as_many_disagreements_as_a_third_of_the_probes(allowed):
    """``tested`` tells where the walk started: 4 from the strictest threshold, 3 from the next."""
    need, fewer = probes_needed(0.05, 0.05, allowed), probes_needed(0.05, 0.05, allowed - 1)
    total = 3 * need
    assert walk([total - need, 0, 0, need], [0, 0, 0, allowed]).tested == 4
    assert walk([total - need, 0, 1, need - 1], [0, 0, 0, 0]).tested == 3  # one probe short above: starts lower
    assert walk([total - need, 0, 1, need - 1], [0, 0, 0, allowed]).index == 0  # where as many disagreements pass
    # one probe less in all: a third bears one disagreement less, and the start lies where that many pass
    assert walk([total - 1 - fewer, 0, 0, fewer], [0, 0, 0, 0]).tested == 4
    assert walk([total - 1 - fewer, 0, 1, fewer - 1], [0, 0, 0, 0]).tested == 3


def test_the_start_never_bears_more_than_its_allowance():
    most = probes_needed(0.05, 0.05, START_ALLOWANCE)
    assert walk([100_000, 0, 0, most], [0, 0, 0, 0]).tested == 4
    assert walk([100_000, 0, 1, most - 1], [0, 0, 0, 0]).tested == 3


def test_a_walk_answers_for_every_threshold_that_it_passed_and_no_other():
    """The first walk passes 0.8, 0.6 and 0.4 and fails at 0.2; the second starts at 0.6, for lack of probes above."""
    seen, disagreed = [100, 100, 100, 200], [32, 5, 2, 1]
    passed = walk(seen, disagreed)
    at = [grid_test_at(passed, index, seen, disagreed, delta=0.05, grid=GRID) for index in range(4)]
    assert at[0] is None
    assert [(one.threshold, one.seen, one.disagreed) for one in at[1:]] == [(0.4, 400, 8), (0.6, 300, 3), (0.8, 200, 1)]
    assert at[1] == passed and at[3].bound == clopper_pearson_upper(1, 200, 0.05)
    seen = [100, 100, 190, 10]
    passed = walk(seen, [0, 0, 0, 0])
    assert (passed.index, passed.tested) == (0, 3)
    assert grid_test_at(passed, 2, seen, [0, 0, 0, 0], delta=0.05, grid=GRID).seen == 200
    assert grid_test_at(passed, 3, seen, [0, 0, 0, 0], delta=0.05, grid=GRID) is None
    assert grid_test_at(walk([1] * 4, [0] * 4), 3, [1] * 4, [0] * 4, delta=0.05, grid=GRID) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=40, max_size=40), st.data())
def test_the_found_threshold_passes_its_own_bound_and_all_stricter_ones_do(seen, data):
    disagreed = [data.draw(st.integers(0, n // 8)) for n in seen]
    result = grid_test(seen, disagreed, max_risk=0.1, delta=0.1)
    if result.index is None:
        assert result == GridTest(None, None, 0, 0, None, result.tested)
        return
    assert result.threshold == DEFAULT_GRID[result.index]
    assert result.seen == sum(seen[result.index :])
    assert result.disagreed == sum(disagreed[result.index :])
    for index in range(result.index, result.index + result.tested - (result.index > 0)):
        assert clopper_pearson_upper(sum(disagreed[index:]), sum(seen[index:]), 0.1) <= 0.1
    if result.index > 0:
        below = result.index - 1
        assert clopper_pearson_upper(sum(disagreed[below:]), sum(seen[below:]), 0.1) > 0.1


@pytest.mark.parametrize(
    ("seen", "disagreed"),
    [
        ([1, 2, 3], [0, 0, 0]),
        ([1] * 4, [0] * 3),
        ([1] * 3, [0] * 4),
        ([1] * 4, [2, 0, 0, 0]),
        ([1] * 4, [0, 0, 0, -1]),
        ([-1, 1, 1, 1], [-1, 0, 0, 0]),
        ([1.0] * 4, [0] * 4),
        ([1] * 4, [0.0] * 4),
    ],
)
def test_bins_that_cannot_be_are_refused(seen, disagreed):
    with pytest.raises(InputError, match=r"count|thresholds"):
        walk(seen, disagreed)


@pytest.mark.parametrize("shape", ["steep", "flat", "rising at the top"])
def test_a_false_statement_is_rarer_than_delta(shape):
    """400 draws of 600 probes. The risk of the answers that would stay local, given their bins, against max_risk."""
    size, delta, max_risk = len(DEFAULT_GRID), 0.1, 0.05
    x = np.linspace(0, 1, size)
    risks = {"steep": 0.3 * (1 - x) ** 3, "flat": np.full(size, 0.052), "rising at the top": 0.02 + 0.1 * x**4}[shape]
    rng = np.random.default_rng(11)
    false = 0
    for _ in range(400):
        seen = rng.multinomial(600, np.full(size, 1 / size))
        disagreed = rng.binomial(seen, risks)
        result = grid_test(seen, disagreed, max_risk=max_risk, delta=delta)
        if result.index is not None:
            kept = slice(result.index, None)
            false += (seen[kept] * risks[kept]).sum() / seen[kept].sum() > max_risk
    assert false <= 400 * delta + 3 * np.sqrt(400 * delta * (1 - delta))
