"""How often someone may try to log in: after a few failures each further try waits longer, per account and per address.

A name that no account has is counted like any other, so nothing is learned from it. The counts live in memory, bounded,
until the console ends. Time comes in as a clock.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

MAX_KEYS = 10_000
FORGET_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class BackOff:
    """The first ``free`` failures cost nothing; then the wait doubles from one second up to ``longest_s``."""

    free: int
    longest_s: float

    def wait_s(self, failures: int) -> float:
        """How long after the last failure the next try is heard, seconds."""
        beyond = failures - self.free
        return 0.0 if beyond < 0 else min(self.longest_s, 2.0 ** min(beyond, 32))


# An account: not so long that a stranger could keep its owner out for good. An address: a router may stand for many people.
ACCOUNT = BackOff(free=5, longest_s=60.0)
ADDRESS = BackOff(free=20, longest_s=900.0)


@dataclass(frozen=True, slots=True)
class _Count:
    failures: int
    at: float


class LoginLimiter:
    """Counts failed tries. ``clock``: seconds that only rise."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def try_again_in_s(self, name: str, address: str) -> float:
        """0 where a try may be made now, which counts as failed until ``succeeded`` is called; else how long to wait.

        Counting before the password is checked keeps many tries at once from passing together.
        """
        keys = _keys(name, address)
        with self._lock:
            now = self._clock()
            waits = [self._wait_s(key, limit, now) for key, limit in keys]
            if max(waits) > 0:
                return max(waits)
            for key, _ in keys:
                failures = self._known(key, now).failures
                self._counts[key] = _Count(failures + 1, now)
                self._counts.move_to_end(key)
            while len(self._counts) > MAX_KEYS:
                self._counts.popitem(last=False)
            return 0.0

    def succeeded(self, name: str, address: str) -> None:
        """The try was right: the account starts afresh, and the address is not charged for it."""
        (account, _), (origin, _) = _keys(name, address)
        with self._lock:
            self._counts.pop(account, None)
            count = self._counts.get(origin)
            if count is not None:
                self._counts[origin] = _Count(max(0, count.failures - 1), count.at)

    def _wait_s(self, key: str, limit: BackOff, now: float) -> float:
        count = self._known(key, now)
        return max(0.0, count.at + limit.wait_s(count.failures) - now) if count.failures else 0.0

    def _known(self, key: str, now: float) -> _Count:
        count = self._counts.get(key)
        return count if count is not None and now - count.at <= FORGET_AFTER_S else _Count(0, now)


def _keys(name: str, address: str) -> tuple[tuple[str, BackOff], tuple[str, BackOff]]:
    return (f"account {name}", ACCOUNT), (f"address {_network(address)}", ADDRESS)


def _network(address: str) -> str:
    """One customer's IPv6 network (a /64) counts as one address: its owner may take any address within."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network(f"{address.partition('%')[0]}/64", strict=False)) if isinstance(parsed, IPv6Address) else address
