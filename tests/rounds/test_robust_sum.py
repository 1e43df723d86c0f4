"""One lying device among honest ones: whatever it sends, its effect on mean, metrics and next round is bounded."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.rounds.release_builder import HeldOut
from aggregator.rounds.robust_sum import (
    CLIP_FLOOR,
    CohortSum,
    SumCheck,
    SumHistory,
    check_sum,
    clipped_mean,
    compare_cohorts,
    next_temperature,
    robust_mean,
)
from fedge.layouts import EXAMPLE_RUNGS, UpdateLayout
from fedge.routing.confidence import TEMPERATURE_GRID
from fedge.secagg import SessionConfig, decode, encode
from fedge.secagg.rotation import padded_length, rotate, rotated_scale, rotation_seed

LENGTH, DEVICES, CLIP, CAP = 100, 12, 0.5, 16
SEED = rotation_seed("a" * 64, 1, 1)
LAYOUT = UpdateLayout()
CONFIG = SessionConfig(
    reals=padded_length(LENGTH),
    integers=LAYOUT.integers,
    bits=32,
    cohort_max=128,
    scale=rotated_scale(CLIP, padded_length(LENGTH)),
    clip_norm=CLIP,
    weight_cap=CAP,
    n_min=2,
    deadline=1.0,
)
DIRECTION = np.linspace(-1.0, 1.0, LENGTH) / np.linalg.norm(np.linspace(-1.0, 1.0, LENGTH))


def honest(device: int, examples: int = CAP) -> np.ndarray:
    """An update of norm 0.3, most of it in the common direction."""
    own = np.random.default_rng(device).standard_normal(LENGTH)
    update = DIRECTION + 0.5 * own / np.linalg.norm(own)
    update *= 0.3 / np.linalg.norm(update) * min(examples, CAP) / CAP
    nll = [10.0 + abs(i - 13) for i in range(len(TEMPERATURE_GRID))]
    integers = LAYOUT.encode(weight=min(examples, CAP), examples=examples, loss_sum=5.0, nll=nll, norm=0.3)
    return encode(rotate(update, SEED), integers, CONFIG, bytes([device]) * 32)


def summed(*hostile: np.ndarray) -> CohortSum:
    """The sum of honest vectors and hostile ones, which carry a right tripwire."""
    vectors = [honest(device) for device in range(DEVICES - len(hostile))]
    for vector in hostile:
        vector[-1] = 1
    total = np.sum([*vectors, *hostile], axis=0, dtype=np.uint32)
    return CohortSum(decoded=decode(total, DEVICES, CONFIG), survivors=DEVICES, config=CONFIG, rotation_seed=SEED)


def check_of(cohort: CohortSum, bound: float = CLIP) -> SumCheck:
    return check_sum(cohort.decoded, survivors=cohort.survivors, config=cohort.config, bound=bound)


def test_an_honest_sum_is_the_mean_and_raises_no_suspicion() -> None:
    cohort = summed()
    check = check_of(cohort)
    assert not check.suspicious and check.kind is None and check.reason == ""
    mean = robust_mean([cohort], [check], length=LENGTH, bound=CLIP)
    expected = np.zeros(LENGTH)
    for device in range(DEVICES):
        own = np.random.default_rng(device).standard_normal(LENGTH)
        update = DIRECTION + 0.5 * own / np.linalg.norm(own)
        expected = expected + update * 0.3 / np.linalg.norm(update) / DEVICES
    assert mean.change == pytest.approx(expected, abs=1e-6)
    assert mean.norm == pytest.approx(check.norm, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=64, max_size=64), st.sampled_from([0.02, 0.1, CLIP]))
def test_no_vector_of_one_device_makes_the_mean_longer_than_the_bound_or_raises(vector: bytes, bound: float) -> None:
    cohort = summed(np.resize(np.frombuffer(vector, dtype="<u4"), CONFIG.length).copy())
    mean = robust_mean([cohort], [check_of(cohort, bound)], length=LENGTH, bound=bound)
    assert mean.norm <= bound * (1 + 1e-9)
    history = SumHistory.begin(clip_norm=CLIP, weight_cap=100)
    after = history.extend(mean.sums, devices=mean.devices, mean_norm=mean.norm)
    after.check()
    assert CLIP_FLOOR * CLIP <= after.clip_norm <= CLIP and after.bound <= CLIP
    assert next_temperature(mean.cohort_sums, 1.0) in TEMPERATURE_GRID[11:16]


@pytest.mark.parametrize("weight", [0, 1, CAP * DEVICES * 10, 2**32 - CAP * (DEVICES - 1), 2**31])
def test_a_lying_weight_neither_blows_the_mean_up_nor_vetoes_it(weight: int) -> None:
    liar = honest(99)
    liar[CONFIG.reals] = weight
    cohort = summed(liar)
    mean = clipped_mean(cohort, length=LENGTH, bound=math.inf)
    fair = clipped_mean(summed(honest(99)), length=LENGTH, bound=math.inf)
    ratio = np.linalg.norm(mean) / np.linalg.norm(fair)
    assert 0.9 <= ratio <= 4.0 and mean @ fair / np.linalg.norm(mean) / np.linalg.norm(fair) > 0.999


def test_values_beyond_the_encoding_are_suspicious_as_such() -> None:
    liar = honest(99)
    liar[: CONFIG.reals] = np.uint32(3 << 30)
    check = check_of(summed(liar))
    assert (check.suspicious, check.kind) == (True, "range")
    again = check.suspect("accuracy", "later")
    assert again == check  # the first reason stands


def test_one_vector_within_the_ring_that_moves_the_whole_sum_is_suspicious_by_its_norm() -> None:
    push = rotate(5 * CLIP * DIRECTION, SEED) / CONFIG.scale * CONFIG.quantum
    liar = honest(99)
    liar[: CONFIG.reals] = (np.rint(push).astype(np.int64) + CONFIG.offset) % 2**32
    check = check_of(summed(liar), bound=0.4)
    assert check.kind == "norm" and check.norm > 0.4


def test_a_ladder_that_no_devices_have_is_suspicious_and_changes_nothing() -> None:
    liar = honest(99)
    liar[CONFIG.reals + 3 + len(TEMPERATURE_GRID)] = 5
    cohort = summed(liar)
    assert check_of(cohort).kind == "range"
    sums = LAYOUT.decode(cohort.decoded.integers)
    history = SumHistory.begin(clip_norm=CLIP, weight_cap=100)
    assert history.extend(sums, devices=DEVICES, mean_norm=0.1).clip_norm == CLIP


def test_clip_norm_and_weight_cap_follow_the_median_device() -> None:
    sums = LAYOUT.decode(summed().decoded.integers)
    history = SumHistory.begin(clip_norm=4.0, weight_cap=100)
    assert history.weight_cap == 1
    norms = []
    for _ in range(6):
        history = history.extend(sums, devices=DEVICES, mean_norm=0.1)
        norms.append(history.clip_norm)
    assert norms[:3] == [2.0, 1.0, 0.5] and norms[3:] == [pytest.approx(2**-1.5)] * 3  # the rung above 0.3
    assert history.weight_cap == 2 * CAP


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_no_device_weighs_more_than_twice_the_median(examples: list[int]) -> None:
    encoded = [LAYOUT.encode(weight=1, examples=n, loss_sum=0.0, nll=np.zeros(24), norm=0.1) for n in examples]
    history = SumHistory.begin(clip_norm=1.0, weight_cap=1_000_000)
    sums = LAYOUT.decode(np.sum(encoded, axis=0))
    cap = history.extend(sums, devices=len(examples), mean_norm=0.1).weight_cap
    median = sorted(examples)[(len(examples) - 1) // 2]
    assert min(median, EXAMPLE_RUNGS[-1]) <= cap <= 2 * median


def test_the_bound_follows_accepted_means_and_a_liar_can_only_creep() -> None:
    history = SumHistory.begin(clip_norm=1.0, weight_cap=10)
    assert history.bound == 1.0
    sums = LAYOUT.decode(summed().decoded.integers)
    for _ in range(8):
        history = replace(history.extend(sums, devices=DEVICES, mean_norm=0.1), clip_norm=1.0)
    assert history.bound == pytest.approx(0.2)
    for _ in range(4):  # always at the bound
        history = replace(history.extend(sums, devices=DEVICES, mean_norm=history.bound), clip_norm=1.0)
    assert history.bound <= 0.4 and len(history.mean_norms) == 8


def test_a_suspicious_cohort_is_left_out_where_another_is_not() -> None:
    liar = honest(99)
    liar[: CONFIG.reals] = np.uint32(3 << 30)
    bad, good = summed(liar), summed()
    mean = robust_mean([bad, good], [check_of(bad), check_of(good)], length=LENGTH, bound=CLIP)
    assert mean.change.tolist() == clipped_mean(good, length=LENGTH, bound=CLIP).tolist() and mean.devices == DEVICES
    both = robust_mean([bad, bad], [check_of(bad), check_of(bad)], length=LENGTH, bound=CLIP)
    assert both.norm <= CLIP * (1 + 1e-9) and both.devices == 2 * DEVICES


def test_a_cohort_whose_own_release_is_worse_is_suspected() -> None:
    fine = SumCheck(False, "", 0.1, 0.5)
    checks = compare_cohorts([fine, fine, fine], [0.90, 0.12, 0.89], best=0.5, allowed=0.04)
    assert [check.suspicious for check in checks] == [False, True, False]
    assert checks[1].kind == "accuracy"
    checks = compare_cohorts([fine, fine], [0.90, 0.89], best=0.95, allowed=0.04)
    assert all(check.suspicious for check in checks)


def test_the_temperature_moves_two_grid_points_a_round_towards_the_median_cohort() -> None:
    def sums_with_best(index: int):
        nll = [10.0 + abs(i - index) for i in range(len(TEMPERATURE_GRID))]
        return LAYOUT.decode(LAYOUT.encode(weight=1, examples=1, loss_sum=0.0, nll=nll, norm=0.1))

    low, high = sums_with_best(0), sums_with_best(23)
    assert next_temperature([low], 1.0) == TEMPERATURE_GRID[11]
    assert next_temperature([sums_with_best(12)], 1.0) == TEMPERATURE_GRID[12]
    assert next_temperature([sums_with_best(13), sums_with_best(13), high], 1.0) == 1.0
    silent = LAYOUT.decode(LAYOUT.encode(weight=1, examples=1, loss_sum=0.0, nll=np.zeros(24), norm=0.1))
    assert next_temperature([silent], 0.7) == 0.7


def test_less_is_allowed_on_more_held_out_queries() -> None:
    assert HeldOut(540, 600).accuracy == 0.9
    assert HeldOut(540, 600).allowed_drop == pytest.approx(2.5 * math.sqrt(0.04 / 600))
    assert HeldOut(9, 10).allowed_drop > HeldOut(900, 1000).allowed_drop
