"""The policy file: what it says, and that it is read strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge.errors import InputError
from fedge.routing import AskingLimits, Policy, Rule

SAMPLE = """
version = 1
error_price_usd = 0.02

[labels.transfer]
rule = "always-central"
error_price_usd = 5.0

[labels.joke]
error_price_usd = 0

[labels.fire]
rule = "human"

[topics.health]
rule = "never-escalate"
"""


def test_a_full_policy_says_what_it_says():
    policy = Policy.from_toml(SAMPLE)
    assert policy.rule("transfer", None) is Rule.ALWAYS_CENTRAL
    assert policy.rule("fire", "other") is Rule.HUMAN
    assert policy.rule("joke", None) is None
    assert policy.rule("joke", "health") is Rule.NEVER_ESCALATE
    assert policy.error_price("transfer") == 5.0
    assert policy.error_price("joke") == 0.0
    assert policy.error_price("anything") == 0.02


def test_what_keeps_a_query_closer_wins():
    policy = Policy.from_toml(SAMPLE + '[topics.shop]\nrule = "always-central"\n')
    assert policy.rule("transfer", "health") is Rule.NEVER_ESCALATE
    assert policy.rule("fire", "health") is Rule.NEVER_ESCALATE
    assert policy.rule("fire", "shop") is Rule.HUMAN


def test_the_default_pins_nothing_and_prices_no_error():
    assert Policy.default() == Policy.from_toml("") == Policy()
    assert Policy.default().rule("any", "any") is None
    assert not Policy.default().error_dearer_than_asking("any", 0.0, 0.0)


def test_a_topic_may_list_its_labels_and_the_closest_rule_of_a_label_wins():
    text = SAMPLE + '[topics.money]\nrule = "human"\nlabels = ["transfer", "balance", "pill"]\n'
    policy = Policy.from_toml(text.replace("[topics.health]", '[topics.health]\nlabels = ["pill"]'))
    assert policy.rule("transfer", None) is policy.rule("balance", None) is Rule.HUMAN
    assert policy.rule("pill", None) is Rule.NEVER_ESCALATE
    assert policy.rule("other", "money") is Rule.HUMAN
    assert policy.unknown(["transfer", "balance", "fire", "joke"]) == ("labels.pill",)


def test_limits_and_the_weight_in_training_are_read():
    policy = Policy.from_toml(
        "[budget]\ndaily_usd = 0.05\n[rate]\nper_minute = 6\nper_hour = 60\nburst = 2\n[training]\nconstraint_weight = 0"
    )
    assert policy.limits == AskingLimits(daily_usd=0.05, per_minute=6, per_hour=60, burst=2)
    assert policy.constraint_weight == 0.0 and not policy.pins
    assert Policy.default().limits == AskingLimits()


def test_chows_rule_weighs_the_error_against_the_question():
    policy = Policy.from_toml("error_price_usd = 0.5")
    assert not policy.error_dearer_than_asking("any", 0.75, 0.125)  # 0.125 against 0.125
    assert policy.error_dearer_than_asking("any", 0.74, 0.125)
    assert policy.error_dearer_than_asking("any", float("nan"), 1.0)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 10), st.floats(0, 10))
def test_chows_rule_never_escalates_the_surer_of_two(one, other, error_price, ask_price):
    policy = Policy(error_price_usd=error_price)
    low, high = sorted((one, other))
    if policy.error_dearer_than_asking("any", high, ask_price):
        assert policy.error_dearer_than_asking("any", low, ask_price)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "colour"),
        ("[labels.a]\nrul = 'human'", "labels.a.rul"),
        ("[topics.a]\nerror_price_usd = 1", "topics.a.error_price_usd"),
        ("[labels.a]\nrule = 'sometimes'", "labels.a.rule"),
        ("[labels.a]\nrule = ['human']", "labels.a.rule"),
        ("[topics.a]\nrule = 3", "topics.a.rule"),
        ("error_price_usd = -1", "error_price_usd"),
        ("error_price_usd = true", "error_price_usd"),
        ("error_price_usd = inf", "error_price_usd"),
        ("[labels.a]\nerror_price_usd = 'much'", "labels.a.error_price_usd"),
        ("[labels.a]\nlabels = ['b']", "labels.a.labels"),
        ("[topics.a]\nlabels = 'b'", "topics.a.labels"),
        ("[topics.a]\nlabels = ['']", "topics.a.labels"),
        ("[budget]\ndaily = 1", "budget.daily"),
        ("[budget]\ndaily_usd = -1", "budget.daily_usd"),
        ("[budget]\ndaily_usd = nan", "budget.daily_usd"),
        ("budget = 3", "budget"),
        ("[rate]\nper_second = 1", "rate.per_second"),
        ("[rate]\nper_minute = 0", "rate.per_minute"),
        ("[rate]\nper_hour = 1.5", "rate.per_hour"),
        ("[rate]\nper_hour = true", "rate.per_hour"),
        ("[rate]\nper_hour = " + "9" * 400, "rate.per_hour"),
        ("[rate]\nburst = 3", "rate.burst needs a rate"),
        ("[training]\nconstraint = 1", "training.constraint"),
        ("[training]\nconstraint_weight = -1", "training.constraint_weight"),
        ("[training]\nconstraint_weight = 1e9", "training.constraint_weight"),
        ("version = 2", "version"),
        ("version = true", "version"),
        ("labels = 3", "labels"),
        ("[labels]\na = 'human'", "labels"),
        ("= 3", "TOML"),
        ("error_price_usd = " + "9" * 400, "error_price_usd"),
        ("error_price_usd = " + "9" * 5_000, "TOML"),
        ("labels = " + "[" * 2_000, "nests too deep"),
        ("labels." * 2_000 + "rule = 1", "nests more than"),
    ],
)
def test_what_is_unknown_is_refused_by_name(text, named):
    with pytest.raises(InputError, match=named):
        Policy.from_toml(text)
