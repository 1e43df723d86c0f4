"""A round's probe counts: central's totals bear the running pair, lies are evidence, and no liar takes counts away."""

import numpy as np
import pytest

from aggregator.rounds.certification import CertificatePolicy, certify
from aggregator.rounds.probe_sums import ProbeState, ProbeSums
from fedge.layouts import CountSums
from fedge.routing import DEFAULT_GRID, ProbeTotals, RunningBound

RELEASE = "ab" * 32
POLICY = CertificatePolicy(max_risk=0.05, confidence=0.95, lifetime_s=100, grid=DEFAULT_GRID)


def sums(*, local: int = 300, wrong: int = 3, invented: int = 0) -> CountSums:
    new, bad = np.zeros(40, np.int64), np.zeros(40, np.int64)
    new[30], bad[30] = local, wrong
    new[39] = invented
    coarse, coarse_bad = np.add.reduceat(new, range(0, 40, 4)), np.add.reduceat(bad, range(0, 40, 4))
    return CountSums(coarse, coarse_bad, new, bad, local + invented, wrong)


def round_of(state=None, *, liars=1, has_source=True, most=None) -> ProbeSums:
    return ProbeSums(state or ProbeState(), liars=liars, cap=16, epsilon=2.0, has_source=has_source, most=most)


def certified(built: ProbeSums, past=RunningBound(2_000, 20)):  # noqa: B008 - a frozen value
    precautions, state = built.precautions()
    seen, wrong = built.pair()
    counts = CountSums(
        built.counts.seen, built.counts.disagreed, built.counts.new_seen, built.counts.new_disagreed, seen, wrong
    )
    return *certify(counts, past, POLICY, release_id=RELEASE, round_number=1, now=10.0, precautions=precautions), state


def test_what_central_confirms_is_certified_and_says_what_was_deducted():
    built = round_of()
    built.add(sums(), ProbeTotals(300, 297, 3), roster=30, survivors=30)
    statement, running, state = certified(built)
    assert (statement.state, statement.cross_checked, statement.liars, statement.probe_cap) == ("certified", True, 1, 16)
    assert statement.deducted == 16 and not built.evidence
    assert running == RunningBound(2_000 + 300 - 16, 23)
    assert ProbeState.from_json(state.to_json()) == state and state.cap < 32


def test_without_central_s_total_nothing_is_certified_and_pairs_wait_for_it():
    built = round_of()
    built.add(sums(), None, roster=30, survivors=30)
    statement, running, state = certified(built)
    assert statement.state == "empirical" and not statement.cross_checked and running == RunningBound(2_000, 20)
    later = round_of(state)
    later.add(sums(local=0, wrong=0), ProbeTotals(300, 297, 3), roster=30, survivors=30)
    assert later.pair() == (300, 3)


@pytest.mark.parametrize("invented", [200, 10_000, 2**31])
def test_invented_agreements_never_reach_the_running_bound_and_are_evidence(invented):
    built = round_of()
    built.add(sums(wrong=100, invented=invented), ProbeTotals(300, 200, 100), roster=30, survivors=30)
    assert built.pair() == (300, 100) and built.evidence
    other = sums()
    built.add(other, ProbeTotals(300, 297, 3), roster=30, survivors=30)
    assert built.counts is not None and built.counts.new_seen.sum() == other.new_seen.sum()  # the honest cohort counts


def test_hidden_disagreements_are_central_s():
    built = round_of()
    built.add(sums(wrong=0), ProbeTotals(300, 220, 80), roster=30, survivors=30)
    assert built.pair()[1] == 80


def test_a_device_s_histograms_hold_what_its_last_caps_let_in():
    state, stores = ProbeState(), []
    for cap in (8, 4, 4, 4, 4, 4, 4, 4, 4):
        stores.append(state.store(cap))
        built = ProbeSums(state, liars=1, cap=cap, epsilon=2.0, has_source=True)
        for _ in range(2):
            built.add(sums(), ProbeTotals(300, 297, 3), roster=30, survivors=30)
        state = built.precautions()[1]
    assert stores == [8, 12, 16, 20, 24, 28, 32, 36, 32], "8 periods' caps, whatever the number of cohorts"
    assert ProbeState.from_json(state.to_json()) == state
    older = state.to_json()
    del older["device_caps"]
    assert ProbeState.from_json(older).store(4) == 4


@pytest.mark.parametrize(("most", "deducted", "hidden"), [(None, 2 * (4 + 4 + 2 * 16), 0), (137, 2 * 2 * 137, 2 * 2 * 9)])
def test_what_liars_may_have_in_stored_histograms_is_what_past_caps_or_proofs_leave_them(most, deducted, hidden):
    built = round_of(ProbeState(caps=(4, 4)), liars=2, most=most)
    for _ in range(2):
        built.add(sums(), ProbeTotals(300, 297, 3), roster=30, survivors=30)
    precautions, _ = built.precautions()
    assert precautions.pooled.probes == deducted and precautions.new.probes == 2 * 2 * 16
    assert precautions.pooled.hidden == hidden and precautions.new.hidden == 0
