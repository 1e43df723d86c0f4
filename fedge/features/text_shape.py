"""What a text looks like, whatever its words: lengths, digits, signs. Deterministic; never learns and never keeps a text.

A router reads these beside the words: long and formal prompts are harder for a small model than short plain ones, and no
hashed word says so.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHAPE_NAMES = (
    "log_characters",
    "log_words",
    "characters_per_word",
    "digit_share",
    "log_digits",
    "upper_share",
    "punctuation_share",
    "log_lines",
    "log_longest_line",
    "log_shortest_line",
    "log_mean_line",
    "log_first_line",
    "distinct_word_share",
    "has_question_mark",
    "log_underscores",
    "log_signs",
    "log_quotes",
    "parenthesis_share",
)
_SIGNS = frozenset("=+-*/^<>$\\")


def text_shape(texts: Sequence[str]) -> NDArray[np.float64]:
    """float64 [n, len(SHAPE_NAMES)]: every value finite, none standardized."""
    return np.array([_shape(text) for text in texts], dtype=np.float64).reshape(len(texts), len(SHAPE_NAMES))


def _shape(text: str) -> list[float]:
    words, lines = text.split(), [len(line) for line in text.split("\n")]
    characters, count = max(len(text), 1), max(len(words), 1)
    digits = sum(map(str.isdigit, text))
    return [
        float(np.log1p(len(text))),
        float(np.log1p(len(words))),
        characters / count,
        digits / characters,
        float(np.log1p(digits)),
        sum(map(str.isupper, text)) / characters,
        sum(not (character.isalnum() or character.isspace()) for character in text) / characters,
        float(np.log1p(len(lines))),
        float(np.log1p(max(lines))),
        float(np.log1p(min(lines))),
        float(np.log1p(sum(lines) / len(lines))),
        float(np.log1p(lines[0])),
        len(set(words)) / count,
        float("?" in text),
        float(np.log1p(text.count("_"))),
        float(np.log1p(sum(character in _SIGNS for character in text))),
        float(np.log1p(text.count('"'))),
        text.count("(") / characters,
    ]
