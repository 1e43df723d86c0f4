"""A release decides about training within the device's bounds only, and some updates never leave."""

from dataclasses import replace

import numpy as np
import pytest

from edge_client.refusal import SessionRefused
from edge_client.rounds.training_checks import UpdateWithheld, check_release, check_update
from edge_client.rounds.updates import Contribution
from edge_client.settings import TrainingSettings
from edge_client.store import Fit, open_memory, restore
from edge_client.training_policy import TrainingPolicy, training_from_mapping
from fedge.architectures import DenseHead

DAY_S = 86_400.0
POLICY = TrainingPolicy(base_wait_s=3 * DAY_S)
BASE, OTHER = "aa" * 32, "bb" * 32


@pytest.fixture
def store():
    return open_memory()


@pytest.fixture
def manifest(make_release):
    return make_release().manifest


def update(*, share=0.1, fit=None) -> Contribution:
    return Contribution(reals=np.zeros(0, np.float32), integers=np.zeros(0, np.int64), fit=fit, largest_share=share)


def fit(missed_share, *, examples=100, base=BASE, at=0.0) -> Fit:
    return Fit(base, examples, missed_share * examples, at)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.6),
        ("batch_size", 1024),
        ("batch_size", 1),
        ("epochs", 11),
        ("clip_norm", 4000.0),
        ("example_clip_norm", 100.0),
        ("weight_cap", 5000),
        ("l2", 1.0),
        ("label_smoothing", 0.9),
    ],
)
def test_a_setting_outside_of_the_bounds_is_named_with_its_value_and_bound(manifest, store, name, value):
    asked = replace(manifest, training={**manifest.training, name: value})
    with pytest.raises(SessionRefused, match=rf"{name} is {value}, this device trains with at (most|least) .*training\.m"):
        check_release(POLICY, asked, store, now=0.0)


@pytest.mark.parametrize("head", [DenseHead(257, 2), DenseHead(200, 1000)])
def test_a_head_beyond_the_bounds_is_refused(manifest, head):
    with pytest.raises(SessionRefused, match="this device trains with at most"):
        POLICY.check(head, training_from_mapping(manifest.training))


def test_the_defaults_of_the_settings_are_those_of_the_policy():
    assert TrainingSettings().policy() == TrainingPolicy()


def test_the_first_base_trains_at_once_and_the_next_after_its_wait(manifest, store):
    check_release(POLICY, manifest, store, now=0.0)
    other = replace(manifest, encoder_sha256=OTHER)
    for now in (DAY_S, 3.9 * DAY_S):
        with pytest.raises(SessionRefused, match="base bbbbbbbbbbbb is new"):
            check_release(POLICY, other, store, now=now)
    # What was seen outlives the process.
    again = restore(store.dump())
    check_release(POLICY, other, again, now=4 * DAY_S)
    check_release(POLICY, manifest, again, now=4 * DAY_S)


def test_the_wait_begins_when_the_base_comes_over_the_devices_channel(make_bench, make_release):
    bench = make_bench()
    bench.source.publish(make_release())
    bench.agent.sync()
    first = bench.store.training.see(make_release().manifest.encoder_sha256, at=bench.clock.now + DAY_S)
    assert (first.first_seen, first.enrolled) == (bench.clock.now, True)


def test_an_update_of_which_one_example_holds_over_half_stays_at_home(store):
    check_update(POLICY, update(share=0.5), store)
    for over in (update(share=0.51), replace(update(), kept=0.09)):
        with pytest.raises(UpdateWithheld, match="by its own rules"):
            check_update(POLICY, over, store)


def test_a_release_far_worse_than_the_last_gets_nothing_and_says_nothing_of_the_data(store):
    store.training.set_last_fit(fit(0.1))
    allowed = POLICY.allowed_rise(100, 100)
    assert allowed == pytest.approx(0.2 + np.sqrt(np.log(1e4) / 100))
    check_update(POLICY, update(fit=fit(0.1 + allowed - 0.01)), store)
    with pytest.raises(UpdateWithheld) as refusal:
        check_update(POLICY, update(fit=fit(0.1 + allowed + 0.01)), store)
    assert "0." not in str(refusal.value)


def test_another_base_or_a_long_time_begins_anew(store):
    store.training.set_last_fit(fit(0.0))
    check_update(POLICY, update(fit=fit(1.0, base=OTHER)), store)
    check_update(POLICY, update(fit=fit(1.0, at=8 * DAY_S)), store)


def test_honest_chance_does_not_trip_the_comparison():
    """Two samples of one distribution, however small: at most one pair in ten thousand may differ by more."""
    rng, tripped = np.random.default_rng(1), 0
    for _ in range(20_000):
        before, now = (int(rng.integers(1, 60)) for _ in range(2))
        rise = rng.integers(0, 2, now).mean() - rng.integers(0, 2, before).mean()
        tripped += rise > POLICY.allowed_rise(now, before) - POLICY.max_rise
    assert tripped <= 4
