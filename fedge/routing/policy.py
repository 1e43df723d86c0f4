"""An operator's rules: which labels and topics are pinned to a side, and what an error costs.

TOML, read strictly (an unknown key is refused by name), all parts optional:

    version = 1
    error_price_usd = 0.02          # what a wrong answer costs; 0 leaves the decision to the certificate alone

    [labels.transfer]               # a predicted label
    rule = "always-central"         # "always-central", "never-escalate" or "human"
    error_price_usd = 5.0           # in place of the default

    [topics.health]                 # a topic that the caller or the workload names
    rule = "never-escalate"

Where a label's rule and a topic's differ, the one that keeps the query closer wins: never-escalate, then human, then
always-central. Pure: text in, a value out.
"""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from fedge.errors import InputError
from fedge.toml import parse_toml


class Rule(StrEnum):
    """Where a pinned query goes."""

    NEVER_ESCALATE = "never-escalate"
    HUMAN = "human"
    ALWAYS_CENTRAL = "always-central"


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by label and by topic, and the price of an error (default, and by label)."""

    label_rules: Mapping[str, Rule] = field(default_factory=_empty)
    topic_rules: Mapping[str, Rule] = field(default_factory=_empty)
    error_price_usd: float = 0.0
    label_error_prices_usd: Mapping[str, float] = field(default_factory=_empty)

    @classmethod
    def default(cls) -> "Policy":
        """No rules and no price of an error: the certificate alone decides."""
        return cls()

    @classmethod
    def from_toml(cls, text: str) -> "Policy":
        """Reads the format above. Raises InputError naming the key that is unknown or has no usable value."""
        document = parse_toml(text, source="the policy")
        _known(document, {"version", "error_price_usd", "labels", "topics"}, "")
        if type(version := document.get("version", 1)) is not int or version != 1:
            raise InputError(f"policy: version {version!r} is unknown, this fedge reads 1")
        labels, topics = _tables(document, "labels"), _tables(document, "topics")
        for name, table in labels.items():
            _known(table, {"rule", "error_price_usd"}, f"labels.{name}.")
        for name, table in topics.items():
            _known(table, {"rule"}, f"topics.{name}.")
        return cls(
            label_rules=MappingProxyType({n: _rule(t, f"labels.{n}.rule") for n, t in labels.items() if "rule" in t}),
            topic_rules=MappingProxyType({n: _rule(t, f"topics.{n}.rule") for n, t in topics.items() if "rule" in t}),
            error_price_usd=_price(document, "error_price_usd") if "error_price_usd" in document else 0.0,
            label_error_prices_usd=MappingProxyType(
                {n: _price(t, f"labels.{n}.error_price_usd") for n, t in labels.items() if "error_price_usd" in t}
            ),
        )

    def for_labels(self, topics: Mapping[str, str], labels: Collection[str]) -> "Policy":
        """The same policy with each topic's rule spelled out for the labels of that topic.

        Devices know a query by its predicted label alone. Raises InputError for a label or topic that the model does not
        know: a rule with a typo would silently protect nothing.
        """
        for kind, named, known in (
            ("labels", {*self.label_rules, *self.label_error_prices_usd}, set(labels)),
            ("topics", set(self.topic_rules), set(topics.values())),
        ):
            for name in sorted(named - known):
                some = ", ".join(sorted(known)[:5]) or "none"
                raise InputError(f"policy: {kind}.{name} names nothing that the model knows; {kind} are {some}, ...")
        rules = {label: rule for label in labels if (rule := self.rule(label, topics.get(label))) is not None}
        return replace(self, label_rules=MappingProxyType(rules), topic_rules=_empty())

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


def _known(table: Mapping[str, Any], keys: set[str], prefix: str) -> None:
    for key in sorted(set(table) - keys):
        raise InputError(f"policy: unknown key {prefix}{key!s}; known are {', '.join(sorted(keys))}")


def _tables(document: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    tables = document.get(name, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise InputError(f"policy: {name} holds tables, as in [{name}.NAME]")
    return tables


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    value = table["rule"]
    if not isinstance(value, str) or value not in set(Rule):
        raise InputError(f"policy: {where} is {value!r}, use one of {', '.join(Rule)}")
    return Rule(value)


def _price(table: Mapping[str, Any], where: str) -> float:
    value = table["error_price_usd"]
    if type(value) not in (int, float) or not 0 <= value <= sys.float_info.max:  # an integer may exceed any float
        raise InputError(f"policy: {where} is {value!r}, use a price in USD of at least 0")
    return float(value)
