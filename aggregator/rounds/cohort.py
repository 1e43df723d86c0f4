"""Who is asked to take part in a session: seeded draws from the nodes that are connected.

A cohort is drawn anew for each attempt, so that an attempt that was aborted does not meet the same missing devices again.
"""

import math
from collections.abc import Sequence

from fedge.randomness import generator

# Secure aggregation is checked for cohorts of at most this many devices (complete graph). It is the encoding's head-room,
# too, so that cohorts of any size share one encoding.
COHORT_MAX = 128
# Hard floor of a private cohort; below it sums are a demonstration, and said to be so.
COHORT_FLOOR = 8
N_MIN = 11


def least_sum(cohort: int) -> int:
    """The protocol's default of 11, down to its floor of 8 in cohorts below 16, and whatever there is in a demonstration."""
    if cohort >= 16:
        return N_MIN
    return COHORT_FLOOR if cohort >= COHORT_FLOOR else 2


def draw_cohort(nodes: Sequence[int], size: int, *, seed: bytes, round_number: int, attempt: int) -> list[int]:
    """``min(size, len(nodes))`` nodes without replacement, ascending."""
    ordered = sorted(nodes)
    draw = generator(seed, "cohort", round_number, attempt)
    chosen = draw.choice(len(ordered), min(size, len(ordered)), replace=False)
    return sorted(ordered[i] for i in chosen)


def cohort_sizes(devices: int, *, limit: int) -> list[int]:
    """Sizes of the fewest cohorts of at most ``limit`` that hold ``devices``; they differ by at most one."""
    count = math.ceil(devices / limit)
    return [devices // count + (number < devices % count) for number in range(count)]


def split_cohorts(nodes: Sequence[int], size: int, *, limit: int, seed: bytes, round_number: int) -> list[list[int]]:
    """All nodes, dealt at random into cohorts that differ by at most one: of ``size`` or more, but never above ``limit``."""
    if not nodes:
        return []
    ordered = sorted(nodes)
    # Places are shuffled, not ids: those of a real fleet have 64 bits, which numpy would make floats of.
    shuffled = [ordered[place] for place in generator(seed, "cohorts", round_number).permutation(len(ordered))]
    count = max(1, len(nodes) // size, math.ceil(len(nodes) / limit))
    return [sorted(shuffled[start::count]) for start in range(count)]
