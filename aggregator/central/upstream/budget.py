"""What upstream may cost on a day (UTC), and what it did: every question is reserved before it is asked and settled after.

What is reserved is an estimate of one try, so questions under way can end a little above the limit, and none begins there.

What can come of asking upstream, under the names that metrics and traces use.

With anything but ANSWERED central's own answer is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from aggregator.upstream_figures import UpstreamFigures
from fedge.costs import ModelPrice

ANSWERED = "answered"
# The reply came and cannot be used. Its tokens are charged.
UNKNOWN_LABEL, EMPTY, REFUSED, TOO_LONG, INVALID = "unknown_label", "empty", "refused", "too_long", "invalid"
# No reply came.
REDIRECTED, UNAUTHORIZED, REJECTED = "redirected", "unauthorized", "rejected"
RATE_LIMITED, UNAVAILABLE, UNREACHABLE, TIMEOUT = "rate_limited", "unavailable", "unreachable", "timeout"
# Upstream was not asked.
OVER_BUDGET, BUSY, NO_TIME = "over_budget", "busy", "no_time"
# Central was stopped, or a mistake of ours.
FAILED = "failed"

OUTCOMES = (
    ANSWERED,
    *(UNKNOWN_LABEL, EMPTY, REFUSED, TOO_LONG, INVALID),
    *(REDIRECTED, UNAUTHORIZED, REJECTED, RATE_LIMITED, UNAVAILABLE, UNREACHABLE, TIMEOUT),
    *(OVER_BUDGET, BUSY, NO_TIME, FAILED),
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens to pay for. ``estimated``: upstream did not say (all of) them. Adds up with `+`."""

    tokens_in: int = 0
    tokens_out: int = 0
    estimated: bool = False

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, self.estimated or other.estimated
        )


NO_TOKENS = Tokens()


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking. ``label`` is one of the workload's where the outcome is ANSWERED, else None.

    ``probability``: what the model itself gave its reply, where it said so.
    """

    outcome: str
    label: str | None = None
    probability: float | None = None
    tokens: Tokens = NO_TOKENS


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
