"""The federation's calendar: fixed periods, in each of which a device contributes at most once to each kind of sum.

Two sums over nearly the same devices differ by one device's numbers if those numbers stand in both. Counting by the calendar
instead of by session, attempt or release leaves an aggregator no way to ask twice: nothing that it signs makes a new period.
"""

import math
from dataclasses import dataclass

from fedge.errors import InputError

DAY_S = 86_400.0
SHORTEST_S = 1.0
LONGEST_S = 31 * DAY_S


@dataclass(frozen=True, slots=True)
class Calendar:
    """Periods of ``period_s`` seconds, numbered from the Unix epoch. Raises InputError for a length that cannot be."""

    period_s: float = DAY_S

    def __post_init__(self) -> None:
        if not (math.isfinite(self.period_s) and SHORTEST_S <= self.period_s <= LONGEST_S):
            raise InputError(f"a period of {self.period_s:g} s cannot be: choose {SHORTEST_S:g} to {LONGEST_S:g} s")

    def period_at(self, now: float) -> int:
        """Return the index of the period that holds ``now`` (Unix time, seconds)."""
        return math.floor(now / self.period_s)

    def start_of(self, period: int) -> float:
        """Return the Unix time at which ``period`` begins."""
        return period * self.period_s


DAILY = Calendar()
