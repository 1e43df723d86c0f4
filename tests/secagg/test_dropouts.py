"""Who drops out when: the sum is exactly that of the survivors, or the session aborts at the stage that the rule names.

Each device submits a distinct one-hot vector, so a sum can only hold 0s and 1s: a 2 is a replay, a huge number
a mask that stayed.
"""

from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_cohort import Cohort

from fedge import secagg
from fedge.secagg import SessionAborted, plain

STAGES = {"share": "share keys", "mask": "masked input", "agree": "consistency", "unmask": "unmasking"}


def subsets(items):
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def every_outcome(n: int, n_min: int, protocol) -> dict:
    """By the devices lost at each stage: the survivors and their sum, or the stage and reason of the abort.

    Losses after an abort change nothing, so a pattern ends where it aborts: together these are all patterns.
    """
    outcomes = {}

    def explore(cohort, lost, messages, stages):
        for gone in subsets(messages):
            branch, pattern = cohort.fork(), (*lost, gone)
            try:
                result = getattr(branch, stages[0])(messages, without=gone)
            except SessionAborted as abort:
                outcomes[pattern] = (abort.stage, abort.reason)
                continue
            if len(stages) == 1:
                np.testing.assert_array_equal(result.total, branch.sum_of(result.survivors))
                outcomes[pattern] = (result.survivors, result.total.tolist())
            else:
                explore(branch, pattern, result, stages[1:])

    cohort = Cohort(n, protocol=protocol, n_min=n_min, one_hot=True)
    explore(cohort, (), cohort.open(), list(STAGES))
    return outcomes


def expected(names, n_min, pattern):
    """The outcome by the rules alone: U1 and U2 need max(t, n_min), signatures and shares need t."""
    n, t = len(names), 2 * len(names) // 3 + 1
    left, survivors = set(names), ()
    for stage, gone, needed in zip(STAGES, pattern, (max(t, n_min), max(t, n_min), t, t), strict=False):
        left -= set(gone)
        if len(left) < needed:
            return STAGES[stage], f"{len(left)} of {n} devices answered, it takes {needed}"
        if stage == "mask":
            survivors = tuple(sorted(left))
    return survivors, [*(int(name in survivors) for name in names), len(survivors)]


@pytest.mark.parametrize(("n", "n_min"), [(2, 2), (3, 2), (4, 2), (4, 4), (5, 2), (5, 3), (6, 2)])
def test_every_pattern_of_dropouts_gives_the_survivors_sum_or_the_right_abort(n, n_min):
    outcomes = every_outcome(n, n_min, secagg)
    names = Cohort(n).names
    assert outcomes == {pattern: expected(names, n_min, pattern) for pattern in outcomes}
    assert any(len(pattern) == 4 and pattern[1] for pattern in outcomes) == (n >= 4 > n_min)


@pytest.mark.parametrize(("n", "n_min"), [(3, 2), (4, 2), (4, 4), (5, 2)])
def test_every_pattern_gives_the_same_outcome_without_masks(n, n_min):
    names = Cohort(n).names
    outcomes = every_outcome(n, n_min, plain)
    assert outcomes == {pattern: expected(names, n_min, pattern) for pattern in outcomes}


@settings(max_examples=3)
@given(data=st.data())
def test_sum_of_a_cohort_of_32_is_exact_for_random_dropouts(data):
    cohort = Cohort(32, one_hot=True)
    fates = data.draw(st.lists(st.sampled_from(["stay"] * 5 + list(STAGES)), min_size=32, max_size=32))
    lost = {stage: [name for name, fate in zip(cohort.names, fates, strict=True) if fate == stage] for stage in STAGES}
    outcome = expected(cohort.names, 2, tuple(lost.values()))
    try:
        result = cohort.run(**lost)
    except SessionAborted as abort:
        assert (abort.stage, abort.reason) == outcome
    else:
        assert (result.survivors, result.total.tolist()) == outcome
