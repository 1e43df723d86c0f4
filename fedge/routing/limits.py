"""How much one device may ask central: a budget in USD for each day (UTC), and a rate. Values and arithmetic only.

The rate is a token bucket (Turner 1986; the policer of RFC 2697): a bucket holds at most ``capacity`` tokens, fills evenly
with time, and each question to central takes one. Where several rates are given, a question needs a token of each. What is
in a bucket, and the time, come in as arguments; `edge_client.inference.budget` keeps them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedge.errors import InputError
from fedge.routing.policy_tables import amount, count, require_known, table_of

_MINUTE_S, _HOUR_S = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """One rate. ``name`` is what its state is kept under."""

    name: str
    capacity: float
    refill_per_s: float

    def level(self, tokens: float, *, elapsed_s: float) -> float:
        """What a bucket that held ``tokens`` holds ``elapsed_s`` later. A clock that was set back adds nothing."""
        return min(self.capacity, max(0.0, tokens) + max(0.0, elapsed_s) * self.refill_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingLimits:
    """``daily_usd``: most that central may be paid on a day. ``per_minute``, ``per_hour``: questions to central.

    ``burst``: most questions at once under the shorter of the two rates; without it, as many as that rate allows in its
    period. None: no such limit.
    """

    daily_usd: float | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    burst: int | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "AskingLimits":
        """Reads ``[budget]`` and ``[rate]`` of a policy. Raises InputError."""
        budget, rate = table_of(document, "budget"), table_of(document, "rate")
        require_known(budget, {"daily_usd"}, "budget.")
        require_known(rate, {"per_minute", "per_hour", "burst"}, "rate.")
        what = "an amount in USD of at least 0"
        limits = cls(
            daily_usd=amount(budget, "daily_usd", "budget.daily_usd", what=what) if "daily_usd" in budget else None,
            per_minute=count(rate, "per_minute", "rate.per_minute"),
            per_hour=count(rate, "per_hour", "rate.per_hour"),
            burst=count(rate, "burst", "rate.burst"),
        )
        if limits.burst is not None and not limits.buckets:
            raise InputError("policy: rate.burst needs a rate beside it: add rate.per_minute or rate.per_hour")
        return limits

    def smaller_budget(self, other_usd: float | None) -> float | None:
        """The smaller of this budget and another one; None where neither is given."""
        return min((usd for usd in (self.daily_usd, other_usd) if usd is not None), default=None)

    @property
    def buckets(self) -> tuple[TokenBucket, ...]:
        """One bucket for each rate that is given, the shorter period first."""
        rates = ((name, n, s) for name, n, s in self._rates() if n is not None)
        return tuple(
            TokenBucket(name, float(self.burst if place == 0 and self.burst is not None else n), n / period_s)
            for place, (name, n, period_s) in enumerate(rates)
        )

    def _rates(self) -> tuple[tuple[str, int | None, float], ...]:
        return ("per_minute", self.per_minute, _MINUTE_S), ("per_hour", self.per_hour, _HOUR_S)
