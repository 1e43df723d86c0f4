"""Simulated time: seconds since the epoch that pass only when someone says so."""

# A round number of days after a fixed instant, so that certificates and dates in a run do not depend on the day it ran.
START = 1_767_225_600.0  # 2026-01-01T00:00:00Z
DAY = 86_400.0


class SimulatedClock:
    """A clock that advances on request; one for the whole fleet."""

    def __init__(self, now: float = START) -> None:
        self._now = now

    def __call__(self) -> float:
        """The current time in seconds since the epoch."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self._now += seconds

    def set(self, now: float) -> None:
        """Jump to ``now``; time never runs backwards."""
        self._now = max(self._now, now)
