"""What is taken for a label and what is not."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.central.upstream.budget import OUTCOMES, Tokens
from aggregator.central.upstream.prompt import MAX_TOKENS_BELIEVED, read_reply

LABELS = frozenset({"lights_on", "out of scope", "null", "7"})


def reply_of(content: Any, *, usage: Any = None, logprobs: Any = None, finish: str = "stop", refusal: Any = None) -> bytes:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"message": message, "finish_reason": finish, "logprobs": logprobs}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize("content", ['{"label": "lights_on"}', ' {"label":"lights_on"}\n', "lights_on", "lights_on\n"])
def test_a_label_is_taken_as_json_or_bare(content: str) -> None:
    assert read_reply(reply_of(content), LABELS).label == "lights_on"


def test_a_label_that_is_json_by_itself_is_a_label() -> None:
    assert [read_reply(reply_of(content), LABELS).label for content in ("null", "7")] == ["null", "7"]


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        ("lights_off", "unknown_label"),
        ("LIGHTS_ON", "unknown_label"),
        ("The label is lights_on", "unknown_label"),
        ('{"label": "lights_on", "why": "because"}', "unknown_label"),
        ('{"label": ["lights_on"]}', "unknown_label"),
        ("\ud800", "unknown_label"),
        ("[" * 1900, "unknown_label"),
        ("", "empty"),
        (" \n", "empty"),
        (None, "empty"),
        (7, "invalid"),
        (["lights_on"], "invalid"),
        ("lights_on" + " " * 2000, "too_long"),
    ],
)
def test_anything_else_is_no_label_and_has_a_name(content: Any, outcome: str) -> None:
    reply = read_reply(reply_of(content, usage={"prompt_tokens": 3, "completion_tokens": 4}), LABELS)
    assert (reply.outcome, reply.label, reply.tokens) == (outcome, None, Tokens(3, 4))


def test_a_refusal_a_filter_and_a_cut_reply_are_not_believed_although_they_spell_a_label() -> None:
    assert read_reply(reply_of("lights_on", refusal="I cannot"), LABELS).outcome == "refused"
    assert read_reply(reply_of("lights_on", finish="content_filter"), LABELS).outcome == "refused"
    assert read_reply(reply_of("lights_on", finish="length"), LABELS).outcome == "too_long"


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b"[]", b"null", b"{}", b'{"choices": []}', b'{"choices": [7]}', b'{"choices": {}}', b"[" * 99999],
)
def test_a_body_of_another_shape_is_invalid(raw: bytes) -> None:
    assert read_reply(raw, LABELS).outcome == "invalid"


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"prompt_tokens": 3},
        {"prompt_tokens": -1, "completion_tokens": 4},
        {"prompt_tokens": True, "completion_tokens": 4},
        {"prompt_tokens": 3.5, "completion_tokens": 4},
        {"prompt_tokens": "3", "completion_tokens": 4},
        {"prompt_tokens": 3, "completion_tokens": MAX_TOKENS_BELIEVED + 1},
        {"prompt_tokens": float("nan"), "completion_tokens": 4},
    ],
)
def test_counts_of_tokens_that_cannot_be_are_not_believed(usage: Any) -> None:
    reply = read_reply(reply_of("lights_on", usage=usage), LABELS)
    assert (reply.label, reply.tokens) == ("lights_on", None)


def spelled(*tokens: tuple[Any, Any]) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": logprob} for token, logprob in tokens]}


def test_the_probability_is_that_of_the_whole_reply_up_to_the_end_of_the_turn() -> None:
    logprobs = spelled(("lights", math.log(0.5)), ("_on", math.log(0.8)), ("<|end|>", math.log(0.1)))
    assert read_reply(reply_of("lights_on", logprobs=logprobs), LABELS).probability == pytest.approx(0.4)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        {"content": None},
        {"content": [7]},
        spelled(("lights", -0.1)),
        spelled(("something else", -0.1)),
        spelled(("lights_on", float("nan"))),
        spelled(("lights_on", float("inf"))),
        spelled(("lights_on", -float("inf"))),
        spelled(("lights_on", 0.5)),
        spelled(("lights_on", True)),
        spelled(("lights_on", "-0.1")),
        spelled(("lights_on", -(10**400))),
        spelled((7, -0.1)),
    ],
)
def test_probabilities_that_are_none_or_of_something_else_are_left_out(logprobs: Any) -> None:
    reply = read_reply(reply_of("lights_on", logprobs=logprobs), LABELS)
    assert (reply.label, reply.probability) == ("lights_on", None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(sorted(LABELS)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "prompt_tokens", "logprobs", "finish_reason", "token", "logprob"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_back_is_a_label_of_the_workload_or_none(raw: bytes) -> None:
    reply = read_reply(raw, LABELS)
    assert reply.outcome in OUTCOMES
    assert (reply.label in LABELS) if reply.outcome == "answered" else reply.label is None


@given(anything, anything, anything)
def test_whatever_a_message_holds_probability_and_tokens_are_sound(content: Any, usage: Any, logprobs: Any) -> None:
    reply = read_reply(reply_of(content, usage=usage, logprobs=logprobs), LABELS)
    assert reply.probability is None or 0 <= reply.probability <= 1
    assert reply.tokens is None or (reply.tokens.tokens_in >= 0 and reply.tokens.tokens_out >= 0)
