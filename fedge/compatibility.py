"""Which versions of fedge work together: one step apart, either end the newer one. Said when a device joins and renews."""

from fedge.errors import InputError

PROTOCOL = 3
"""Counts up with every change of what devices and server say to each other that an older end would not bear.

From 1 to 3 in one go: secure aggregation version 2 refuses version 1, so ends of those two must not take each other for one
step apart.
"""
FIRST = 1
"""What an end speaks that does not say."""


def check_protocol(theirs: int, *, ours: int | None = None, who: str) -> None:
    """Raises InputError, with what to update, where the other end (``who``) is more than one step away."""
    spoken, mine = theirs or FIRST, PROTOCOL if ours is None else ours
    if abs(spoken - mine) > 1:
        older = who if spoken < mine else "this end"
        raise InputError(f"{who} speaks protocol {spoken}, this end {mine}: at most one apart works: update {older}")
