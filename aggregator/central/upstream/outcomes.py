"""What can come of asking upstream, under the names that metrics and traces use.

With anything but ANSWERED central's own answer is given.
"""

from dataclasses import dataclass

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
