"""The confidence sequences that ours is compared with are what their papers say, and the comparison finds what is wrong."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from benchmarks.confidence_sequences import (
    PRIOR,
    SEQUENCES,
    STREAMS,
    beta_binomial,
    betting,
    draws,
    empirical_bernstein,
    fixed_tilts,
    hoeffding,
    one_look,
    stitched,
    upper,
)
from fedge.routing import RunningBound, clopper_pearson_upper

BITS = np.random.default_rng(5).random((4, 300)) < 0.04


def named(name: str):
    return next(sequence for sequence in SEQUENCES if sequence.name.startswith(name))


def test_ours_and_clopper_pearson_are_the_bounds_that_the_certificate_uses():
    for bound, of in zip(upper(named("fixed"), BITS, 0.05), BITS.sum(axis=1), strict=True):
        assert bound == pytest.approx(RunningBound(300, int(of)).upper(0.05), abs=2e-5)
    for bound, of in zip(upper(named("Clopper"), BITS, 0.05), BITS.sum(axis=1), strict=True):
        assert bound == pytest.approx(clopper_pearson_upper(int(of), 300, 0.05), abs=2e-5)


@pytest.mark.parametrize("v", [1.0, 30.0, 4_000.0])
def test_the_stitched_boundary_has_the_constants_that_its_paper_prints(v):
    printed = 1.7 * math.sqrt(v * (math.log(math.log(2 * v)) + 0.72 * math.log(5.2 / 0.05)))
    assert stitched(np.array([v]), 0.05, scale=0.0)[0] == pytest.approx(printed, rel=0.01)
    assert stitched(np.array([v]), 0.05, scale=1.0)[0] > printed


def test_the_bounds_of_the_stitched_boundaries_are_the_mean_and_the_boundary():
    mean, n = BITS.mean(axis=1), BITS.shape[1]
    expected = mean + stitched(np.full(4, n / 4), 0.05, scale=0.0) / n
    np.testing.assert_allclose(upper(named("stitched H"), BITS, 0.05), expected, atol=2e-5)
    seconds = [sum((x - (row[:i].sum() + 0.5) / (i + 1)) ** 2 for i, x in enumerate(row)) for row in BITS.astype(float)]
    expected = mean + stitched(np.array(seconds), 0.05, scale=1.0) / n
    np.testing.assert_allclose(upper(named("stitched e"), BITS, 0.05), expected, atol=2e-5)


def test_the_beta_binomial_capital_is_its_integral():
    s, n, p = 3, 60, 0.2
    x = np.arange(n)[None, :] < s
    cut = stats.beta.cdf(p, *PRIOR)
    ratio = lambda risk: (risk / p) ** s * ((1 - risk) / (1 - p)) ** (n - s) * stats.beta.pdf(risk, *PRIOR) / cut  # noqa: E731
    capital = integrate.quad(ratio, 0, p)[0]
    assert beta_binomial(x, np.array([p]), 1 / (capital * 0.999))
    assert not beta_binomial(x, np.array([p]), 1 / (capital * 1.001))


@pytest.mark.parametrize("excludes", [betting, beta_binomial, fixed_tilts])
def test_no_capital_excludes_a_constant_risk_more_often_than_delta(excludes):
    """Exactly, over all outcomes of 12 probes, at every delta that Markov's inequality speaks of."""
    outcomes = np.array(list(itertools.product([False, True], repeat=12)))
    for risk, delta in itertools.product((0.3, 0.6, 0.9), (0.05, 0.2, 0.5)):
        chance = risk ** outcomes.sum(axis=1) * (1 - risk) ** (~outcomes).sum(axis=1)
        assert chance[excludes(outcomes, np.full(len(outcomes), risk), delta)].sum() <= delta
    assert excludes(np.zeros((1, 60), dtype=bool), np.array([0.9]), 0.05).all()


def test_the_comparison_catches_what_is_not_valid():
    rng = np.random.default_rng(9)

    def ever(excludes, x, means) -> float:
        return np.any([excludes(x[:, :n], means[:, n - 1], 0.05) for n in range(50, 3_001, 50)], axis=0).mean()

    constant = draws(STREAMS["constant 5 %"], 150, rng)
    rising = draws(STREAMS["rising, 1 to 9 %"], 150, rng)
    assert ever(one_look, *constant) > 0.12  # one look only
    assert ever(betting, *rising) > 0.5  # a constant risk only
    for excludes in (fixed_tilts, hoeffding, empirical_bernstein):
        assert ever(excludes, *constant) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)
        assert ever(excludes, *rising) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)
