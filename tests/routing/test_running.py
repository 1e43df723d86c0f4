"""The running bound: its algebra, its closed forms, and that it holds at all times under adaptivity."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedge.errors import InputError
from fedge.routing import RunningBound, clopper_pearson_upper
from fedge.routing.running import TILTS, WEIGHTS

states = st.integers(0, 5000).flatmap(lambda n: st.builds(RunningBound, st.just(n), st.integers(0, n)))
deltas = st.floats(0.001, 0.5)


def test_tilts_and_weights_make_a_mixture():
    assert len(TILTS) == len(WEIGHTS)
    assert all(0 < c < 1 for c in TILTS)
    assert all(w > 0 for w in WEIGHTS)
    assert math.fsum(WEIGHTS) == pytest.approx(1.0, abs=1e-15)


@given(states, st.floats(0, 1))
def test_the_capital_is_the_mixture_written_out(state, risk):
    n, s, m = state.seen, state.disagreed, 1 if state.seen < 4000 else 2
    terms = [
        math.log(w) + s * math.log1p(-c) - n / m * math.log1p(-(1 - (1 - c) ** m) * risk)
        for c, w in zip(TILTS, WEIGHTS, strict=True)
    ]
    top = max(terms)
    expected = top + math.log(math.fsum(math.exp(t - top) for t in terms))
    assert state.log_capital(risk) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_capital_of_one_agreement_and_one_disagreement():
    one = RunningBound(1, 0).log_capital(0.5)
    assert one == pytest.approx(math.log(sum(w / (1 - c / 2) for c, w in zip(TILTS, WEIGHTS, strict=True))))
    other = RunningBound(1, 1).log_capital(0.5)
    assert other == pytest.approx(math.log(sum(w * (1 - c) / (1 - c / 2) for c, w in zip(TILTS, WEIGHTS, strict=True))))


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=8))
def test_the_capital_has_mean_at_most_one_whatever_the_risks(risks):
    """Exact enumeration of all outcomes: E[capital at the mean risk] <= 1, by Jensen below the martingale itself."""
    mean = math.fsum(risks) / len(risks)
    total = 0.0
    for outcome in range(2 ** len(risks)):
        bits = [(outcome >> t) & 1 for t in range(len(risks))]
        probability = math.prod(p if x else 1 - p for p, x in zip(risks, bits, strict=True))
        total += probability * math.exp(RunningBound(len(risks), sum(bits)).log_capital(mean))
    assert total <= 1 + 1e-9
    if max(risks) - min(risks) < 1e-12:
        assert total == pytest.approx(1.0)


@given(states, deltas)
def test_the_bound_solves_its_equation_and_rounds_up(state, delta):
    bound = state.upper(delta)
    assert 0 < bound <= 1
    if bound < 1:
        assert state.log_capital(bound) > -math.log(delta)
        assert state.log_capital(float(np.nextafter(bound, 0))) <= -math.log(delta)
    else:
        assert state.log_capital(1.0) <= -math.log(delta) or state.log_capital(float(np.nextafter(1, 0))) <= -math.log(delta)


@given(states, deltas)
def test_the_bound_pays_for_holding_at_all_times(state, delta):
    assert state.upper(delta) >= clopper_pearson_upper(state.disagreed, state.seen, delta) - 1e-12


@given(states.filter(lambda state: state.seen != 3999), deltas)
def test_agreement_lowers_the_bound_disagreement_raises_it_confidence_costs(state, delta):
    """While the rate stays: where it falls, the bound pays at once for the heavier probes to come."""
    bound = state.upper(delta)
    assert (state + RunningBound(1, 0)).upper(delta) <= bound
    assert (state + RunningBound(1, 1)).upper(delta) >= bound or bound == 1.0
    assert state.upper(delta / 2) >= bound


def test_nothing_seen_says_nothing():
    assert RunningBound() == RunningBound(0, 0)
    assert RunningBound().upper(0.05) == 1.0
    assert RunningBound().log_capital(0.3) == pytest.approx(0.0, abs=1e-12)


@given(states, states, states)
def test_states_add_up(a, b, c):
    assert a + b == RunningBound(a.seen + b.seen, a.disagreed + b.disagreed)
    assert (a + b) + c == a + (b + c)
    assert a + RunningBound() == a


@pytest.mark.parametrize(
    ("seen", "disagreed", "bound"),
    [(59, 0, 0.088), (300, 6, 0.052), (1000, 20, 0.035), (1500, 45, 0.044), (3000, 90, 0.040)],
)
def test_the_table_in_the_docstring_is_what_is_computed(seen, disagreed, bound):
    assert round(RunningBound(seen, disagreed).upper(0.05), 3) == bound


def test_the_bound_closes_in_on_the_mean():
    widths = [RunningBound(n, n * 3 // 100).upper(0.05) - 0.03 for n in (300, 3_000, 30_000, 300_000, 3_000_000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.003  # 0.001 if probes never got rarer


def test_a_rarer_probe_weighs_more_and_the_bound_pays_for_it():
    assert [RunningBound(seen).weight for seen in (0, 3999, 4000, 16_000, 91_000)] == [1, 1, 2, 5, 10]
    before, after = RunningBound(3999, 120).upper(0.05), RunningBound(4000, 120).upper(0.05)
    assert 1.05 < after / before < 1.15


def test_the_weighted_capital_is_at_most_each_martingale_written_out():
    """The inequality of the module's docstring: for weights up to m and any risks, never above the true martingale."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        m = int(rng.choice([1, 2, 5, 10]))
        weights = rng.integers(1, m + 1, size=30)
        risks, c = rng.random(30) ** 3, rng.choice(TILTS)
        martingale = -np.log1p(-risks * -np.expm1(weights * np.log1p(-c))).sum()
        mean = (weights * risks).sum() / weights.sum()
        assert -weights.sum() / m * np.log1p(-(1 - (1 - c) ** m) * mean) <= martingale + 1e-9


def ever_above(runs: int, *, weighted: bool) -> float:
    """Share of streams in which what was answered ever disagreed more, in the mean, than the bound at 0.9 says. 200 probes a
    round; after the rate has fallen at 4,000, the risk rises from 2 to 8 %.
    """
    rng, missed = np.random.default_rng(17), 0
    for _ in range(runs):
        state, risk_sum, answered, broken = RunningBound(), 0.0, 0.0, False
        for number in range(49):
            risk, weight = (0.02, 1) if number < 20 else (0.08, 2)
            wrong = int(rng.binomial(200, risk))
            risk_sum, answered = risk_sum + weight * 200 * risk, answered + weight * 200
            if weighted:
                assert state.weight == weight
                state += RunningBound(200 * weight, wrong * weight)
                capital = state.log_capital(risk_sum / answered)
            else:
                state += RunningBound(200, wrong)
                terms = np.log(WEIGHTS) + state.disagreed * np.log1p(-np.array(TILTS))
                terms -= state.seen * np.log1p(-np.array(TILTS) * risk_sum / answered)
                capital = float(np.log(np.exp(terms).sum()))
            broken = broken or capital > -math.log(0.1)
        missed += broken
    return missed / runs


def test_the_bound_holds_for_what_was_answered_where_the_rate_falls_before_the_risk_rises():
    assert ever_above(200, weighted=True) <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 200)
    assert ever_above(200, weighted=False) > 0.9  # why probes have weights


@pytest.mark.parametrize(("seen", "disagreed"), [(3, 4), (3, -1), (-1, 0)])
def test_counts_that_cannot_be_are_refused(seen, disagreed):
    with pytest.raises(InputError, match="disagreements among"):
        RunningBound(seen, disagreed)


@pytest.mark.parametrize("delta", [0.0, 1.0, float("nan")])
def test_delta_outside_zero_to_one_is_refused(delta):
    with pytest.raises(InputError, match="delta"):
        RunningBound(10, 1).upper(delta)


def ever_misses(rng: np.random.Generator, runs: int, steps: int, risks, delta: float) -> float:
    """Share of runs in which the bound was below the mean conditional risk at any time; ``risks(t, disagreed)`` is
    adaptive.
    """
    disagreed, mean, missed = np.zeros(runs), np.zeros(runs), np.zeros(runs, dtype=bool)
    c, w = np.array(TILTS)[:, None], np.log(np.array(WEIGHTS))[:, None]
    for t in range(1, steps + 1):
        p = risks(t, disagreed)
        mean += (p - mean) / t
        disagreed += rng.random(runs) < p
        capital = np.exp(w + disagreed * np.log1p(-c) - t * np.log1p(-c * mean)).sum(axis=0)
        missed |= capital > 1 / delta  # exactly: bound < mean
    return float(missed.mean())


@pytest.mark.parametrize(
    "risks",
    [
        lambda t, s: np.full(s.shape, 0.05),
        lambda t, s: np.full(s.shape, 0.01 + 0.05 * t / 2000),
        lambda t, s: np.full(s.shape, 0.10 / (1 + t / 400)),
        lambda t, s: np.full(s.shape, 0.002 if t % 2 else 0.12),
        lambda t, s: np.where(s < 0.04 * t, 0.08, 0.02),
        lambda t, s: np.where(s < 0.04 * t, 0.01, 0.09),
    ],
    ids=["constant", "rising", "falling", "alternating", "against the bettor", "with the bettor"],
)
def test_the_bound_ever_misses_with_probability_at_most_delta(risks):
    """2,000 runs of 2,000 probes, looked at after every one (the worst stopping rule there is), delta 0.1."""
    share = ever_misses(np.random.default_rng(5), 2000, 2000, risks, 0.1)
    assert share <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 2000)


def test_clopper_pearson_would_miss_under_the_same_peeking():
    """Why the running statement does not use it: looked at 100 times, it misses far more often than delta."""
    rng = np.random.default_rng(6)
    disagreed = np.cumsum(rng.binomial(20, 0.05, (400, 100)), axis=1)
    below = stats.binom.cdf(disagreed, 20 * np.arange(1, 101), 0.05) < 0.1  # exactly: the bound is below 0.05
    assert below.any(axis=1).mean() > 0.25
    assert below[:, -1].mean() < 0.15
