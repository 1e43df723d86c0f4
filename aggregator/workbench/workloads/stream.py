"""The traffic of a device: which query it is asked as its k-th, a pure function of seed, device and k.

Nothing is remembered between rounds, so a resumed run goes on with exactly the queries that an unbroken one would have
drawn. A device's own pool is asked once through in a seeded order; from then on it comes again, in a new order and with
small random shifts. Out-of-scope queries are mixed in at the workload's natural share, from one pool that all devices
share.

Small random shifts: how a query that has already been asked comes back, worded or drawn a little differently.

A data set is smaller than the traffic of a fleet, so it is drawn again, and people seldom repeat themselves to the letter.
Never used on the part that measures.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.workloads.base import Workload
from aggregator.workbench.workloads.sampling import Dice
from fedge.errors import InputError
from fedge.features import Query
from fedge.randomness import generator

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


class Drawn(NamedTuple):
    """One query of the traffic. ``label`` is the truth (never shown to a device), ``source`` the index into
    ``workload.devices``, ``redrawn`` whether it is a shifted copy of a query that this device asked before.
    """

    query: Query
    label: int
    source: int
    redrawn: bool


@dataclass(frozen=True, slots=True, eq=False)
class QueryStream:
    """The traffic of device number ``device`` whose own pool is ``indices`` (int64, non-empty, into
    ``workload.devices``).
    """

    workload: Workload
    indices: NDArray[np.int64]
    seed: bytes
    device: int

    def __post_init__(self) -> None:
        if len(self.indices) == 0:
            raise InputError(f"device {self.device} has no queries of its own: use fewer devices or a larger workload")

    def round(self, number: int, *, queries: int) -> list[Drawn]:
        """The ``queries`` of round ``number`` (from 0): those counted ``number * queries`` and following."""
        return self.slice(number * queries, (number + 1) * queries)

    def slice(self, start: int, stop: int) -> list[Drawn]:
        """The queries counted from ``start`` up to ``stop``."""
        oos = np.flatnonzero(~self.workload.in_scope(self.workload.devices)).astype(np.int64)
        share = self.workload.oos_share if len(oos) else 0.0
        # A prefix of one stream of coins: the k-th coin is the same however many are drawn.
        strange = generator(self.seed, "stream", self.device, "scope").random(stop) < share
        strange_before = np.concatenate([[0], np.cumsum(strange)])
        orders: dict[tuple[bool, int], NDArray[np.int64]] = {}
        drawn = []
        for k in range(start, stop):
            pool = oos if strange[k] else self.indices
            turn = int(strange_before[k]) if strange[k] else k - int(strange_before[k])
            times, place = divmod(turn, len(pool))
            key = (bool(strange[k]), times)
            if key not in orders:
                labels = ("oos" if strange[k] else "own", times)
                orders[key] = generator(self.seed, "stream", self.device, *labels).permutation(pool)
            drawn.append(self._draw(int(orders[key][place]), k, redrawn=times > 0))
        return drawn

    def _draw(self, source: int, k: int, *, redrawn: bool) -> Drawn:
        split, writing = self.workload.devices, self.workload.handwriting
        query = split.query(source)
        if redrawn or writing is not None:
            draw = generator(self.seed, "stream", self.device, "query", k)
            if isinstance(query, str):
                query = shift_text(query, draw)
            else:
                query = shift_pixels(query, draw) if redrawn else query
                query = query if writing is None else writing.write(query.reshape(1, -1), self.device, draw)[0]
        return Drawn(query, int(split.labels[source]), source, redrawn)
