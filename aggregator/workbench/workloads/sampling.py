"""Choices for generating text: one buffered stream of uniform numbers, since a generator call per choice would cost ten
times as much. Never used for anything secret.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_Choice = TypeVar("_Choice")
_KEYS = "abcdefghijklmnopqrstuvwxyz"


class Dice:
    """Choices drawn from ``generator``, which must not be used elsewhere: numbers are taken from it in advance."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._numbers: list[float] = []

    def roll(self) -> float:
        """A number in [0, 1)."""
        if not self._numbers:
            self._numbers = self._generator.random(256).tolist()
        return self._numbers.pop()

    def chance(self, share: float) -> bool:
        """True with probability ``share``."""
        return self.roll() < share

    def below(self, count: int) -> int:
        """A whole number from 0 to ``count - 1``."""
        return int(self.roll() * count)

    def pick(self, choices: Sequence[_Choice]) -> _Choice:
        """One of ``choices``, each as likely."""
        return choices[self.below(len(choices))]

    def typo(self, word: str) -> str:
        """``word`` with one letter left out, doubled, swapped with its neighbour or mistaken for another."""
        spot, kind, key = self.below(len(word)), self.below(4), self.pick(_KEYS)
        if kind == 0 and len(word) > 2:
            return word[:spot] + word[spot + 1 :]
        if kind == 1:
            return word[:spot] + word[spot] + word[spot:]
        if kind == 2 and spot + 1 < len(word):
            return word[:spot] + word[spot + 1] + word[spot] + word[spot + 2 :]
        return word[:spot] + key + word[spot + 1 :]
