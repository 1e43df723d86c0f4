"""Time as an argument: seconds since 1970 (UTC) for what is stored, a monotonic stopwatch for what is measured.

Nothing on the device calls ``time`` elsewhere, so a simulated device is this code with a simulated clock.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since 1970."""

Stopwatch = Callable[[], float]
"""Seconds since some start, never going back."""


def system_clock() -> float:
    """The machine's own time."""
    return time.time()


def system_stopwatch() -> float:
    """The machine's own stopwatch."""
    return time.perf_counter()
