"""Token buckets in closed form, and which of two budgets holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.routing import AskingLimits, TokenBucket


def test_a_bucket_fills_evenly_up_to_what_it_holds():
    bucket = TokenBucket("per_minute", 3.0, 6 / 60)
    assert bucket.level(0.0, elapsed_s=10.0) == pytest.approx(1.0)
    assert bucket.level(1.5, elapsed_s=5.0) == pytest.approx(2.0)
    assert bucket.level(0.0, elapsed_s=1e9) == 3.0


def test_a_clock_that_was_set_back_adds_nothing_and_takes_nothing():
    assert TokenBucket("b", 3.0, 1.0).level(1.0, elapsed_s=-1e6) == 1.0


def test_a_burst_is_that_of_the_shorter_rate():
    both = AskingLimits(per_minute=6, per_hour=60, burst=2).buckets
    assert both == (TokenBucket("per_minute", 2.0, 0.1), TokenBucket("per_hour", 60.0, 60 / 3600))
    assert AskingLimits(per_hour=60, burst=90).buckets == (TokenBucket("per_hour", 90.0, 60 / 3600),)
    assert AskingLimits(per_minute=6).buckets[0].capacity == 6.0
    assert AskingLimits().buckets == ()


def test_the_smaller_budget_holds():
    assert AskingLimits(daily_usd=0.5).smaller_budget(0.2) == 0.2
    assert AskingLimits(daily_usd=0.0).smaller_budget(0.2) == 0.0
    assert AskingLimits(daily_usd=0.5).smaller_budget(None) == 0.5
    assert AskingLimits().smaller_budget(None) is None


@given(st.lists(st.floats(0, 120), max_size=60), st.integers(1, 20), st.integers(1, 20))
def test_no_window_ever_sees_more_than_the_burst_and_what_flowed_in(waits, per_minute, burst):
    bucket = TokenBucket("b", float(burst), per_minute / 60)
    tokens, now, taken = bucket.capacity, 0.0, []
    for wait in waits:
        now += wait
        tokens = bucket.level(tokens, elapsed_s=wait)
        if tokens >= 1.0:
            tokens -= 1.0
            taken.append(now)
    for i, start in enumerate(taken):
        for j, end in enumerate(taken[i:], start=1):
            assert j <= burst + (end - start) * per_minute / 60 + 1e-6
