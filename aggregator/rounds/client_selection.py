"""Who takes part in a session: cohorts are dealt from the nodes that are connected, in the order that a beacon gives them.

A node's place follows from the beacon, the period, the purpose and its device's name alone (`fedge.secagg.beacon`). While a
sum's spoiling is unexplained, cohorts are as small as n_min and dropouts allow, so that a liar spoils one of several and the
tests tell more (`aggregator.rounds.suspicion`).
"""

import math
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate, pairwise

from fedge.secagg.beacon import order_members

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


def order_nodes(
    nodes: Sequence[int], *, beacon: bytes, period: int, purpose: str, name_of: Callable[[int], str] = str
) -> list[int]:
    """Return the nodes in the order of the draw. Nodes of one name, which cannot both be honest, keep one place."""
    node_of = {name_of(node): node for node in sorted(nodes)}
    return [node_of[name] for name in order_members(beacon, node_of, period=period, purpose=purpose)]


def draw_cohort(ordered: Sequence[int], size: int, *, last: Collection[int] = ()) -> list[int]:
    """Return the first ``size`` of the ordered nodes, ascending. Those in ``last`` are taken only where others lack."""
    chosen = sorted(ordered, key=lambda node: node in last)[:size]
    return sorted(chosen)


def cohort_sizes(devices: int, *, limit: int) -> list[int]:
    """Sizes of the fewest cohorts of at most ``limit`` that hold ``devices``; they differ by at most one."""
    return _equal_sizes(devices, math.ceil(devices / limit))


def least_cohort(n_min: int) -> int:
    """Return the smallest cohort that still has n_min devices when an eighth of it drops out."""
    size = n_min
    while size - math.ceil(size / 8) < n_min:
        size += 1
    return size


def least_cohort_sizes(devices: int, *, n_min: int, cohort: int, limit: int) -> list[int]:
    """Return the sizes of a period's cohorts while a spoiled sum is unexplained; none where no two cohorts can differ.

    Up to ``cohort`` of the ``devices`` take part, in as many cohorts as `least_cohort` allows. Where there is room for one
    only, others rest in this period, so that later cohorts differ from it.
    """
    least = least_cohort(n_min)
    count = max(1, min(devices, cohort) // least)
    taken = min(devices, cohort, count * limit)
    if count >= 2:
        return _equal_sizes(taken, count)
    if devices > taken:
        return [taken]
    return [max(n_min, min(least, devices - 1))] if devices > n_min else []


def split_cohorts(ordered: Sequence[int], size: int, *, limit: int) -> list[list[int]]:
    """Return all nodes in cohorts that differ by at most one: of ``size`` or more, but never above ``limit``."""
    if not ordered:
        return []
    count = max(1, len(ordered) // size, math.ceil(len(ordered) / limit))
    borders = (0, *accumulate(_equal_sizes(len(ordered), count)))
    return [sorted(ordered[start:end]) for start, end in pairwise(borders)]


def _equal_sizes(devices: int, count: int) -> list[int]:
    return [devices // count + (number < devices % count) for number in range(count)]
