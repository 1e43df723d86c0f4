"""Small random shifts: how a query that has already been asked comes back, worded or drawn a little differently.

A data set is smaller than the traffic of a fleet, so it is drawn again, and people seldom repeat themselves to the letter.
Never used on the part that measures.
"""

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.workloads.dice import Dice

_LEADS = ("please", "hey", "um", "ok", "can you tell me", "i was wondering", "quick question", "so")
_TAILS = ("please", "thanks", "thank you", "if you can", "right now")


def shift_text(text: str, draw: np.random.Generator) -> str:
    """``text`` with one small change: a typo, a dropped, swapped or doubled word, or a word of politeness."""
    dice, words = Dice(draw), text.split()
    kind = dice.below(6)
    if kind == 0:
        return f"{dice.pick(_LEADS)} {text}"
    if kind == 1 or not words:
        return f"{text} {dice.pick(_TAILS)}"
    spot = dice.below(len(words))
    # With fewer than four words, to drop one would often drop the meaning.
    if kind == 2 and len(words) >= 4:
        del words[spot]
    elif kind == 3 and len(words) >= 3:
        spot = min(spot, len(words) - 2)
        words[spot], words[spot + 1] = words[spot + 1], words[spot]
    elif kind == 4:
        words.insert(spot, words[spot])
    else:
        words[spot] = dice.typo(words[spot])
    return " ".join(words)


def shift_pixels(pixels: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    """``pixels`` float32 [d] (a square picture) moved by less than half a pixel, pressed harder or softer, some noise."""
    side = round(len(pixels) ** 0.5)
    picture = pixels.reshape(side, side)
    axis, step, part = int(draw.integers(2)), (-1, 1)[int(draw.integers(2))], draw.uniform(0.0, 0.4)
    moved = np.roll(picture, step, axis=axis)
    # What leaves the paper at one edge does not come back at the other.
    moved[(slice(None),) * axis + (0 if step > 0 else -1,)] = 0.0
    drawn = (1.0 - part) * picture + part * moved
    pressed = drawn * draw.uniform(0.9, 1.1) + 0.02 * draw.standard_normal(picture.shape)
    return np.clip(pressed, 0.0, 1.0).reshape(-1).astype(np.float32)
