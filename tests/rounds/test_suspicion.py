"""The posterior over hostile devices: closed forms, brute force, and what it may never do to honest ones."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.rounds.suspicion import (
    FALSE_ALARM,
    PooledTest,
    Suspicion,
    SuspicionPolicy,
    Verdict,
    hostile_posterior,
)

POLICY = SuspicionPolicy()
ALWAYS = SuspicionPolicy(rates=(0.99,))


def seen(*tests: tuple[str, Verdict], policy: SuspicionPolicy = POLICY, period: int = 1) -> Suspicion:
    """Return the suspicion after sums over devices named by one letter each."""
    suspicion = Suspicion()
    for members, verdict in tests:
        suspicion = suspicion.observe(members, verdict, period=period, purpose="update", policy=policy)
    return suspicion


def test_one_spoiled_sum_blames_all_its_members_alike() -> None:
    posterior = seen(("abcdefghijk", Verdict.SUM)).posterior(POLICY)
    assert sorted(posterior) == list("abcdefghijk") and len({round(chance, 9) for chance in posterior.values()}) == 1
    assert 1 / 11 < posterior["a"] < 0.16  # a little more than one culprit is expected


def test_a_dealer_whom_the_protocol_names_is_excluded_at_once_and_two_accused_are_not() -> None:
    assert seen(("a", Verdict.SHARES)).excluded == {"a"}
    suspicion = seen(("ab", Verdict.SHARES))
    assert not suspicion.excluded and suspicion.posterior(POLICY)["a"] == pytest.approx(0.5, abs=0.02)
    assert seen(("ab", Verdict.SHARES), ("ac", Verdict.SHARES), ("ad", Verdict.SHARES)).excluded == {"a"}


def test_a_clean_sum_clears_its_members_as_far_as_they_may_have_behaved() -> None:
    suspicion = seen(("abcd", Verdict.SUM), ("ab", Verdict.CLEAN), policy=SuspicionPolicy(level=1.0))
    posterior = suspicion.posterior(POLICY)
    assert posterior["a"] < posterior["c"]
    strict = seen(("abcd", Verdict.SUM), ("ab", Verdict.CLEAN), policy=SuspicionPolicy(level=1.0, rates=(0.99,)))
    assert strict.posterior(ALWAYS)["a"] < posterior["a"] < 0.25


def test_an_honest_fleet_stores_nothing_and_clean_sums_of_another_purpose_are_no_evidence() -> None:
    assert not seen(("abc", Verdict.CLEAN), ("def", Verdict.CLEAN)).tests
    suspicion = seen(("abc", Verdict.SUM)).observe("ab", Verdict.CLEAN, period=1, purpose="counts", policy=POLICY)
    assert len(suspicion.tests) == 1


def test_false_alarms_of_the_norm_need_more_evidence_than_a_wrong_tripwire() -> None:
    tests = [("abc", verdict) for verdict in (Verdict.NORM, Verdict.SUM)]
    norm, wrong = (seen(one, policy=SuspicionPolicy(level=1.0)).posterior(POLICY)["a"] for one in tests)
    assert norm < wrong and FALSE_ALARM[Verdict.NORM] > FALSE_ALARM[Verdict.SUM]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abcdefg"), min_size=2, max_size=5), st.sampled_from(list(Verdict))), max_size=7
    )
)
def test_the_posterior_is_that_of_bayes_over_all_small_sets(tests: list[tuple[set[str], Verdict]]) -> None:
    pooled = [
        PooledTest(period=1, purpose="update", members=tuple(sorted(members)), verdict=verdict) for members, verdict in tests
    ]
    pool = sorted({name for test in pooled if test.verdict is not Verdict.CLEAN for name in test.members})
    weights: dict[tuple[str, ...], float] = {}
    for chosen in (chosen for size in range(4) for chosen in combinations(pool, size)):
        odds = (POLICY.prior / (1 - POLICY.prior)) ** len(chosen)
        likelihood = 0.0
        for rate in POLICY.rates:
            product = 1.0
            for test in pooled:
                quiet = (1 - rate) ** len(set(chosen) & set(test.members))
                product *= quiet if test.verdict is Verdict.CLEAN else 1 - (1 - FALSE_ALARM[test.verdict]) * quiet
            likelihood += product
        weights[chosen] = odds * likelihood
    total = sum(weights.values())
    expected = {name: sum(weight for chosen, weight in weights.items() if name in chosen) / total for name in pool}
    posterior = hostile_posterior(pooled, frozenset(), POLICY)
    assert sorted(posterior) == pool
    assert all(posterior[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-12) for name in pool)


def test_after_an_exclusion_only_sums_without_the_device_are_unexplained() -> None:
    suspicion = seen(("abc", Verdict.SUM), ("a", Verdict.SHARES))
    assert suspicion.excluded == {"a"} and not suspicion.unexplained() and not suspicion.posterior(POLICY)
    again = suspicion.observe("bcd", Verdict.SUM, period=2, purpose="update", policy=POLICY)
    assert [test.members for test in again.unexplained()] == [("b", "c", "d")]


def test_probation_ends_and_is_twice_as_long_the_next_time() -> None:
    policy = SuspicionPolicy(probation=10)
    suspicion = seen(("abc", Verdict.SUM), ("a", Verdict.SHARES), policy=policy)
    [first] = suspicion.exclusions
    assert (first.since, first.until, first.times) == (1, 11, 1)
    assert suspicion.begin(11, policy).excluded == {"a"}
    free = suspicion.begin(12, policy)
    assert not free.excluded and not free.tests  # what it took part in is evidence against nobody
    [second] = free.observe("a", Verdict.SHARES, period=12, purpose="update", policy=policy).exclusions
    assert (second.until, second.times) == (12 + 20, 2)


def test_an_operators_readmission_lifts_the_exclusion_it_was_meant_for_and_no_later_one() -> None:
    suspicion = seen(("a", Verdict.SHARES))
    assert not suspicion.lift({"a": 1}).excluded and suspicion.lift({"a": 2, "b": 1}).excluded == {"a"}
    later = suspicion.lift({"a": 1}).observe("a", Verdict.SHARES, period=2, purpose="update", policy=POLICY)
    assert later.lift({"a": 1}).excluded == {"a"}


def test_evidence_is_forgotten_after_its_time() -> None:
    suspicion = seen(("abc", Verdict.SUM))
    assert suspicion.begin(POLICY.memory, POLICY).tests and not suspicion.begin(POLICY.memory + 1, POLICY).tests


def test_it_survives_being_stored() -> None:
    suspicion = seen(("abc", Verdict.SUM), ("ab", Verdict.CLEAN), ("a", Verdict.SHARES)).begin(2, POLICY)
    assert Suspicion.from_json(suspicion.to_json()) == suspicion


def test_a_large_fleet_considers_those_who_explain_most() -> None:
    rng = np.random.default_rng(3)
    names = [f"device-{number:03d}" for number in range(200)]
    suspicion = Suspicion()
    for period in range(1, 40):
        order = rng.permutation(len(names))
        for block in np.array_split(order, 6):
            members = [names[place] for place in block if names[place] not in suspicion.excluded]
            verdict = Verdict.SUM if "device-007" in members else Verdict.CLEAN
            suspicion = suspicion.observe(members, verdict, period=period, purpose="update", policy=POLICY)
        if suspicion.excluded:
            break
    assert suspicion.excluded == {"device-007"}
