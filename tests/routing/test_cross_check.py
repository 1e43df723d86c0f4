"""Sums against central's totals: honest fleets never trip, lies are cut, and no lie takes a cohort's counts away."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.routing import CrossCheck, ProbeTotals
from fedge.routing.probe_cap import FIRST_CAP, LEAST_CAP, MOST_CAP, probe_cap


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_honest_fleets_never_trip_whoever_misses_sessions_and_however_much_waits(seed):
    """Devices with queues and a cap, sessions missed before and after the roster, probes answered while a session runs."""
    rng = np.random.default_rng(seed)
    devices, cap = 16, int(rng.integers(2, 12))
    central = np.zeros((devices, 2), np.int64)  # undelivered agreements, disagreements
    answered = np.zeros(devices, np.int64)
    queues: list[list[tuple[bool, bool]]] = [[] for _ in range(devices)]  # (local, disagreed), oldest first
    check, used = CrossCheck(), ProbeTotals()
    totals_so_far = ProbeTotals()

    def traffic(mean):
        for device in range(devices):
            for _ in range(rng.poisson(mean)):
                local, wrong = bool(rng.random() < 0.7), bool(rng.random() < 0.1)
                queues[device].append((local, wrong))
                answered[device] += 1
                central[device] += [local and not wrong, local and wrong]

    for _ in range(12):
        traffic(rng.uniform(0, 8))
        roster = [d for d in range(devices) if queues[d] and rng.random() < 0.9]
        reported = [0, 0, 0]
        for device in roster:
            if rng.random() < 0.15:
                continue  # dropped out: what it has stays, to be reported later
            out, queues[device] = queues[device][:cap], queues[device][cap:]
            if rng.random() < 0.05:
                continue  # its vector left and was lost
            reported[0] += len(out)
            reported[1] += sum(local and not wrong for local, wrong in out)
            reported[2] += sum(local and wrong for local, wrong in out)
        traffic(0.3)  # while the session runs
        given_out = [0, 0, 0]
        for device in roster:
            some, agreed = min(int(answered[device]), cap), min(int(central[device, 0]), cap)
            given_out = [given_out[0] + some, given_out[1] + agreed, given_out[2] + int(central[device, 1])]
            answered[device] -= some
            central[device] = [central[device, 0] - agreed, 0]
        totals = ProbeTotals(*given_out)
        totals_so_far += totals
        check, checked = check.apply(ProbeTotals(*reported), totals, slack=cap)
        assert not [text for text in checked.evidence if "more" in text]
        used += ProbeTotals(0, checked.agreed, checked.disagreed)
        assert used.agreed <= totals_so_far.agreed and used.disagreed >= totals_so_far.disagreed


BIG = st.one_of(st.integers(0, 60), st.integers(0, 2**32 - 1))


@given(st.lists(st.tuples(BIG, BIG, BIG, st.integers(0, 60), st.integers(0, 50), st.integers(0, 9)), max_size=8))
def test_no_lie_passes_central_s_numbers_and_none_takes_them_away(sessions):
    check, slack = CrossCheck(), 8
    used, given_out = ProbeTotals(), ProbeTotals()
    for answered, agreed, wrong, real, real_agreed, real_wrong in sessions:
        totals = ProbeTotals(real + real_agreed + real_wrong, real_agreed, real_wrong)
        check, checked = check.apply(ProbeTotals(answered, agreed, wrong), totals, slack=slack)
        given_out += totals
        used += ProbeTotals(answered - checked.excess, checked.agreed, checked.disagreed)
        assert used.agreed <= given_out.agreed
        assert given_out.disagreed <= used.disagreed <= given_out.disagreed + slack
        assert used.agreed >= given_out.agreed // 2 - slack * len(sessions)
        assert used.answered <= given_out.answered


def test_invented_agreements_are_cut_and_named():
    check, checked = CrossCheck().apply(ProbeTotals(500, 400, 3), ProbeTotals(100, 60, 5), slack=8)
    assert (checked.agreed, checked.disagreed, checked.excess) == (60, 5, 400)
    assert len(checked.evidence) == 2
    _, honest = check.apply(ProbeTotals(100, 60, 5), ProbeTotals(100, 60, 5), slack=8)
    assert (honest.agreed, honest.disagreed, honest.excess, honest.evidence) == (60, 5, 0, ())


@pytest.mark.parametrize("mean", [0.5, 3.0, 5.5, 20.0])
def test_the_cap_stays_above_honest_traffic_and_lets_little_of_it_wait(mean):
    rng = np.random.default_rng(1)
    devices, cap, waiting = 100, FIRST_CAP, np.zeros(100)
    caps, left = [], []
    for _ in range(60):
        waiting += rng.poisson(mean, devices)
        counted = np.minimum(waiting, cap)
        waiting -= counted
        caps.append(cap)
        left.append(waiting.mean())
        cap = probe_cap(int(counted.sum()), devices, cap=cap)
    assert np.mean(left[-20:]) < 1.5 * np.sqrt(mean)
    assert mean < np.mean(caps[-20:]) < mean + 1.1 * np.sqrt(mean) + 1.6


def test_a_cap_that_was_filled_doubles_and_never_falls_below_what_one_device_needs():
    assert probe_cap(0, 0) == FIRST_CAP and probe_cap(1, 1000, cap=16) == LEAST_CAP
    assert probe_cap(95, 10, cap=10) == 20
    assert probe_cap(10 * MOST_CAP, 10, cap=MOST_CAP) == MOST_CAP


def test_negative_totals_are_refused():
    with pytest.raises(InputError):
        ProbeTotals(-1, 0, 0)
