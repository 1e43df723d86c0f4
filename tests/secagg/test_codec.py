import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_cohort import config_of, raises

from fedge.errors import InputError
from fedge.secagg import CodecError, SessionConfig, codec, decode, encode, threshold, weighted_update

SEED = bytes(range(32))


def encode_reals(values, config, seed=SEED):
    return encode(np.array(values), np.zeros(0, dtype=int), config, seed)


@pytest.mark.parametrize(
    ("bits", "by_cohort"),
    [
        (16, {16: 2_047, 32: 1_023, 64: 511, 128: 255}),
        (32, {16: 134_217_727, 32: 67_108_863, 64: 33_554_431, 128: 16_777_215}),
    ],
)
def test_quantum_is_that_of_the_specification(bits, by_cohort):
    assert {n: config_of(n, bits=bits).quantum for n in by_cohort} == by_cohort


@pytest.mark.parametrize("bits", [16, 32])
def test_n_max_values_of_2q_never_wrap_and_one_more_could(bits):
    for n in range(2, 129):
        quantum = config_of(n, bits=bits).quantum
        assert n * 2 * quantum < 2**bits <= n * 2 * (quantum + 1)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("n", [2, 16, 128])
def test_extremes_at_n_max_sum_exactly(bits, n):
    config = config_of(n, bits=bits, reals=3, integers=1)
    largest = config.largest_integer
    top = encode(np.array([1.0, -1.0, 0.0]), np.array([largest]), config, SEED)
    assert top[:2].tolist() == [2 * config.quantum, 0]
    total = np.zeros_like(top)
    for _ in range(n):
        total += top
    assert total[3:-1].tolist() == ([2 * config.quantum * n] if bits == 32 else [255 * n] * 3)
    decoded = decode(total, n, config)
    np.testing.assert_array_equal(decoded.reals[:2], [n, -n])
    np.testing.assert_array_equal(decoded.integers, [largest * n])
    assert decoded.reals.dtype == np.float64 and decoded.integers.dtype == np.int64


@given(
    values=st.lists(st.floats(-2, 2), min_size=1, max_size=20),
    bits=st.sampled_from([16, 32]),
    scale=st.sampled_from([0.01, 1.0, 1.5]),
    seed=st.binary(min_size=32, max_size=32),
)
def test_a_real_comes_back_within_one_step_of_its_clipped_value(values, bits, scale, seed):
    config = config_of(4, bits=bits, reals=len(values), integers=0, scale=scale)
    decoded = decode(encode_reals(values, config, seed), 1, config).reals
    np.testing.assert_allclose(decoded, np.clip(values, -scale, scale), atol=scale / config.quantum, rtol=0)


@given(data=st.data(), bits=st.sampled_from([16, 32]), n=st.integers(1, 16))
def test_integers_sum_exactly(data, bits, n):
    config = config_of(16, bits=bits, reals=0, integers=4)
    rows = data.draw(
        st.lists(st.lists(st.integers(0, config.largest_integer), min_size=4, max_size=4), min_size=n, max_size=n)
    )
    empty = np.zeros(config.length, dtype=f"<u{bits // 8}")
    total = sum((encode(np.zeros(0), np.array(row), config, SEED) for row in rows), empty)
    assert total[-1] == n
    np.testing.assert_array_equal(decode(total, n, config).integers, np.sum(rows, axis=0))


@settings(max_examples=20)
@given(seeds=st.lists(st.binary(min_size=32, max_size=32), min_size=3, max_size=3, unique=True))
def test_rounding_errors_of_many_draws_cancel(seeds):
    # 4,000 copies of a value that lies 0.3 above a step: rounding up has probability 0.3, standard error 0.0072.
    config = config_of(16, bits=16, reals=4_000, integers=0)
    value = 10.3 / config.quantum
    for seed in seeds:
        steps = encode_reals(np.full(4_000, value), config, seed)[:-1].astype(int) - config.quantum
        assert set(steps) == {10, 11}
        assert abs(np.mean(steps == 11) - 0.3) < 6 * 0.0072


def test_rounding_uses_the_chacha20_stream_of_the_seed():
    config = config_of(2, bits=16, reals=40, integers=0)
    words = np.frombuffer(codec.key_stream(SEED, 160), dtype="<u4") / 2**32
    value = 0.5 / config.quantum
    expected = np.floor(0.5 + words) + config.quantum
    np.testing.assert_array_equal(encode_reals([value] * 40, config)[:40], expected)
    assert set(expected - config.quantum) == {0, 1}


def test_a_value_on_a_step_is_not_rounded_up():
    config = config_of(2, bits=16, reals=1_000, integers=0)
    for step in (-3, 0, 5):
        assert set(encode_reals(np.full(1_000, step / config.quantum), config)[:-1]) == {step + config.quantum}


def test_values_beyond_the_scale_are_clipped():
    config = config_of(2, bits=16, reals=4, integers=0, scale=0.5)
    q = config.quantum
    assert encode_reals([0.5, 9.0, -0.5, -9.0], config)[:4].tolist() == [2 * q, 2 * q, 0, 0]


def test_the_layout_is_reals_integers_tripwire():
    config = config_of(2, bits=32, reals=1, integers=2)
    vector = encode(np.array([1.0], dtype=np.float32), np.array([7, 8], dtype=np.uint16), config, SEED)
    assert vector.tolist() == [2 * config.quantum, 7, 8, 1] and vector.dtype == np.dtype("<u4")
    assert config.length == 4 and config.vector_bytes == vector.nbytes == 16
    short = config_of(2, bits=16, reals=1, integers=2)
    vector = encode(np.array([-1.0]), np.array([7, 0x030201]), short, SEED)
    assert vector.tolist() == [0, 7, 0, 0, 1, 2, 3, 1] and vector.dtype == np.dtype("<u2")
    assert short.length == 8 and short.vector_bytes == vector.nbytes == 16


@pytest.mark.parametrize(
    ("reals", "integers", "message"),
    [
        ([0.0], [1], "reals and integers have shapes (1,) and (1,), expected [2] and [1]"),
        ([0.0, 0.0], [1, 1], "reals and integers have shapes (2,) and (2,), expected [2] and [1]"),
        ([[0.0, 0.0]], [1], "reals and integers have shapes (1, 2) and (1,), expected [2] and [1]"),
        ([0.0, math.nan], [1], "the reals hold a value that is not finite"),
        ([math.inf, 0.0], [1], "the reals hold a value that is not finite"),
        ([0.0, 0.0], [1.0], "the integers have dtype float64, expected a whole-number type"),
        ([0.0, 0.0], [True], "the integers have dtype bool, expected a whole-number type"),
        ([0.0, 0.0], [-1], "an integer lies outside [0, 16777215]: from -1 to -1"),
        ([0.0, 0.0], [1 << 24], "an integer lies outside [0, 16777215]: from 16777216 to 16777216"),
    ],
)
def test_what_cannot_be_encoded_is_refused(reals, integers, message):
    config = config_of(2, bits=16, reals=2, integers=1)
    assert config.quantum == 16383
    with raises(CodecError, message):
        encode(np.array(reals), np.array(integers), config, SEED)


def test_decode_refuses_what_cannot_be_a_sum():
    config = config_of(3, bits=32, reals=1, integers=1)
    q = config.quantum
    good = np.array([4 * q, 4 * q, 2], dtype="<u4")
    assert decode(good, 2, config).reals.tolist() == [2.0]
    for total, survivors, message in (
        (good, 3, "the tripwire counts 2 devices where 3 delivered: the sum is worthless"),
        (good, 1, "the tripwire counts 2 devices where 1 delivered: the sum is worthless"),
        (good, 0, "0 survivors: the encoding has room for 1 to 3"),
        (good, 4, "4 survivors: the encoding has room for 1 to 3"),
        (good[:2], 2, "the sum is uint32 (2,), expected uint32 [3]"),
        (good.astype("<u2"), 2, "the sum is uint16 (3,), expected uint32 [3]"),
    ):
        with raises(CodecError, message):
            decode(total, survivors, config)


def test_coordinates_that_no_sum_of_updates_has_are_clipped_around_the_ring_and_counted():
    config = config_of(4, bits=32, reals=3, integers=2)
    q = config.quantum
    lied = [4 * q + 1, (1 << 32) - 1, 2 * q, 4 * q + 2, (1 << 32) - 5]
    decoded = decode(np.array([*lied, 2], dtype="<u4"), 2, config)
    assert decoded.reals.tolist() == [2.0, -2.0, 0.0]
    assert decoded.integers.tolist() == [4 * q, 0]
    assert decoded.out_of_range == 4
    assert (decoded + decoded).out_of_range == 8


@given(st.integers(2, 8), st.sampled_from([16, 32]), st.binary(min_size=24, max_size=24))
def test_no_vector_of_one_device_makes_the_sum_of_an_update_undecodable(n, bits, vector):
    config = config_of(n, bits=bits, reals=4, integers=1)
    honest = [encode(np.full(4, 0.5), np.array([1]), config, bytes([i]) * 32) for i in range(n - 1)]
    hostile = np.resize(np.frombuffer(vector, dtype=honest[0].dtype), config.length)
    total = np.sum([*honest, hostile], axis=0, dtype=hostile.dtype)
    total[-1] = n
    decoded = decode(total, n, config)
    assert np.abs(decoded.reals).max() <= n * config.scale * (1 + 1e-12)
    assert decoded.integers.min() >= 0


def test_counts_out_of_range_are_refused_where_nothing_but_counts_is_summed():
    config = config_of(3, bits=32, reals=0, integers=1)
    limit = 4 * config.half
    with raises(CodecError, f"a sum of {limit + 1} exceeds what 2 devices can reach ({limit})"):
        decode(np.array([limit + 1, 2], dtype="<u4"), 2, config)


def test_the_full_cohort_can_be_decoded():
    config = config_of(3, bits=16, reals=0, integers=1)
    assert decode(np.array([9, 0, 0, 3], dtype="<u2"), 3, config).integers.tolist() == [9]
    assert decode(np.array([9, 300, 1, 1], dtype="<u2"), 1, config).integers.tolist() == [9 + (300 << 8) + (1 << 16)]


def test_an_update_is_clipped_then_weighted():
    config = config_of(2, clip_norm=2.5, weight_cap=4)
    values, weight = weighted_update(np.array([3.0, -4.0], dtype=np.float32), 1, config)
    assert weight == 0.25
    np.testing.assert_allclose(values, [1.5 / 4, -2.0 / 4])
    assert values.dtype == np.float64
    values, weight = weighted_update(np.array([0.3, -0.4]), 9, config)
    assert weight == 1.0
    np.testing.assert_array_equal(values, [0.3, -0.4])
    values, weight = weighted_update(np.zeros(2), 0, config)
    assert (weight, values.tolist()) == (0.0, [0.0, 0.0])
    values, weight = weighted_update(np.zeros(2), 4, config)
    assert (weight, values.tolist()) == (1.0, [0.0, 0.0])
    values, _ = weighted_update(np.array([0.6, 0.8]), 4, config_of(2, clip_norm=2.5, weight_cap=4))
    np.testing.assert_array_equal(values, [0.6, 0.8])
    for update, expected in (([6.0, 8.0], [1.5, 2.0]), ([0.06, 0.08], [0.06, 0.08])):
        values, _ = weighted_update(np.array(update), 4, config)
        np.testing.assert_allclose(values, expected)
    tight, _ = weighted_update(np.array([0.3, -0.4]), 4, config_of(2, scale=0.25, clip_norm=0.25, weight_cap=4))
    np.testing.assert_allclose(tight, [0.15, -0.2])
    with raises(CodecError, "-1 examples: a count cannot be negative"):
        weighted_update(np.zeros(2), -1, config)


@pytest.mark.parametrize(("n", "t"), [(2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (8, 6), (16, 11), (32, 22), (128, 86)])
def test_threshold_is_two_thirds_and_one(n, t):
    assert threshold(n) == t == config_of(max(n, 2)).threshold(n)
    corrupt = (n - 1) // 3
    assert 2 * t - n > corrupt, "two quorums share an honest device"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 8}, "bits is 8: choose 16 or 32"),
        ({"cohort_max": 1}, "cohort_max is 1: choose 2 to 128"),
        ({"cohort_max": 129}, "cohort_max is 129: choose 2 to 128"),
        ({"n_min": 1}, "n_min is 1: choose 2 to cohort_max, which is 4"),
        ({"n_min": 5}, "n_min is 5: choose 2 to cohort_max, which is 4"),
        ({"reals": -1}, "-1 reals and 2 integers: choose 1 to 67108863 in all"),
        ({"integers": -1}, "3 reals and -1 integers: choose 1 to 67108863 in all"),
        ({"reals": 0, "integers": 0}, "0 reals and 0 integers: choose 1 to 67108863 in all"),
        ({"reals": 1 << 26, "integers": 0}, "67108864 reals and 0 integers: choose 1 to 67108863 in all"),
        ({"weight_cap": 0}, "weight_cap is 0: choose 1 to 2^32 - 1"),
        ({"weight_cap": 1 << 32}, "weight_cap is 4294967296: choose 1 to 2^32 - 1"),
        ({"scale": 0.0}, "scale is 0.0: choose a positive number"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0: choose a positive number"),
        ({"deadline": math.inf}, "deadline is inf: choose a positive number"),
        ({"scale": math.nan}, "scale is nan: choose a positive number"),
        (
            {"reals": 1024, "clip_norm": 2.0, "scale": 0.26},
            "scale 0.26 lets 1024 reals reach a norm of 8.32, more than 4 times the clip norm 2.0: "
            "choose a scale of at most 0.25",
        ),
        (
            {"reals": 0, "integers": (1 << 26) // 3 + 1, "bits": 16},
            "0 reals and 22369622 integers: choose 1 to 67108863 in all",
        ),
        ({"noise_multiplier": -1.0}, "noise_multiplier is -1.0: choose 0 to 1000.0"),
        ({"noise_multiplier": math.nan}, "noise_multiplier is nan: choose 0 to 1000.0"),
        (
            {"noise_multiplier": 1.0},
            "noise is for reals that are clipped to the scale, and exact integers beside them would tell more",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError) as caught:
        config_of(4, **changes)
    assert str(caught.value) == message


def test_the_limits_themselves_are_fine():
    for changes in (
        {"cohort_max": 2, "n_min": 2},
        {"cohort_max": 128, "n_min": 128},
        {"reals": (1 << 26) - 1, "integers": 0},
        {"reals": 1, "integers": 0},
        {"reals": 0, "integers": 1},
        {"weight_cap": 1},
        {"weight_cap": (1 << 32) - 1},
        {"scale": 1e-9},
    ):
        assert isinstance(config_of(4, **changes), SessionConfig)
