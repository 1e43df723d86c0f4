"""What becomes of a release that a share of the devices runs first, decided from sums alone.

Each round, all devices (those that never took the release send zeros) put four numbers into a secure sum: how many of them
took the release, how many gave it up again, how many queries it answered and at how many its model failed; each number
leaves a device once. The aggregator adds the rounds' sums up and compares. Two rules take a release back, at any time: more
than ``max_rolled_back`` of the devices that took it gave it up, or more than ``max_errors`` of its queries failed. Else,
once ``health_s`` is over, it is promoted if any device took it. Where none did, or nothing could be summed, nothing is
known: the share is doubled and the watch begins anew, until everybody is asked. A device that lies in its numbers can hold a
release up, or hide its own failures, as in any sum that nobody can look into.
"""

from dataclasses import dataclass
from typing import Literal

from aggregator.rounds.state import CanaryWatch
from aggregator.settings import ReleasesSettings

Verdict = Literal["wait", "promote", "reject", "widen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPolicy:
    """``share`` in (0, 1) of the devices takes a release first and is watched for ``health_s`` seconds."""

    share: float
    health_s: float
    max_rolled_back: float = 0.1
    max_errors: float = 0.01


def canary_policy(releases: ReleasesSettings) -> CanaryPolicy | None:
    """How releases are tried out, or None where they reach all devices at once."""
    if not 0 < releases.canary_share < 1:
        return None
    return CanaryPolicy(
        share=releases.canary_share,
        health_s=releases.canary_health_s,
        max_rolled_back=releases.canary_max_rolled_back,
        max_errors=releases.canary_max_errors,
    )


def verdict(watch: CanaryWatch, policy: CanaryPolicy, *, now: float) -> tuple[Verdict, str]:
    """What to do with the release on the canary, and the reason to record."""
    sums = watch.sums
    seen = f"{sums.taken} devices took it, {sums.rolled_back} gave it up, {sums.errors} of {sums.answered} queries failed"
    if sums.rolled_back > policy.max_rolled_back * sums.taken or sums.errors > policy.max_errors * sums.answered:
        return "reject", f"canary: {seen}"
    if now - watch.since < policy.health_s:
        return "wait", f"canary: {seen}; it is watched on"
    if sums.taken > 0:
        return "promote", f"canary: {seen}"
    if watch.share >= 1:
        return "promote", "canary: no device took it in its time, and all were asked"
    return "widen", "canary: no device took it in its time"
