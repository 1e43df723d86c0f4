"""Limits per member: how much of a shared server one device may hold at once, and in which order waiting devices are served.

A device is whoever its client certificate names (`aggregator.fleet.authentication`), however many connections it opens.
Everything here lives on one event loop.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fedge.errors import FedgeError

Item = TypeVar("Item")


class LimitExceededError(FedgeError):
    """A device holds as much as it may, or all devices together do. The message names the limit; trying later helps."""


class FairQueue(Generic[Item]):
    """A queue for each device, served in turn: whoever waits with one item never waits behind another device's second."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, device_id: str, item: Item) -> None:
        """Add an item behind the others of its device."""
        self._queues.setdefault(device_id, deque()).append(item)
        self._length += 1

    def peek(self) -> Item | None:
        """Return the item whose turn it is, or None where nothing waits."""
        return next((queue[0] for queue in self._queues.values()), None)

    def pop(self) -> Item:
        """Take the item whose turn it is; its device's next one waits for all other devices. Raises IndexError if empty."""
        if not self._queues:
            raise IndexError("the queue is empty")
        device_id, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        self._length -= 1
        if queue:
            self._queues.move_to_end(device_id)
        else:
            del self._queues[device_id]
        return item

    def pop_longest(self) -> Item:
        """Take the newest item of the device with the most waiting, the last in turn of several. Raises IndexError."""
        if not self._queues:
            raise IndexError("the queue is empty")
        device_id = max(reversed(self._queues), key=lambda name: len(self._queues[name]))
        queue = self._queues[device_id]
        item = queue.pop()
        self._length -= 1
        if not queue:
            del self._queues[device_id]
        return item

    def remove(self, device_id: str, item: Item) -> None:
        """Drop an item that no longer waits, if it is still there."""
        queue = self._queues.get(device_id)
        if queue is None or item not in queue:
            return
        queue.remove(item)
        self._length -= 1
        if not queue:
            del self._queues[device_id]


class CallsInFlight:
    """Counts the calls of each device that are under way on one server.

    ``per_device`` bounds each device. ``total`` bounds all of them together, except that a device without any call under way
    is always let in: so no device is ever locked out by others.
    """

    def __init__(self, *, per_device: int, total: int, setting: str) -> None:
        self._per_device = per_device
        self._total = total
        self._setting = setting
        self._by_device: dict[str, int] = {}
        self._all = 0

    def enter(self, device_id: str) -> None:
        """Count one call until `leave`. Raises LimitExceededError where it is one too many."""
        own = self._by_device.get(device_id, 0)
        if own >= self._per_device:
            raise LimitExceededError(
                f"{own} calls of device {device_id!r} are in flight already ({self._setting}_calls_per_device): "
                "try again later"
            )
        if own and self._all >= self._total:
            raise LimitExceededError(f"{self._all} calls are in flight already ({self._setting}_calls): try again later")
        self._by_device[device_id] = own + 1
        self._all += 1

    def leave(self, device_id: str) -> None:
        """End one call that `enter` counted."""
        self._all -= 1
        left = self._by_device[device_id] - 1
        if left:
            self._by_device[device_id] = left
        else:
            del self._by_device[device_id]


@dataclass(slots=True, eq=False)
class _Wanted:
    size_bytes: int
    granted: "asyncio.Future[None]" = field(repr=False)


class FairSlots:
    """A number of slots and of bytes that devices share, given to those that wait device by device, in turn.

    ``bytes_per_device`` bounds what one device holds and waits for; ``setting`` names that bound in the refusal.
    """

    def __init__(self, *, slots: int, total_bytes: int = 0, bytes_per_device: int = 0, setting: str = "") -> None:
        self._slots = slots
        self._bytes = total_bytes
        self._bytes_per_device = bytes_per_device
        self._setting = setting
        self._by_device: Counter[str] = Counter()
        self._queue: FairQueue[_Wanted] = FairQueue()

    @asynccontextmanager
    async def hold(self, device_id: str, size_bytes: int = 0) -> AsyncIterator[None]:
        """Hold a slot and ``size_bytes`` (at most the total) while the block runs, from when it is this device's turn.

        Raises LimitExceededError where the device would hold more bytes than it may.
        """
        if self._by_device[device_id] + size_bytes > self._bytes_per_device:
            raise LimitExceededError(
                f"{self._by_device[device_id]} bytes of device {device_id!r} are on their way already, "
                f"{size_bytes} more are too many ({self._setting}): try again later"
            )
        self._by_device[device_id] += size_bytes
        try:
            async with self._granted(device_id, size_bytes):
                yield
        finally:
            self._by_device[device_id] -= size_bytes
            if not self._by_device[device_id]:
                del self._by_device[device_id]

    @asynccontextmanager
    async def _granted(self, device_id: str, size_bytes: int) -> AsyncIterator[None]:
        wanted = _Wanted(size_bytes, asyncio.get_running_loop().create_future())
        self._queue.push(device_id, wanted)
        self._grant()
        try:
            await wanted.granted
        except asyncio.CancelledError:
            if wanted.granted.done() and not wanted.granted.cancelled():
                self._give_back(wanted)
            else:
                self._queue.remove(device_id, wanted)
                self._grant()
            raise
        try:
            yield
        finally:
            self._give_back(wanted)

    def _give_back(self, wanted: _Wanted) -> None:
        self._slots += 1
        self._bytes += wanted.size_bytes
        self._grant()

    def _grant(self) -> None:
        while (first := self._queue.peek()) is not None:
            if first.granted.cancelled():
                self._queue.pop()
                continue
            if self._slots == 0 or first.size_bytes > self._bytes:
                return
            self._queue.pop()
            self._slots -= 1
            self._bytes -= first.size_bytes
            first.granted.set_result(None)
