"""A policy made ready for a model: topics become labels, and a name that protects nothing is refused."""

import pytest

from fedge.errors import InputError
from fedge.routing import Policy, Rule

TOPICS = {"pay": "money", "balance": "money", "joke": "fun"}
LABELS = ("balance", "joke", "oos", "pay")


def test_a_topics_rule_holds_for_every_label_of_it() -> None:
    policy = Policy.from_toml('[topics.money]\nrule = "never-escalate"\n').for_labels(TOPICS, LABELS)
    assert policy.rule("pay", None) is Rule.NEVER_ESCALATE and policy.rule("balance", None) is Rule.NEVER_ESCALATE
    assert policy.rule("joke", None) is None and policy.rule("oos", None) is None


def test_the_rule_that_keeps_the_query_closer_wins_over_the_topics() -> None:
    text = '[labels.pay]\nrule = "human"\n[topics.money]\nrule = "always-central"\n'
    policy = Policy.from_toml(text).for_labels(TOPICS, LABELS)
    assert policy.rule("pay", None) is Rule.HUMAN and policy.rule("balance", None) is Rule.ALWAYS_CENTRAL


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[labels.banana]\nrule = "human"\n', "labels.banana"),
        ("[labels.banana]\nerror_price_usd = 1\n", "labels.banana"),
        ('[topics.nonsense]\nrule = "never-escalate"\n', "topics.nonsense"),
    ],
)
def test_a_name_that_the_model_does_not_know_is_refused(text: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        Policy.from_toml(text).for_labels(TOPICS, LABELS)
