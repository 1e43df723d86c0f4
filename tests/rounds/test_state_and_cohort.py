"""The federation's state as bytes, the draw of cohorts, and what a certificate follows from."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.rounds.certification import CertificatePolicy, Precautions, certify
from aggregator.rounds.client_selection import (
    cohort_sizes,
    draw_cohort,
    least_cohort,
    least_cohort_sizes,
    order_nodes,
    split_cohorts,
)
from aggregator.rounds.robust_sum import SumHistory
from aggregator.rounds.server_optimizer import OptimizerState
from aggregator.rounds.state import FederationState
from fedge.errors import FedgeError, InputError
from fedge.layouts import EXAMPLE_RUNGS, NORM_RUNGS, CountsLayout, CountSums, UpdateLayout
from fedge.release import flatten
from fedge.routing import RunningBound
from fedge.routing.confidence import TEMPERATURE_GRID

GRID = (0.5, 0.6, 0.7, 0.8, 0.9)  # 0.5 and 0.9 are the coarse one
CHECKED = Precautions(cross_checked=True)
POLICY = CertificatePolicy(max_risk=0.05, confidence=0.95, lifetime_s=100.0, grid=GRID)
RELEASE = "a" * 64


def state() -> FederationState:
    return FederationState(
        round_number=7,
        head={"head.bias": np.array([1.5, -2.0], np.float32), "head.weight": np.eye(2, dtype=np.float32)},
        optimizer=OptimizerState(np.linspace(0, 1, 6), np.linspace(1, 2, 6) / 3),
        temperature=0.8,
        release_id=RELEASE,
        version=7,
        running=RunningBound(100, 3),
        threshold=None,
        probe_rate=0.1,
        certificate_state="none",
        certificate_bound=0.09,
        history=SumHistory(
            first_clip_norm=2.0, largest_weight_cap=100, clip_norm=0.5, weight_cap=32, mean_norms=(0.125, 1 / 3)
        ),
        best_accuracy=0.9,
    )


def test_the_state_survives_being_stored_to_the_last_bit() -> None:
    before = state()
    after = FederationState.from_bytes(before.to_bytes())
    assert after.to_bytes() == before.to_bytes()
    assert (flatten(after.head) == flatten(before.head)).all()
    assert (after.optimizer.second == before.optimizer.second).all()
    assert after.history == before.history and after.best_accuracy == 0.9
    assert after.running == before.running and after.threshold is None


@pytest.mark.parametrize("data", [b"", b"\0" * 40, state().to_bytes()[:-5], state().to_bytes()[8:]])
def test_a_damaged_state_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(FedgeError, match=r"cannot be read|weights"):
        FederationState.from_bytes(data)


@given(st.integers(1, 2_000), st.integers(2, 128))
def test_cohorts_are_as_few_and_as_equal_as_they_can_be(devices: int, limit: int) -> None:
    sizes = cohort_sizes(devices, limit=limit)
    assert sum(sizes) == devices and max(sizes) <= limit and max(sizes) - min(sizes) <= 1
    assert (len(sizes) - 1) * limit < devices


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round_number", "7"),
        ("version", None),
        ("temperature", 1),
        ("threshold", "0.9"),
        ("release_id", 5),
        ("optimizer", OptimizerState(np.zeros(5), np.zeros(5))),
        ("running", RunningBound(100.0, 3.0)),
        ("best_accuracy", 1),
        ("history", SumHistory(first_clip_norm=2.0, largest_weight_cap=100, clip_norm=float("nan"))),
        ("history", SumHistory(first_clip_norm=2.0, largest_weight_cap=100, clip_norm=0.0)),
        ("history", SumHistory(first_clip_norm=2.0, largest_weight_cap=100, clip_norm=1.0, weight_cap=101)),
        ("history", SumHistory(first_clip_norm=2.0, largest_weight_cap=100, clip_norm=1.0, mean_norms=(-1.0,))),
    ],
)
def test_a_state_that_no_round_leaves_behind_is_refused_before_the_next_one(field: str, value: object) -> None:
    with pytest.raises(InputError, match="the stored federation state cannot be read"):
        FederationState.from_bytes(replace(state(), **{field: value}).to_bytes())


def test_a_state_that_nests_beyond_reason_is_refused() -> None:
    deep = b"[" * 100_000
    with pytest.raises(InputError, match="cannot be read"):
        FederationState.from_bytes(len(deep).to_bytes(8, "big") + deep + bytes(16))


@given(st.sets(st.integers(1, 500), min_size=1), st.integers(1, 40), st.integers(1, 9))
def test_a_cohort_is_drawn_without_replacement_from_who_is_there(nodes: set[int], size: int, period: int) -> None:
    ordered = order_nodes(list(nodes), beacon=b"x" * 32, period=period, purpose="update")
    cohort = draw_cohort(ordered, size)
    assert len(cohort) == min(size, len(nodes)) == len(set(cohort))
    assert set(cohort) <= nodes
    again = order_nodes(sorted(nodes, reverse=True), beacon=b"x" * 32, period=period, purpose="update")
    assert draw_cohort(again, size) == cohort


def test_another_period_purpose_or_beacon_draws_another_cohort() -> None:
    def draw(beacon: bytes, period: int, purpose: str) -> tuple[int, ...]:
        return tuple(draw_cohort(order_nodes(range(100), beacon=beacon, period=period, purpose=purpose), 10))

    draws = {draw(b"x" * 32, period, purpose) for period in range(1, 20) for purpose in ("update", "counts")}
    assert len(draws) == 38 and draw(b"y" * 32, 1, "update") not in draws


@given(st.sets(st.integers(1, 500), min_size=2, max_size=60), st.data())
def test_leaving_a_node_out_redraws_nobody_else(nodes: set[int], data: st.DataObject) -> None:
    left_out = data.draw(st.sampled_from(sorted(nodes)))
    ordered = order_nodes(list(nodes), beacon=b"x" * 32, period=4, purpose="update")
    without = order_nodes(list(nodes - {left_out}), beacon=b"x" * 32, period=4, purpose="update")
    assert without == [node for node in ordered if node != left_out]


def test_nodes_that_left_are_drawn_last() -> None:
    ordered = order_nodes(range(9), beacon=b"x" * 32, period=1, purpose="update")
    left = set(ordered[:4])
    assert not left & set(draw_cohort(ordered, 5, last=left))
    assert set(draw_cohort(ordered, 6, last=left)) == set(ordered[4:]) | {ordered[0]}


@given(st.integers(1, 400), st.integers(2, 30), st.integers(2, 200), st.integers(30, 128))
def test_testing_cohorts_are_never_smaller_than_n_min_and_leave_room_to_differ(
    devices: int, n_min: int, cohort: int, limit: int
) -> None:
    sizes = least_cohort_sizes(devices, n_min=n_min, cohort=max(cohort, n_min), limit=limit)
    assert sum(sizes) <= devices and all(n_min <= size <= limit for size in sizes)
    assert bool(sizes) == (devices > n_min)
    assert len(sizes) >= 2 or not sizes or sizes[0] < devices  # one cohort of everybody would tell nothing


def test_cohorts_for_testing_of_30_devices() -> None:
    assert least_cohort(11) == 13 and least_cohort(8) == 10 and least_cohort(2) == 3
    sizes = {devices: least_cohort_sizes(devices, n_min=11, cohort=32, limit=128) for devices in (11, 12, 20, 30, 39, 500)}
    assert sizes == {11: [], 12: [11], 20: [13], 30: [15, 15], 39: [16, 16], 500: [16, 16]}


@given(st.sets(st.integers(1, 900), min_size=1), st.integers(2, 40))
def test_all_nodes_are_dealt_into_cohorts_of_like_size(nodes: set[int], size: int) -> None:
    cohorts = split_cohorts(order_nodes(list(nodes), beacon=b"x" * 32, period=3, purpose="counts"), size, limit=50)
    assert sorted(node for cohort in cohorts for node in cohort) == sorted(nodes)
    lengths = [len(cohort) for cohort in cohorts]
    assert max(lengths) - min(lengths) <= 1 and max(lengths) <= min(50, 2 * size - 1)
    assert min(lengths) >= min(size, 25, len(nodes))


def sums(seen: list[int], wrong: list[int], new_seen: list[int], new_wrong: list[int], pair: tuple[int, int]) -> CountSums:
    """Counts from the coarse threshold 0.6 and from 0.9 on."""
    coarse = [np.array(values, dtype=np.int64) for values in (seen, wrong)]
    fine = [np.array([0, low, 0, 0, high], dtype=np.int64) for low, high in (new_seen, new_wrong)]
    return CountSums(*coarse, *fine, *pair)


def test_new_probes_that_suffice_make_the_release_statement_valid() -> None:
    counts = sums([500, 900], [200, 2], [500, 900], [200, 2], (0, 0))
    statement, running = certify(counts, RunningBound(), POLICY, release_id=RELEASE, round_number=1, now=10.0)
    assert statement.threshold == 0.9 and statement.release_statement == "valid" and statement.state == "empirical"
    assert statement.expires_at == 110 and running == RunningBound(0, 0)


def test_old_probes_alone_make_it_empirical() -> None:
    counts = sums([500, 900], [200, 2], [0, 10], [0, 0], (0, 0))
    statement, _ = certify(counts, RunningBound(), POLICY, release_id=RELEASE, round_number=1, now=10.0)
    assert statement.threshold == 0.9 and statement.release_statement == "empirical"


def test_new_probes_that_would_go_lower_than_all_of_them_vouch_for_the_threshold_of_all() -> None:
    counts = sums([900, 900], [200, 2], [400, 500], [2, 1], (0, 0))
    statement, _ = certify(counts, RunningBound(), POLICY, release_id=RELEASE, round_number=1, now=10.0)
    assert (statement.threshold, statement.release_statement) == (0.9, "valid")
    assert (statement.seen, statement.disagreed) == (500, 1)  # what the new ones say of it


def test_new_probes_alone_decide_where_older_ones_allow_nothing() -> None:
    counts = sums([900, 900], [200, 200], [400, 500], [2, 1], (0, 0))
    statement, _ = certify(counts, RunningBound(), POLICY, release_id=RELEASE, round_number=1, now=10.0)
    assert (statement.threshold, statement.release_statement) == (0.5, "valid")


def test_pairs_count_as_often_as_their_rate_is_lower() -> None:
    counts = sums([0, 900], [0, 2], [0, 900], [0, 2], (300, 10))
    for past, after in ((3_999, 4_299), (4_000, 4_600), (16_000, 17_500), (91_000, 94_000)):
        _, running = certify(counts, RunningBound(past, 50), POLICY, release_id=RELEASE, round_number=2, now=10.0)
        assert running == RunningBound(after, 50 + 10 * (after - past) // 300)


def test_the_lower_threshold_wins_over_the_valid_statement() -> None:
    counts = sums([900, 900], [2, 2], [100, 900], [60, 2], (0, 0))
    statement, _ = certify(counts, RunningBound(), POLICY, release_id=RELEASE, round_number=1, now=10.0)
    assert statement.threshold == 0.6 and statement.release_statement == "empirical"


def test_a_good_record_makes_it_certified_and_the_pairs_are_added_once() -> None:
    counts = sums([0, 900], [0, 2], [0, 900], [0, 2], (300, 1))
    past = RunningBound(700, 3)
    statement, running = certify(
        counts, past, POLICY, release_id=RELEASE, round_number=2, now=10.0, precautions=CHECKED
    )
    assert running == RunningBound(1000, 4)
    assert statement.state == "certified" and statement.running_bound == pytest.approx(running.upper(0.05))


def test_a_good_record_that_central_did_not_check_stays_empirical() -> None:
    counts = sums([0, 900], [0, 2], [0, 900], [0, 2], (300, 1))
    statement, _ = certify(counts, RunningBound(700, 3), POLICY, release_id=RELEASE, round_number=2, now=10.0)
    assert (statement.state, statement.cross_checked) == ("empirical", False)


def test_without_evidence_there_is_no_threshold() -> None:
    counts = sums([0, 20], [0, 0], [0, 20], [0, 0], (0, 0))
    statement, _ = certify(counts, RunningBound(), POLICY, release_id=RELEASE, round_number=1, now=10.0)
    assert statement.threshold is None and statement.state == "none" and statement.probe_rate == 0.3


def test_a_bad_record_tightens_the_next_threshold() -> None:
    counts = sums([500, 500], [20, 0], [500, 500], [20, 0], (0, 0))
    lenient, _ = certify(counts, RunningBound(4000, 60), POLICY, release_id=RELEASE, round_number=2, now=10.0)
    strict, _ = certify(counts, RunningBound(1000, 70), POLICY, release_id=RELEASE, round_number=2, now=10.0)
    assert lenient.threshold == 0.6 and strict.threshold == 0.9


@given(st.integers(0, 100), st.integers(0, 5000), st.floats(0, 1e4), st.lists(st.floats(0, 1e4), min_size=24, max_size=24))
def test_an_updates_metrics_come_back_to_a_thousandth(weight: int, examples: int, loss: float, nll: list[float]) -> None:
    layout = UpdateLayout()
    decoded = layout.decode(layout.encode(weight=weight, examples=examples, loss_sum=loss, nll=nll, norm=0.3))
    assert (decoded.weight, decoded.examples) == (weight, examples)
    assert decoded.loss_sum == pytest.approx(loss, abs=5.1e-4)
    assert decoded.nll.tolist() == pytest.approx(nll, abs=5.1e-4)


@pytest.mark.parametrize(
    ("norm", "examples", "norm_bucket", "example_bucket"),
    [(0.0, 1, 0, 1), (2.0**-8, 2, 1, 2), (0.3, 5, 13, 4), (1e9, 10**6, len(NORM_RUNGS), len(EXAMPLE_RUNGS))],
)
def test_a_device_stands_once_on_each_ladder(norm: float, examples: int, norm_bucket: int, example_bucket: int) -> None:
    layout = UpdateLayout()
    sums = layout.decode(layout.encode(weight=1, examples=examples, loss_sum=0, nll=np.zeros(24), norm=norm))
    assert np.flatnonzero(sums.norms).tolist() == [norm_bucket] and sums.norms.sum() == 1
    assert np.flatnonzero(sums.example_counts).tolist() == [example_bucket] and sums.example_counts.sum() == 1


def test_a_device_without_examples_stands_on_no_ladder() -> None:
    layout = UpdateLayout()
    encoded = layout.encode(weight=0, examples=0, loss_sum=0.0, nll=np.zeros(24), norm=0.0)
    assert not encoded.any()


def test_layouts_refuse_a_sum_of_another_length() -> None:
    assert UpdateLayout().integers == 3 + len(TEMPERATURE_GRID) + len(NORM_RUNGS) + len(EXAMPLE_RUNGS) + 2
    with pytest.raises(InputError):
        UpdateLayout().decode(np.zeros(UpdateLayout().integers + 1, dtype=np.int64))
    layout = CountsLayout(4)
    with pytest.raises(InputError):
        layout.decode(np.zeros(layout.integers + 1, dtype=np.int64), devices=1)


def test_counts_come_back_bin_by_bin_without_the_lift_of_each_device() -> None:
    layout = CountsLayout(5, lift=7)
    agreed, disagreed = np.array([1, -2]), np.array([3, 4])
    new_seen, new_disagreed = np.arange(5), np.arange(5) // 2
    encoded = layout.encode(
        agreed=agreed,
        disagreed=disagreed,
        new_seen=new_seen,
        new_disagreed=new_disagreed,
        running_seen=9,
        running_disagreed=10,
    )
    assert (encoded >= 0).all() and layout.integers == len(encoded) == 2 * 2 + 2 * 5 + 2
    decoded = layout.decode(3 * encoded, devices=3)
    assert decoded.seen.tolist() == (3 * (agreed + disagreed)).tolist()
    assert decoded.disagreed.tolist() == (3 * disagreed).tolist()
    assert (decoded.new_seen.tolist(), decoded.new_disagreed.tolist()) == ([0, 3, 6, 9, 12], [0, 0, 3, 3, 6])
    assert (decoded.running_seen, decoded.running_disagreed) == (27, 30)


def test_counts_of_several_cohorts_add_up() -> None:
    total = sums([1, 2], [0, 1], [1, 1], [0, 0], (3, 1)) + sums([4, 4], [1, 1], [2, 2], [1, 1], (5, 2))
    assert total.seen.tolist() == [5, 6] and total.new_disagreed.tolist() == [0, 1, 0, 0, 1]
    assert (total.running_seen, total.running_disagreed) == (8, 3)


def test_cohorts_keep_node_ids_of_64_bits_as_they_are():
    nodes = [2**64 - 1, 2**63 + 12345678901, 2**53 + 1, 5]
    [cohort] = split_cohorts(order_nodes(nodes, beacon=b"s" * 32, period=1, purpose="counts"), 4, limit=128)
    assert cohort == sorted(nodes) and all(type(node) is int for node in cohort)
