"""An operator's rules: which labels and topics are pinned to a side, what an error costs, how much may be asked.

TOML, read strictly (an unknown key is refused by name), all parts optional; `docs/policy.md` explains each key:

    version = 1
    error_price_usd = 0.02          # what a wrong answer costs; 0 leaves the decision to the certificate alone

    [labels.transfer]               # a predicted label
    rule = "always-central"         # "always-central", "never-escalate" or "human"
    error_price_usd = 5.0           # in place of the default

    [topics.health]                 # a topic that the caller or the workload names
    rule = "never-escalate"
    labels = ["symptoms", "pills"]  # its labels, where no workload knows them

    [budget]
    daily_usd = 0.05                # most that one device may pay central on a day (UTC)

    [rate]
    per_minute = 6                  # most questions to central; per_hour as well
    burst = 12                      # most at once

    [training]
    constraint_weight = 9.0         # how much more a pinned label's example weighs; 0: rules are no matter of training

Where a label's rule and a topic's differ, the one that keeps the query closer wins: never-escalate, then human, then
always-central. Pure: text in, a value out.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from fedge.errors import InputError
from fedge.routing.limits import AskingLimits
from fedge.routing.policy_tables import amount, names, require_known, table_of, tables_of
from fedge.toml import parse_toml

CONSTRAINT_WEIGHT = 9.0
"""Of a policy that has rules and names no other."""
_MOST_WEIGHT = 100.0


class Rule(StrEnum):
    """Where a pinned query goes."""

    NEVER_ESCALATE = "never-escalate"
    HUMAN = "human"
    ALWAYS_CENTRAL = "always-central"


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by label and by topic, the price of an error (default, and by label), limits, and the weight in training.

    ``label_rules`` has the rules of topics that list their labels in it; ``topic_labels`` are those lists.
    """

    label_rules: Mapping[str, Rule] = field(default_factory=_empty)
    topic_rules: Mapping[str, Rule] = field(default_factory=_empty)
    error_price_usd: float = 0.0
    label_error_prices_usd: Mapping[str, float] = field(default_factory=_empty)
    topic_labels: Mapping[str, tuple[str, ...]] = field(default_factory=_empty)
    limits: AskingLimits = field(default_factory=AskingLimits)
    constraint_weight: float = CONSTRAINT_WEIGHT

    @classmethod
    def default(cls) -> "Policy":
        """No rules, no limits and no price of an error: the certificate alone decides."""
        return cls()

    @classmethod
    def from_toml(cls, text: str) -> "Policy":
        """Reads the format above. Raises InputError naming the key that is unknown or has no usable value."""
        document = parse_toml(text, source="the policy")
        require_known(document, {"version", "error_price_usd", "labels", "topics", "budget", "rate", "training"})
        if type(version := document.get("version", 1)) is not int or version != 1:
            raise InputError(f"policy: version {version!r} is unknown, this fedge reads 1")
        labels, topics = tables_of(document, "labels"), tables_of(document, "topics")
        training = table_of(document, "training")
        for name, table in labels.items():
            require_known(table, {"rule", "error_price_usd"}, f"labels.{name}.")
        for name, table in topics.items():
            require_known(table, {"rule", "labels"}, f"topics.{name}.")
        require_known(training, {"constraint_weight"}, "training.")
        label_rules = {name: _rule(table, f"labels.{name}.rule") for name, table in labels.items() if "rule" in table}
        topic_rules = {name: _rule(table, f"topics.{name}.rule") for name, table in topics.items() if "rule" in table}
        topic_labels = {name: names(table, "labels", f"topics.{name}.labels") for name, table in topics.items()}
        return cls(
            label_rules=MappingProxyType(_with_topics(label_rules, topic_rules, topic_labels)),
            topic_rules=MappingProxyType(topic_rules),
            error_price_usd=_price(document, "error_price_usd") if "error_price_usd" in document else 0.0,
            label_error_prices_usd=MappingProxyType(
                {n: _price(t, f"labels.{n}.error_price_usd") for n, t in labels.items() if "error_price_usd" in t}
            ),
            topic_labels=MappingProxyType({name: listed for name, listed in topic_labels.items() if listed}),
            limits=AskingLimits.from_document(document),
            constraint_weight=_weight(training) if "constraint_weight" in training else CONSTRAINT_WEIGHT,
        )

    @property
    def pins(self) -> bool:
        """Whether any rule pins anything."""
        return bool(self.label_rules or self.topic_rules)

    def for_labels(self, topics: Mapping[str, str], labels: Collection[str]) -> "Policy":
        """The same policy with each topic's rule spelled out for the labels of that topic.

        Devices know a query by its predicted label alone. Raises InputError for a label or topic that the model does not
        know: a rule with a typo would silently protect nothing.
        """
        for where in self.unknown(labels, topics):
            known = sorted(set(topics.values()) if where.startswith("topics.") else labels)
            some = ", ".join(known[:5]) or "none"
            kind = where.split(".")[0]
            raise InputError(f"policy: {where} names nothing that the model knows; {kind} are {some}, ...")
        rules = {label: rule for label in labels if (rule := self.rule(label, topics.get(label))) is not None}
        return replace(self, label_rules=MappingProxyType(rules), topic_rules=_empty(), topic_labels=_empty())

    def unknown(self, labels: Collection[str], topics: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """What is named here and is neither a label nor a topic of a model. Without ``topics`` any topic may be named."""
        listed = {label for names_ in self.topic_labels.values() for label in names_}
        named = {*self.label_rules, *self.label_error_prices_usd, *listed}
        found = [f"labels.{name}" for name in sorted(named - set(labels))]
        if topics is not None:
            found += [f"topics.{n}" for n in sorted(set(self.topic_rules) - set(topics.values()) - set(self.topic_labels))]
        return tuple(found)

    def rule(self, label: str, topic: str | None) -> Rule | None:
        """The rule for a predicted label and an optional topic."""
        found = {self.label_rules.get(label), None if topic is None else self.topic_rules.get(topic)}
        return next((rule for rule in Rule if rule in found), None)

    def error_price(self, label: str) -> float:
        """What a wrong answer of this label costs, in USD."""
        return self.label_error_prices_usd.get(label, self.error_price_usd)

    def error_dearer_than_asking(self, label: str, confidence: float, central_price_usd: float) -> bool:
        """Chow's rule (1970): (1 - confidence) times the price of an error exceeds the price of asking."""
        return not (1.0 - confidence) * self.error_price(label) <= central_price_usd


def _with_topics(
    label_rules: Mapping[str, Rule], topic_rules: Mapping[str, Rule], topic_labels: Mapping[str, tuple[str, ...]]
) -> dict[str, Rule]:
    """Rules by label, those of topics that list their labels among them."""
    found: dict[str, set[Rule]] = {label: {rule} for label, rule in label_rules.items()}
    for topic, rule in topic_rules.items():
        for label in topic_labels[topic]:
            found.setdefault(label, set()).add(rule)
    return {label: _closest(rules) for label, rules in found.items()}


def _closest(rules: Collection[Rule | None]) -> Rule:
    return next(rule for rule in Rule if rule in rules)


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    value = table["rule"]
    if not isinstance(value, str) or value not in set(Rule):
        raise InputError(f"policy: {where} is {value!r}, use one of {', '.join(Rule)}")
    return Rule(value)


def _price(table: Mapping[str, Any], where: str) -> float:
    return amount(table, "error_price_usd", where, what="a price in USD of at least 0")


def _weight(table: Mapping[str, Any]) -> float:
    where = "training.constraint_weight"
    return amount(table, "constraint_weight", where, what=f"a number from 0 to {_MOST_WEIGHT:g}", at_most=_MOST_WEIGHT)
