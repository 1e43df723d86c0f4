"""The order of the router's questions, and what each answer counts for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.routing import Policy, Reason, Route, local_candidate, route

PINNED = Policy.from_toml(
    '[labels.alarm]\nrule = "always-central"\n[labels.secret]\nrule = "never-escalate"\n[labels.fire]\nrule = "human"\n'
    '[labels.transfer]\nerror_price_usd = 1.0\n[topics.health]\nrule = "never-escalate"\n'
)


def decide(label="lights", confidence=0.9, **overrides) -> Route:
    arguments = {
        "threshold": 0.8,
        "policy": PINNED,
        "mode": "auto",
        "is_probe": False,
        "online": True,
        "central_price_usd": 0.00075,
        "oos_label": "oos",
    }
    return route(label=label, confidence=confidence, **(arguments | overrides))


def test_confident_answers_stay_on_the_device_and_count():
    assert decide() == Route("device", Reason.CONFIDENT, counted=True)
    assert decide(confidence=0.8) == Route("device", Reason.CONFIDENT, counted=True)


def test_everything_escalates_without_a_certificate():
    assert decide(confidence=1.0, threshold=None) == Route("central", Reason.NO_CERTIFICATE)


def test_below_the_threshold_central_is_asked():
    assert decide(confidence=0.799) == Route("central", Reason.BELOW_THRESHOLD)
    assert decide(confidence=math.nan) == Route("central", Reason.BELOW_THRESHOLD)


def test_a_predicted_out_of_scope_label_is_never_answered_locally():
    assert decide("oos", confidence=1.0) == Route("central", Reason.OUT_OF_SCOPE)
    assert decide("oos", confidence=1.0, oos_label=None).answered_by == "device"


def test_an_error_dearer_than_asking_escalates_even_above_the_threshold():
    assert decide("transfer", confidence=0.999) == Route("central", Reason.ERROR_PRICE)
    assert decide("transfer", confidence=0.9995).answered_by == "device"


def test_the_certified_threshold_is_the_floor_however_cheap_an_error():
    assert decide(confidence=0.5, central_price_usd=1e9).reason is Reason.BELOW_THRESHOLD


def test_a_probe_goes_to_central_and_counts_where_it_would_have_stayed():
    assert decide(is_probe=True) == Route("central", Reason.PROBE, probe=True, counted=True)
    assert decide(confidence=0.1, is_probe=True) == Route("central", Reason.PROBE, probe=True)
    assert decide("oos", is_probe=True) == Route("central", Reason.PROBE, probe=True)
    assert decide(threshold=None, is_probe=True) == Route("central", Reason.PROBE, probe=True)


@pytest.mark.parametrize("lost", [{"online": False}, {"within_budget": False}, {"within_rate": False}])
def test_a_probe_that_cannot_be_asked_is_none_and_what_stays_then_is_not_counted(lost):
    assert decide(is_probe=True, **lost) == Route("device", Reason.CONFIDENT)
    assert decide(**lost) == Route("device", Reason.CONFIDENT)


def test_offline_and_over_budget_answers_are_degraded():
    assert decide(confidence=0.1, online=False) == Route("device", Reason.OFFLINE, degraded=True)
    assert decide(confidence=0.1, within_budget=False) == Route("device", Reason.OVER_BUDGET, degraded=True)
    assert decide(confidence=0.1, online=False, within_budget=False).reason is Reason.OFFLINE
    assert decide(confidence=0.1, within_rate=False) == Route("device", Reason.RATE_LIMITED, degraded=True)
    assert decide(confidence=0.1, within_budget=False, within_rate=False).reason is Reason.OVER_BUDGET
    assert decide("alarm", within_rate=False) == Route("device", Reason.RATE_LIMITED, degraded=True)
    assert decide("fire", within_budget=False, within_rate=False) == Route("human", Reason.POLICY_HUMAN)
    assert decide("alarm", online=False) == Route("device", Reason.OFFLINE, degraded=True)
    assert decide(mode="central", online=False) == Route("device", Reason.OFFLINE, degraded=True)


def test_a_caller_may_force_either_side():
    assert decide(confidence=0.1, mode="local-only") == Route("device", Reason.FORCED_LOCAL, degraded=True)
    assert decide(mode="local-only", is_probe=True) == Route("device", Reason.FORCED_LOCAL)
    assert decide("alarm", mode="local-only") == Route("device", Reason.FORCED_LOCAL, degraded=True)
    assert decide(mode="central") == Route("central", Reason.FORCED_CENTRAL)
    assert decide(mode="central", is_probe=True) == Route("central", Reason.FORCED_CENTRAL)
    assert decide("alarm", mode="central") == Route("central", Reason.FORCED_CENTRAL)


def test_policy_pins_labels_and_topics():
    assert decide("alarm") == Route("central", Reason.POLICY_ALWAYS_CENTRAL)
    assert decide("alarm", is_probe=True) == Route("central", Reason.POLICY_ALWAYS_CENTRAL)
    assert decide("fire", mode="local-only") == Route("human", Reason.POLICY_HUMAN)
    assert decide("secret") == Route("device", Reason.POLICY_NEVER_ESCALATE)
    assert decide("lights", confidence=0.1, topic="health") == Route("device", Reason.POLICY_NEVER_ESCALATE, degraded=True)


everything = {
    "label": st.sampled_from(["lights", "alarm", "secret", "fire", "transfer", "oos"]),
    "confidence": st.floats(0, 1) | st.just(math.nan),
    "threshold": st.none() | st.floats(0.01, 0.99),
    "topic": st.sampled_from([None, "health", "other"]),
    "mode": st.sampled_from(["auto", "local-only", "central"]),
    "is_probe": st.booleans(),
    "online": st.booleans(),
    "within_budget": st.booleans(),
    "within_rate": st.booleans(),
    "central_price_usd": st.floats(0, 1),
}


@given(**everything)
def test_what_policy_keeps_in_the_house_never_leaves(**query):
    if query["label"] == "secret" or query["topic"] == "health":
        assert decide(**query).answered_by == "device"
        assert not decide(**query).probe


@given(**everything)
def test_central_is_only_ever_named_when_it_can_be_reached(**query):
    if decide(**query).answered_by == "central":
        assert query["online"]
        assert query["within_budget"] and query["within_rate"]
        assert query["mode"] != "local-only"


@given(**everything)
def test_only_certified_answers_and_their_probes_are_counted(**query):
    made = decide(**query)
    if made.counted:
        assert made.reason in {Reason.CONFIDENT, Reason.PROBE}
        assert query["threshold"] is not None
        assert query["confidence"] >= query["threshold"]
        assert not made.degraded


@given(**everything)
def test_the_coin_changes_nothing_but_who_is_asked(**query):
    """Same fate apart from the probe itself: what is counted with the coin up is counted with the coin down."""
    heads, tails = decide(**query | {"is_probe": True}), decide(**query | {"is_probe": False})
    assert heads.counted == tails.counted
    if not heads.probe:
        assert heads == tails


@given(**everything)
def test_counted_queries_are_candidates_of_the_grid_test(**query):
    if decide(**query).counted:
        assert local_candidate(
            label=query["label"],
            confidence=query["confidence"],
            policy=PINNED,
            topic=query["topic"],
            central_price_usd=query["central_price_usd"],
            oos_label="oos",
        )


def test_pinned_out_of_scope_and_dear_queries_are_no_candidates():
    def candidate(label, confidence=0.9, topic=None):
        return local_candidate(
            label=label, confidence=confidence, policy=PINNED, topic=topic, central_price_usd=0.001, oos_label="oos"
        )

    assert candidate("lights")
    assert candidate("lights", confidence=0.0)
    assert not candidate("oos")
    assert not candidate("alarm")
    assert not candidate("transfer")
    assert not candidate("lights", topic="health")
    assert not candidate("lights", confidence=math.nan)
