"""A policy as a document and as TOML, in the form that `Policy.from_toml` reads: what is spelled out suits a device."""

from typing import Any

from fedge.routing.policy import Policy


def as_document(policy: Policy) -> dict[str, Any]:
    """Plain values, tables in the order of the file; what is not set is left out."""
    limits = policy.limits
    labels: dict[str, dict[str, Any]] = {}
    for label in sorted({*policy.label_rules, *policy.label_error_prices_usd}):
        labels[label] = {}
        if (rule := policy.label_rules.get(label)) is not None:
            labels[label]["rule"] = str(rule)
        if (price_usd := policy.label_error_prices_usd.get(label)) is not None:
            labels[label]["error_price_usd"] = price_usd
    topics: dict[str, dict[str, Any]] = {}
    for topic in sorted({*policy.topic_rules, *policy.topic_labels}):
        topics[topic] = {}
        if (rule := policy.topic_rules.get(topic)) is not None:
            topics[topic]["rule"] = str(rule)
        if listed := policy.topic_labels.get(topic):
            topics[topic]["labels"] = list(listed)
    rate = {"per_minute": limits.per_minute, "per_hour": limits.per_hour, "burst": limits.burst}
    return {
        "version": 1,
        "error_price_usd": policy.error_price_usd,
        "labels": labels,
        "topics": topics,
        "budget": {} if limits.daily_usd is None else {"daily_usd": limits.daily_usd},
        "rate": {name: number for name, number in rate.items() if number is not None},
        "training": {"constraint_weight": policy.constraint_weight},
    }


def as_toml(policy: Policy) -> str:
    """The text of a policy file."""
    document = as_document(policy)
    lines = [f"version = {document['version']}", f"error_price_usd = {document['error_price_usd']!r}"]
    for kind in ("labels", "topics"):
        for name, table in document[kind].items():
            lines += ["", f"[{kind}.{_text(name)}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    for kind in ("budget", "rate", "training"):
        if document[kind]:
            lines += ["", f"[{kind}]", *(f"{key} = {_value(value)}" for key, value in document[kind].items())]
    return "\n".join(lines) + "\n"


def _value(value: str | float | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """A basic string; everything that TOML would want escaped is."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
