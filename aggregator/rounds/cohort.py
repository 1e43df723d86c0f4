"""Who is asked to take part in a session: seeded draws from the nodes that are connected.

A cohort is drawn anew for each attempt, so that an attempt that was aborted does not meet the same missing devices again.
"""

import math
from collections.abc import Sequence

from fedge.randomness import generator


def draw_cohort(nodes: Sequence[int], size: int, *, seed: bytes, round_number: int, attempt: int) -> list[int]:
    """``min(size, len(nodes))`` nodes without replacement, ascending."""
    ordered = sorted(nodes)
    draw = generator(seed, "cohort", round_number, attempt)
    chosen = draw.choice(len(ordered), min(size, len(ordered)), replace=False)
    return sorted(ordered[i] for i in chosen)


def split_cohorts(nodes: Sequence[int], size: int, *, limit: int, seed: bytes, round_number: int) -> list[list[int]]:
    """All nodes, dealt at random into cohorts that differ by at most one: of ``size`` or more, but never above ``limit``."""
    if not nodes:
        return []
    ordered = sorted(nodes)
    # Places are shuffled, not ids: those of a real fleet have 64 bits, which numpy would make floats of.
    shuffled = [ordered[place] for place in generator(seed, "cohorts", round_number).permutation(len(ordered))]
    count = max(1, len(nodes) // size, math.ceil(len(nodes) / limit))
    return [sorted(shuffled[start::count]) for start in range(count)]
