"""What rules ask of the model: the weights of examples, and which answers break a rule."""

import numpy as np
import pytest

from fedge.routing import Policy, Rule, RuleCount, Violations, example_weights, violates

PINNED = Policy.from_toml(
    '[labels.alarm]\nrule = "always-central"\n[labels.fire]\nrule = "human"\n[labels.secret]\nrule = "never-escalate"\n'
    "[training]\nconstraint_weight = 3\n"
)
LABELS = ("alarm", "fire", "lights", "secret")


def test_examples_of_pinned_labels_weigh_one_and_the_constraints_weight():
    weights = example_weights(PINNED, LABELS)
    assert weights is not None and weights.dtype == np.float32
    assert weights.tolist() == [4.0, 4.0, 1.0, 4.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "error_price_usd = 1.0",
        "[training]\nconstraint_weight = 3",
        '[labels.alarm]\nrule = "human"\n[training]\nconstraint_weight = 0',
        '[labels.unknown]\nrule = "human"',
    ],
)
def test_a_policy_that_constrains_nothing_leaves_training_as_it_is(text):
    assert example_weights(Policy.from_toml(text), LABELS) is None


@pytest.mark.parametrize(
    ("rule", "forbidden"),
    [
        (Rule.ALWAYS_CENTRAL, {"device"}),
        (Rule.HUMAN, {"device", "central", "upstream"}),
        (Rule.NEVER_ESCALATE, {"central", "upstream"}),
        (None, set()),
    ],
)
def test_each_rule_forbids_what_it_says(rule, forbidden):
    assert {who for who in ("device", "central", "upstream", "human") if violates(rule, who)} == forbidden


def test_violations_are_a_share_of_the_pinned_and_overreach_of_the_free():
    counted = Violations.count(
        PINNED,
        [
            ("alarm", "device", False),
            ("alarm", "central", True),
            ("alarm", "central", False),  # taken for another label, and asked all the same
            ("fire", "central", False),
            ("secret", "device", True),
            ("lights", "device", False),
            ("lights", "central", True),
            ("lights", "central", False),
            ("lights", "human", True),
        ],
    )
    assert counted.by_rule == {
        Rule.ALWAYS_CENTRAL: RuleCount(3, 1),
        Rule.HUMAN: RuleCount(1, 1),
        Rule.NEVER_ESCALATE: RuleCount(1, 0),
    }
    assert (counted.pinned, counted.violations, counted.rate) == (5, 2, 0.4)
    assert (counted.free, counted.overreached, counted.overreach) == (4, 2, 0.5)


def test_no_queries_have_no_rate():
    nothing = Violations.count(PINNED, [])
    assert nothing.rate is None and nothing.overreach is None
