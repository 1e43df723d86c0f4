"""The public random Hadamard rotation: orthogonal, its own shape of vectors, and flat."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from fedge.errors import InputError
from fedge.secagg.masks import key_stream
from fedge.secagg.rotation import padded_length, rotate, rotate_back, rotated_scale, rotation_seed

SEED = bytes(range(32))


def by_definition(values: np.ndarray, seed: bytes) -> np.ndarray:
    """H D times the padded vector, with scipy's matrix and signs read bit by bit."""
    size = padded_length(len(values))
    stream = key_stream(seed, size // 8 + 1)
    signs = np.array([-1.0 if stream[i // 8] >> (7 - i % 8) & 1 else 1.0 for i in range(size)])
    padded = np.concatenate([values, np.zeros(size - len(values))])
    return hadamard(size) @ (signs * padded) / math.sqrt(size)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 650, 1024])
def test_it_is_the_hadamard_matrix_times_random_signs(length):
    values = np.random.default_rng(length).standard_normal(length)
    assert rotate(values, SEED) == pytest.approx(by_definition(values, SEED), abs=1e-12)


@given(st.integers(1, 300), st.binary(min_size=32, max_size=32))
def test_norms_stay_and_the_inverse_gives_the_values_back(length, seed):
    values = np.random.default_rng(length).standard_normal(length)
    rotated = rotate(values, seed)
    assert np.linalg.norm(rotated) == pytest.approx(np.linalg.norm(values))
    assert rotate_back(rotated, seed, length) == pytest.approx(values, abs=1e-12)


def test_long_vectors_are_transformed_like_short_ones():
    length = (1 << 15) + 5  # over several blocks
    values = np.random.default_rng(1).standard_normal(length)
    rotated = rotate(values, SEED)
    assert rotate_back(rotated, SEED, length) == pytest.approx(values, abs=1e-10)
    spike = np.zeros(length)
    spike[length - 1] = 1.0
    assert np.abs(rotate(spike, SEED)) == pytest.approx(np.full(1 << 16, 2.0**-8))


@pytest.mark.parametrize(("length", "padded"), [(0, 0), (1, 1), (2, 2), (3, 4), (650, 1024), (1_000_000, 1 << 20)])
def test_vectors_are_padded_to_powers_of_two(length, padded):
    assert padded_length(length) == padded == len(rotate(np.ones(length), SEED))


def test_a_sum_of_another_length_is_refused():
    with pytest.raises(InputError, match="are not those of 5 values: 8"):
        rotate_back(np.zeros(4), SEED, 5)


def test_the_scale_lets_no_vector_be_over_four_times_the_clip_norm():
    for reals in (1, 8, 16, 17, 1024, 1 << 20):
        scale = rotated_scale(2.0, reals)
        assert scale <= 2.0 and scale * math.sqrt(reals) <= 8.0 * (1 + 1e-12)
    assert rotated_scale(2.0, 1024) == 0.25


def test_coordinates_of_a_one_sided_update_rarely_exceed_the_scale():
    length, draws = 1024, 400
    spikes = np.zeros(length)
    spikes[:3] = 1 / math.sqrt(3)
    beyond, lost = 0, 0.0
    for draw in range(draws):
        rotated = rotate(spikes, rotation_seed("a" * 64, draw, 1))
        scale = rotated_scale(1.0, length)
        beyond += int((np.abs(rotated) > scale).sum())
        lost += float(((np.abs(rotated) - scale).clip(min=0.0) ** 2).sum())
    assert beyond / (draws * length) <= 2 * math.exp(-8)
    assert math.sqrt(lost / draws) <= 0.003


def test_seeds_follow_from_release_round_and_attempt():
    seeds = {rotation_seed(*place) for place in (("a", 1, 1), ("a", 1, 2), ("a", 2, 1), ("b", 1, 1), ("a", 11, 1))}
    assert len(seeds) == 5 and all(len(seed) == 32 for seed in seeds)
