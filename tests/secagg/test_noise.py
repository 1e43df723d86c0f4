"""Distributed differential privacy: the sampler, the norm that is kept, the room in the ring."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from secagg_cohort import config_of, raises

from fedge.errors import InputError
from fedge.secagg import CodecError, decode, encode, noise, threshold

SEED, SECRET = bytes(range(32)), bytes(range(32, 64))
NOTHING = np.zeros(0, dtype=np.int64)


def noisy(n=32, *, reals=200, multiplier=1.0, **changes):
    values = {"n_min": threshold(n), "reals": reals, "integers": 0, "scale": 1.0, "clip_norm": 1.0}
    return config_of(n, **{**values, **changes, "noise_multiplier": multiplier})


def probabilities(sigma, bound):
    """The discrete Gaussian by its definition."""
    steps = np.arange(-bound, bound + 1)
    weights = np.exp(-(steps.astype(float) ** 2) / (2 * sigma**2))
    return steps, weights / weights.sum()


@pytest.mark.parametrize("sigma", [0.7, 2.5, 4.0, 63.07])
@pytest.mark.parametrize("seed", [SEED, SECRET])
def test_samples_follow_the_discrete_gaussian(sigma, seed):
    count = 200_000
    drawn = noise.sample(seed, count, sigma)
    steps, expected = probabilities(sigma, noise.tail(sigma))
    observed = np.bincount(drawn - steps[0], minlength=len(steps))
    often = expected * count >= 20
    observed = np.append(observed[often], observed[~often].sum())
    expected = np.append(expected[often], expected[~often].sum()) * count
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4


def test_the_chi_square_test_would_see_a_wrong_sigma():
    drawn = noise.sample(SEED, 200_000, 4.0)
    steps, expected = probabilities(4.1, noise.tail(4.0))
    observed = np.bincount(drawn - steps[0], minlength=len(steps))
    often = expected * 200_000 >= 20
    assert stats.chisquare(observed[often], expected[often] * observed[often].sum() / expected[often].sum()).pvalue < 1e-9


@pytest.mark.parametrize("sigma", [0.5, 1.0, 37.2])
def test_the_table_is_exact_to_the_last_bits_of_a_word(sigma):
    import mpmath

    mpmath.mp.prec = 160
    bound = noise.tail(sigma)
    weights = [mpmath.exp(-(mpmath.mpf(k) ** 2) / (2 * mpmath.mpf(sigma) ** 2)) for k in range(-bound, bound + 1)]
    total, below = mpmath.fsum(weights), mpmath.mpf(0)
    table = noise._table(sigma)
    for weight, threshold_word in zip(weights[:-1], table.tolist(), strict=True):
        below += weight
        assert abs(int(mpmath.floor(below / total * 2**64)) - threshold_word) <= 1
    assert 2 * mpmath.nsum(lambda k: mpmath.exp(-(k**2) / (2 * sigma**2)), [bound + 1, mpmath.inf]) / total < 2**-63


def test_extreme_words_draw_the_extremes_and_every_draw_is_within_the_tail(monkeypatch):
    words = np.array([0, 2**64 - 1, 2**63], dtype="<u8")
    monkeypatch.setattr(noise, "key_stream", lambda seed, size: words.tobytes())
    bound = noise.tail(4.0)
    low, high, middle = noise.sample(SEED, 3, 4.0)
    assert -bound <= low < -8 * 4 and 8 * 4 < high <= bound and abs(middle) <= 1


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("bits", [16, 32])
def test_value_and_noise_fit_the_ring_and_one_step_more_would_not(multiplier, bits):
    config = noisy(bits=bits, multiplier=multiplier)
    assert config.cohort_max * 2 * config.offset < 2**bits
    assert config.offset == config.quantum + noise.tail(config.noise_sigma) <= config.half
    above = noise.device_sigma(multiplier, config.quantum + 1, config.reals, config.honest)
    assert above > noise.SIGMA_LIMIT or config.quantum + 1 + noise.tail(above) > config.half


def test_the_honest_survivors_noise_makes_up_the_promised_multiplier_for_every_roster_and_colluders():
    for n_min, cohort_max in ((2, 6), (11, 32), (22, 32), (11, 128)):
        config = noisy(cohort_max, n_min=n_min, multiplier=1.5)
        sensitivity = noise.rounded_norm(config.quantum, config.reals)
        least = math.inf
        for n in range(n_min, cohort_max + 1):
            honest = max(n_min, threshold(n)) - (n - 1) // 3
            least = min(least, config.noise_sigma * math.sqrt(honest) / sensitivity)
        assert least == pytest.approx(1.5)


@settings(max_examples=30, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), norm=st.floats(0.0, 5.0), spread=st.integers(0, 199))
def test_without_its_noise_an_encoded_update_never_exceeds_the_norm_that_is_accounted_for(seed, norm, spread):
    config = noisy()
    values = np.zeros(200)
    values[: spread + 1] = norm / math.sqrt(spread + 1)
    vector = encode(values, NOTHING, config, seed, SECRET)
    steps = vector[:-1].astype(np.int64) - config.offset - noise.sample(SECRET, 200, config.noise_sigma)
    assert math.sqrt(float(np.dot(steps, steps))) <= noise.rounded_norm(config.quantum, 200)


def test_a_sum_is_the_clipped_updates_and_the_noise_of_all():
    config = noisy(16, reals=2_000)
    rng = np.random.default_rng(5)
    update = rng.normal(size=2_000)
    update /= np.linalg.norm(update)
    total = np.zeros(config.length, dtype="<u4")
    for device in range(16):
        total += encode(update * 3.0, NOTHING, config, bytes([device]) * 32, bytes([100 + device]) * 32)
    error = (decode(total, 16, config).reals - 16 * update) * config.quantum / config.scale
    expected = config.noise_sigma * math.sqrt(16)
    assert np.std(error) == pytest.approx(expected, rel=0.1)
    assert abs(np.mean(error)) < 4 * expected / math.sqrt(2_000)


def test_noise_needs_its_own_secret_and_other_secrets_give_other_noise():
    config = noisy()
    with raises(CodecError, "the session asks for noise and there is no seed for it"):
        encode(np.zeros(200), NOTHING, config, SEED)
    first = encode(np.zeros(200), NOTHING, config, SEED, SEED)
    assert first.tolist() == encode(np.zeros(200), NOTHING, config, SEED, SEED).tolist()
    assert first.tolist() != encode(np.zeros(200), NOTHING, config, SEED, SECRET).tolist()


def test_noise_that_does_not_fit_is_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"leaves no room in the ring.*take 32 bits"):
        noisy(64, reals=57_000, multiplier=3.0, bits=16)


def test_the_norm_after_rounding_is_the_published_bound():
    # Kairouz, Liu and Steinke 2021, Theorem 1 with beta = exp(-1/2); the other branch where few values are rounded.
    assert noise.rounded_norm(100, 10_000) == pytest.approx(math.sqrt(100**2 + 10_000 / 4 + 100 + 50))
    assert noise.rounded_norm(3, 1) == pytest.approx(min(4.0, math.sqrt(9 + 0.25 + 3 + 0.5)))
