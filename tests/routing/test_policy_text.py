"""A policy that is written out reads as the same policy."""

from hypothesis import given
from hypothesis import strategies as st

from fedge.routing import Policy, Rule
from fedge.routing.policy_text import as_document, as_toml

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
RULES = st.sampled_from([str(rule) for rule in Rule])


def test_what_is_not_set_is_left_out():
    assert as_toml(Policy.default()) == "version = 1\nerror_price_usd = 0.0\n\n[training]\nconstraint_weight = 9.0\n"


def test_topics_are_spelled_out_as_the_rules_of_their_labels():
    policy = Policy.from_toml('[topics.money]\nrule = "human"\n').for_labels(
        {"pay": "money", "joke": "fun"}, ["pay", "joke"]
    )
    assert as_document(policy)["labels"] == {"pay": {"rule": "human"}}
    assert Policy.from_toml(as_toml(policy)) == policy


@given(
    labels=st.dictionaries(NAMES, RULES, max_size=4),
    topics=st.dictionaries(NAMES, st.tuples(RULES, st.lists(NAMES, max_size=3)), max_size=3),
    price=st.floats(0, 1e9),
    daily=st.none() | st.floats(0, 1e9),
    per_hour=st.none() | st.integers(1, 1_000_000),
    weight=st.floats(0, 100),
)
def test_any_policy_comes_back_as_it_was(labels, topics, price, daily, per_hour, weight):
    document = {
        "labels": {name: {"rule": rule, "error_price_usd": price} for name, rule in labels.items()},
        "topics": {name: {"rule": rule, "labels": listed} for name, (rule, listed) in topics.items()},
    }
    lines = []
    for kind, tables in document.items():
        for name, table in tables.items():
            lines.append(f"[{kind}.{quoted(name)}]")
            for key, value in table.items():
                listed = isinstance(value, list) and f"[{', '.join(map(quoted, value))}]"
                lines.append(f"{key} = {listed or (quoted(value) if isinstance(value, str) else repr(value))}")
    if daily is not None:
        lines += ["[budget]", f"daily_usd = {daily!r}"]
    if per_hour is not None:
        lines += ["[rate]", f"per_hour = {per_hour}", "burst = 2"]
    lines += ["[training]", f"constraint_weight = {weight!r}"]
    policy = Policy.from_toml("\n".join(lines))
    assert set(policy.label_rules) >= set(labels)
    assert Policy.from_toml(as_toml(policy)) == policy


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'
