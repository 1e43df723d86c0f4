"""What upstream may cost on a day (UTC), and what it did: every question is reserved before it is asked and settled after.

What is reserved is an estimate of one try, so questions under way can end a little above the limit, and none begins there.
"""

from collections.abc import Callable
from threading import Lock

from aggregator.central.upstream.outcomes import Asked, Tokens
from aggregator.upstream_figures import UpstreamFigures
from fedge.costs import ModelPrice


class Budget:
    """Counts and limits. Safe to use from several threads. ``max_usd_per_day``: 0 for no limit."""

    def __init__(
        self,
        price: ModelPrice,
        *,
        max_usd_per_day: float,
        clock: Callable[[], float],
        figures: UpstreamFigures | None = None,
    ) -> None:
        self._price = price
        self._max_usd_per_day = max_usd_per_day
        self._clock = clock
        self._figures = figures or UpstreamFigures()
        self._reserved_usd = 0.0
        self._lock = Lock()

    @property
    def figures(self) -> UpstreamFigures:
        """What was asked and spent so far."""
        with self._lock:
            return self._figures

    def usd(self, tokens: Tokens) -> float:
        """What these tokens cost."""
        return self._price.usd(tokens.tokens_in, tokens.tokens_out)

    def reserve(self, expected: Tokens) -> bool:
        """Set the price of a question aside; False where the day has no room for it."""
        usd = self.usd(expected)
        with self._lock:
            spent = self._figures.spent_usd(self._clock()) + self._reserved_usd
            if self._max_usd_per_day and spent + usd > self._max_usd_per_day:
                return False
            self._reserved_usd += usd
            return True

    def settle(self, expected: Tokens, asked: Asked) -> None:
        """A reserved question has ended."""
        with self._lock:
            self._reserved_usd = max(0.0, self._reserved_usd - self.usd(expected))
        self.count(asked)

    def count(self, asked: Asked) -> None:
        """A question, asked or not, with what came of it."""
        tokens, said = asked.tokens, "estimated" if asked.tokens.estimated else "billed"
        counted = {f"in/{said}": tokens.tokens_in, f"out/{said}": tokens.tokens_out}
        with self._lock:
            self._figures = self._figures.plus(asked.outcome, counted, self.usd(tokens), at=self._clock())
