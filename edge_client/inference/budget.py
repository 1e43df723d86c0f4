"""What a device may still ask central: a day's budget and a rate, shared by its threads and kept over restarts.

Routing takes an allowance inside a transaction, counts each question that is to be sent, and keeps it: the list price of
each is set aside and its tokens are gone before anything is sent, so that threads cannot spend the same money twice. Once
answers are booked, what was set aside is released in the transaction that writes what was really paid. Never sends anything.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge_client.store import DeviceStore
from fedge.routing import AskingLimits, TokenBucket


@dataclass(slots=True)
class Allowance:
    """What is left at one moment, inside one transaction. ``levels``: tokens in each bucket."""

    price_usd: float
    left_usd: float
    levels: dict[TokenBucket, float] = field(default_factory=dict)
    taken: int = 0

    @property
    def within_budget(self) -> bool:
        """Whether the day's budget allows one more question at the list price."""
        return self.left_usd >= self.price_usd

    @property
    def within_rate(self) -> bool:
        """Whether the rate allows one more question."""
        return all(tokens >= 1.0 for tokens in self.levels.values())

    def take(self) -> None:
        """Count a question that is to be sent."""
        self.taken += 1
        self.left_usd -= self.price_usd
        for bucket in self.levels:
            self.levels[bucket] -= 1.0

    def take_up_to(self, most: int) -> int:
        """Count as many questions as are allowed, at most ``most``; returns how many."""
        while self.taken < most and self.within_budget and self.within_rate:
            self.take()
        return self.taken


class Spending:
    """The limits of one device with their state. The smaller of the policy's budget and the device's own holds."""

    def __init__(
        self, store: DeviceStore, limits: AskingLimits, *, daily_budget_usd: float | None, price_usd: Callable[[], float]
    ) -> None:
        self._store = store
        self._buckets = limits.buckets
        self._price_usd = price_usd
        self.daily_budget_usd = limits.smaller_budget(daily_budget_usd)

    @property
    def is_limited(self) -> bool:
        """Return whether there is a budget or a rate to hold."""
        return self.daily_budget_usd is not None or bool(self._buckets)

    def allowance(self, now: float) -> Allowance:
        """What is left now. Belongs into the transaction that keeps it."""
        return Allowance(
            self._price_usd(), self.left_usd(now), {bucket: self._level(bucket, now) for bucket in self._buckets}
        )

    def keep(self, allowance: Allowance, now: float) -> None:
        """Note what was taken: from now on nobody else has it."""
        if not allowance.taken:
            return
        if self.daily_budget_usd is not None:
            self._store.allowances.set_aside(allowance.taken, day_of=now)
        for bucket, tokens in allowance.levels.items():
            self._store.allowances.fill(bucket.name, tokens, at=now)

    def release(self, questions: int, now: float) -> None:
        """Questions that were set aside at the time ``now`` are answered or have failed; what was paid is in the ledger."""
        if released := self.set_aside(questions):
            self._store.allowances.set_aside(-released, day_of=now)

    def set_aside(self, questions: int) -> int:
        """Return for how many of so many questions the price is set aside: none without a budget."""
        return 0 if self.daily_budget_usd is None else questions

    def left_usd(self, now: float) -> float:
        """What may still be paid to central today (UTC); infinite without a budget."""
        if self.daily_budget_usd is None:
            return math.inf
        under_way_usd = self._store.allowances.under_way(day_of=now) * self._price_usd()
        return self.daily_budget_usd - self._store.ledger.paid_to_central_usd(day_of=now) - under_way_usd

    def status(self, now: float) -> dict[str, Any]:
        """What is limited and what is left, JSON-ready; empty without limits."""
        said: dict[str, Any] = {}
        if self.daily_budget_usd is not None:
            said["budget"] = {"daily_usd": self.daily_budget_usd, "left_usd": max(0.0, self.left_usd(now))}
        if self._buckets:
            said["rate"] = {
                bucket.name: {"burst": int(bucket.capacity), "left": int(self._level(bucket, now))}
                for bucket in self._buckets
            }
        return said

    def missing(self, now: float) -> str | None:
        """Why central is not asked now though it may be in reach, in words; None where nothing stands against it."""
        allowance = self.allowance(now)
        if not allowance.within_budget:
            return f"today's {self.daily_budget_usd:g} USD are spent: hard queries are answered here, marked degraded"
        if not allowance.within_rate:
            return "central was asked as often as the policy allows: hard queries are answered here, marked degraded"
        return None

    def _level(self, bucket: TokenBucket, now: float) -> float:
        kept = self._store.allowances.bucket(bucket.name)
        return bucket.capacity if kept is None else bucket.level(kept[0], elapsed_s=now - kept[1])
