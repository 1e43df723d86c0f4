"""What came back, read strictly: one of the labels, or a reason why there is none. Never raises for anything in a reply."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from aggregator.central.upstream.outcomes import ANSWERED, EMPTY, INVALID, REFUSED, TOO_LONG, UNKNOWN_LABEL, Tokens

MAX_CONTENT_CHARACTERS = 2000
MAX_TOKENS_BELIEVED = 1_000_000
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Reply:
    """``tokens``: as upstream says that it billed them; None where it does not, or says what cannot be."""

    outcome: str
    label: str | None = None
    probability: float | None = None
    tokens: Tokens | None = None


def read_reply(raw: bytes, labels: Collection[str]) -> Reply:
    """A chat completion's body as a label."""
    document = _json(raw)
    if not isinstance(document, dict):
        return Reply(INVALID)
    tokens, choice = _tokens(document.get("usage")), _first(document.get("choices"))
    message = choice.get("message")
    if not isinstance(message, dict):
        return Reply(INVALID, tokens=tokens)
    content = message.get("content")
    problem = _problem(message, choice.get("finish_reason"))
    if problem is not None or not isinstance(content, str):
        return Reply(problem or INVALID, tokens=tokens)
    label = _label(content)
    if label not in labels:
        return Reply(UNKNOWN_LABEL, tokens=tokens)
    return Reply(ANSWERED, label, _probability(choice.get("logprobs"), content), tokens)


def _json(raw: bytes) -> object:
    try:
        return json.loads(raw.decode())
    except (ValueError, RecursionError):
        return None


def _first(choices: object) -> dict[str, Any]:
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _problem(message: dict[str, Any], finish_reason: object) -> str | None:
    """Why the message's content cannot be a label; None where it may be one."""
    content = message.get("content")
    if message.get("refusal") or finish_reason == "content_filter":
        return REFUSED
    if finish_reason == "length":
        return TOO_LONG
    if not isinstance(content, str):
        return EMPTY if content is None else INVALID
    if len(content) > MAX_CONTENT_CHARACTERS:
        return TOO_LONG
    return None if content.strip() else EMPTY


def _label(content: str) -> str:
    """What is in {"label": ...} and nothing else, or the bare text."""
    text = content.strip()
    found = _json(text.encode(errors="replace"))
    if isinstance(found, dict) and found.keys() == {"label"} and isinstance(found["label"], str):
        return found["label"]
    return text


def _tokens(usage: object) -> Tokens | None:
    if not isinstance(usage, dict):
        return None
    tokens_in, tokens_out = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return None if tokens_in is None or tokens_out is None else Tokens(tokens_in, tokens_out)


def _count(said: object) -> int | None:
    if not isinstance(said, int) or isinstance(said, bool):
        return None
    return said if 0 <= said <= MAX_TOKENS_BELIEVED else None


def _probability(logprobs: object, content: str) -> float | None:
    """Of the whole reply: the product over the tokens that spell it. None where what is given does not spell it."""
    listed = logprobs.get("content") if isinstance(logprobs, dict) else None
    spelled, total = "", 0.0
    for one in listed if isinstance(listed, list) else ():
        token, logprob = (one.get("token"), _logprob(one.get("logprob"))) if isinstance(one, dict) else (None, None)
        if not isinstance(token, str) or logprob is None:
            return None
        spelled, total = spelled + token, total + logprob
        if spelled == content:  # what follows is the end of the turn
            return min(1.0, math.exp(total))
    return None


def _logprob(said: object) -> float | None:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    try:
        value = float(said)
    except OverflowError:
        return None
    return value if math.isfinite(value) and value <= _ROUNDING else None
