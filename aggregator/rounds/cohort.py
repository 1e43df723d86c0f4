"""Who is asked to take part in a session: a seeded draw without replacement from the nodes that are connected.

Drawn anew for each attempt, so that an attempt that was aborted does not meet the same missing devices again.
"""

from collections.abc import Sequence

from fedge.randomness import generator


def draw_cohort(nodes: Sequence[int], size: int, *, seed: bytes, round_number: int, session: str, attempt: int) -> list[int]:
    """``min(size, len(nodes))`` nodes, ascending. ``session`` separates the draws of one round from each other."""
    ordered = sorted(nodes)
    chosen = generator(seed, "cohort", session, round_number, attempt).choice(
        len(ordered), min(size, len(ordered)), replace=False
    )
    return sorted(ordered[i] for i in chosen)
