"""The coverage experiment: its truth is the truth, and it catches a bound that is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.certificate_coverage import KINDS, NULL, NULL_RISK, Share, judge, plan
from benchmarks.certificate_recording import Recording, flat
from benchmarks.certificate_streams import Condition, peeking, stream, traffic, unproven
from fedge.errors import InputError


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Three releases that get better, 600 queries in six topics and 60 out of scope; surer answers are more often right."""
    rng = np.random.default_rng(4)
    topic = np.concatenate([np.arange(600) % 6, np.full(60, -1)])
    hard = np.where(topic < 0, 3.0, 1.0 + topic / 5)
    confidence = rng.beta(np.array([[2.0], [4.0], [6.0]]), hard)
    disagreed = rng.random(confidence.shape) < 0.5 * (1 - confidence) ** 1.2
    return Recording(
        workload="made up",
        confidence=confidence,
        disagreed=disagreed,
        eligible=rng.random(confidence.shape) < 0.95,
        topic=topic,
        oos_share=0.1,
    )


def test_the_experiment_counts_every_promise_of_every_condition(recording):
    conditions = plan((600, 3000), long=False)
    assert len(conditions) == 2 * len(KINDS)
    verdicts = [judge(recording, condition, runs=5, seed=1) for condition in conditions]
    for one in verdicts:
        document = one.to_json()
        for name in ("release_ever_broken", "running_broken", "made_above_bound", "certified_wrongly", "certified"):
            assert document[name]["of"] == 5
            low, high = document[name]["interval"]
            assert low <= document[name]["share"] <= high
    assert sum(one.release_broken.of for one in verdicts) > 0
    few, many = (sum(one.local_share for one in verdicts if one.condition.probes == probes) for probes in (600, 3000))
    assert few < many


def test_a_bound_that_is_peeked_at_is_caught_and_ours_is_not():
    null = replace(NULL, probes=800, rounds=12, confidence=0.8)  # delta 0.2: few runs tell
    wrong = judge(flat(NULL_RISK), null, runs=40, seed=3, issue=peeking).running_broken
    ours = judge(flat(NULL_RISK), null, runs=20, seed=3).running_broken
    assert wrong.interval[0] > 0.2
    assert ours.count / ours.of <= 0.2


def test_a_promise_beyond_what_was_tested_is_caught_by_the_release_statement(recording):
    condition = replace(KINDS[0], probes=600)
    assert judge(recording, condition, runs=20, seed=1, issue=unproven).release_broken.interval[0] > 0.05
    assert judge(recording, condition, runs=20, seed=1).release_broken.interval[0] <= 0.05


def test_a_stream_is_a_function_of_its_seed(recording):
    condition = replace(KINDS[2], probes=3000)
    assert list(stream(recording, condition, seed=7)) == list(stream(recording, condition, seed=7))
    assert list(stream(recording, condition, seed=7)) != list(stream(recording, condition, seed=8))


def test_a_fleet_that_both_skews_and_shifts_is_refused():
    with pytest.raises(InputError, match="skews and shifts"):
        replace(KINDS[1], shift_after=0.5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_truth_is_that_of_the_traffic(recording, kind):
    asked = traffic(recording, kind, np.random.default_rng(1))
    for phase in range(len(asked.topics)):
        weights = asked.weights(phase, recording.queries)
        assert weights.sum() == pytest.approx(1.0)
        _, items = asked.draw(np.random.default_rng(2), phase, 60_000)
        for topic in range(-1, 6):
            assert (recording.topic[items] == topic).mean() == pytest.approx(
                weights[recording.topic == topic].sum(), abs=0.01
            )


def test_after_the_shift_half_of_the_traffic_is_new(recording):
    before, after = (
        traffic(recording, KINDS[3], np.random.default_rng(1)).weights(phase, recording.queries) for phase in (0, 1)
    )
    assert after[before == 0].sum() == pytest.approx(0.25)  # topics that nobody asked before
    assert after[recording.topic < 0].sum() == pytest.approx(0.25 + 0.5 * before[recording.topic < 0].sum())


def test_sums_that_are_always_lost_certify_nothing(recording):
    assert list(stream(recording, Condition(name="lost", probes=300, lost=1.0), seed=1)) == []


def test_a_device_that_is_away_reports_later_and_a_lost_cohort_never(recording):
    # So few disagree that a threshold stands in nearly every round: what is missing then is missing from the sums.
    kept = np.random.default_rng(5).random(recording.disagreed.shape) < 0.2
    easy = replace(recording, disagreed=recording.disagreed & kept)

    def ends(**changes: float) -> float:
        condition = Condition(name="sums", probes=3000, **changes)
        return sum(list(stream(easy, condition, seed=seed))[-1].statement.running_seen for seed in range(6))

    assert ends(lost=0.5) < 0.75 * ends() < ends(absent=0.2)


def test_a_recording_survives_its_file_and_nothing_else_is_read(recording, tmp_path):
    recording.save(tmp_path / "good.npz")
    again = Recording.load(tmp_path / "good.npz")
    for name in ("confidence", "disagreed", "eligible", "topic"):
        assert np.array_equal(getattr(again, name), getattr(recording, name))
    assert (again.workload, again.oos_share) == (recording.workload, recording.oos_share)
    np.savez(tmp_path / "pickled.npz", format=np.array(1), workload=np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("pickled.npz", "text.npz", "missing.npz"):
        with pytest.raises(InputError, match="record it anew"):
            Recording.load(tmp_path / name)
    with pytest.raises(InputError, match="record it anew"):
        replace(recording, topic=recording.topic[:-1])


def test_the_interval_of_a_share_is_exact():
    low, high = Share(0, 59).interval
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 59)))
    assert Share(59, 59).interval[0] == pytest.approx(0.025 ** (1 / 59))
    assert Share(0, 0).to_json()["share"] is None
