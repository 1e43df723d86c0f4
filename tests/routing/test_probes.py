"""The probe's coin and its rate."""

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.routing import is_probe, probe_rate, probe_weight

KEY = bytes(range(32))


def contents(n: int) -> list[bytes]:
    return [hashlib.sha256(str(i).encode()).digest() for i in range(n)]


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3])
def test_the_share_of_probes_is_the_rate(rate):
    n = 20_000
    share = sum(is_probe(c, KEY, rate) for c in contents(n)) / n
    assert abs(share - rate) < 4 * math.sqrt(rate * (1 - rate) / n)


def test_the_extremes_are_exact():
    assert all(is_probe(c, KEY, 1.0) for c in contents(200))
    assert not any(is_probe(c, KEY, 0.0) for c in contents(200))


@given(st.binary(min_size=32, max_size=32), st.floats(0, 1), st.floats(0, 1))
def test_rates_are_nested_and_repetitions_share_their_fate(content, rate, other):
    low, high = sorted((rate, other))
    assert is_probe(content, KEY, low) <= is_probe(content, KEY, high)
    assert is_probe(content, KEY, rate) == is_probe(content, KEY, rate)


def test_devices_draw_apart():
    mine = [is_probe(c, KEY, 0.5) for c in contents(2000)]
    theirs = [is_probe(c, bytes(32), 0.5) for c in contents(2000)]
    assert 850 < sum(a == b for a, b in zip(mine, theirs, strict=True)) < 1150


def test_the_coin_is_pinned_to_its_construction():
    """A change of the hash would change every device's fates: it must be on purpose."""
    content = contents(1)[0]
    value = int.from_bytes(hashlib.blake2b(content, key=KEY, digest_size=8, person=b"fedge/probe").digest(), "big") / 2**64
    assert is_probe(content, KEY, value + 1e-6)
    assert not is_probe(content, KEY, value - 1e-6)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_rates_outside_zero_to_one_are_refused(rate):
    with pytest.raises(InputError, match="rate"):
        is_probe(b"", KEY, rate)


@pytest.mark.parametrize("size", [0, 15, 65])
def test_keys_too_short_or_long_are_refused(size):
    with pytest.raises(InputError, match="key"):
        is_probe(b"", bytes(size), 0.1)


def test_the_rate_steps_down_with_the_evidence():
    assert probe_rate(10**6, False) == 0.30
    steps = [
        (0, 0.10),
        (3_999, 0.10),
        (4_000, 0.05),
        (15_999, 0.05),
        (16_000, 0.02),
        (90_999, 0.02),
        (91_000, 0.01),
        (10**9, 0.01),
    ]
    for count, rate in steps:
        assert probe_rate(count, True) == rate
    with pytest.raises(InputError, match="count"):
        probe_rate(-1, True)


def test_a_probe_stands_for_as_many_queries_at_every_rate():
    weights = [probe_weight(start) for start in (0, 4_000, 16_000, 91_000)]
    assert weights == [1, 2, 5, 10]
    assert [weight * probe_rate(start, True) for weight, start in zip(weights, (0, 4_000, 16_000, 91_000), strict=True)] == [
        pytest.approx(0.10)
    ] * 4


def test_the_rate_falls_after_4000_10000_and_25000_probes():
    weighed, falls = 0, []
    for probe in range(30_000):
        if probe_weight(weighed) != probe_weight(max(0, weighed - probe_weight(max(0, weighed - 1)))):
            falls.append(probe)
        weighed += probe_weight(weighed)
    assert falls == [4_000, 10_000, 25_000]
