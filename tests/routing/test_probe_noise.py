import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.randomness import derive
from fedge.routing.probe_noise import ProbeNoise


def drawn(noise: ProbeNoise, count: int, label: str = "x") -> np.ndarray:
    return noise.sample(derive(b"n" * 32, label), count)


def test_the_shares_of_all_parties_add_up_to_two_sided_geometric_noise():
    """P(N = k) = (1 - a) / (1 + a) * a^|k| with a = exp(-epsilon), within five standard errors of each frequency."""
    noise, count = ProbeNoise(1.0, 6), 100_000
    total = sum(drawn(noise, count, f"party {party}") for party in range(6))
    alpha = math.exp(-1.0)
    for k in range(-4, 5):
        expected = (1 - alpha) / (1 + alpha) * alpha ** abs(k)
        assert abs((total == k).mean() - expected) < 5 * math.sqrt(expected / count)


def test_one_party_more_only_adds_noise():
    few, many = (sum(drawn(ProbeNoise(1.0, 6), 50_000, f"{party}") for party in range(n)).var() for n in (6, 9))
    assert many == pytest.approx(1.5 * few, rel=0.1)


@given(st.floats(0.05, 20), st.integers(1, 128), st.integers(0, 200))
def test_a_share_stays_within_the_bound_and_comes_from_the_seed_alone(epsilon, parties, count):
    noise = ProbeNoise(epsilon, parties)
    shares = drawn(noise, count)
    assert shares.dtype == np.int64 and shares.shape == (count,)
    assert (abs(shares) <= noise.bound).all()
    assert shares.tolist() == drawn(noise, count).tolist()


@pytest.mark.parametrize(
    ("epsilon", "parties", "remedy"), [(0.0, 3, "choose 0.05"), (21.0, 3, "choose"), (1.0, 0, "at least 1")]
)
def test_noise_that_cannot_be_is_refused(epsilon, parties, remedy):
    with pytest.raises(InputError, match=remedy):
        ProbeNoise(epsilon, parties)
