"""Limits per member: what one device may hold, and that devices that wait are served in turn."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.fleet.limits import CallsInFlight, FairQueue, FairSlots, LimitExceededError

DEVICES = st.lists(st.sampled_from("abcd"), max_size=40)


@given(DEVICES)
def test_a_queue_serves_devices_in_turn_and_each_ones_items_in_order(pushes):
    queue = FairQueue()
    for number, device in enumerate(pushes):
        queue.push(device, (device, number))
    served = [queue.pop() for _ in pushes]
    assert sorted(served, key=lambda item: item[1]) == [(device, number) for number, device in enumerate(pushes)]
    for device in set(pushes):
        numbers = [number for name, number in served if name == device]
        assert numbers == sorted(numbers)
    # At any moment no device with something left is more than one item behind another.
    counts, left = Counter(), Counter(pushes)
    for device, _ in served:
        counts[device] += 1
        left[device] -= 1
        assert all(counts[device] <= counts[other] + 1 for other in left if left[other])
    assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.pop()


@given(DEVICES.filter(bool))
def test_what_is_dropped_is_the_newest_of_the_device_with_the_most(pushes):
    queue = FairQueue()
    for number, device in enumerate(pushes):
        queue.push(device, (device, number))
    device, number = queue.pop_longest()
    counts = Counter(pushes)
    assert counts[device] == max(counts.values())
    assert number == max(index for index, name in enumerate(pushes) if name == device)


def test_a_device_has_its_calls_and_its_first_one_beyond_the_total():
    calls = CallsInFlight(per_device=3, total=4, setting="central")
    for _ in range(3):
        calls.enter("loud")
    with pytest.raises(LimitExceededError, match="central_calls_per_device"):
        calls.enter("loud")
    calls.enter("quiet")
    with pytest.raises(LimitExceededError, match=r"central_calls\)"):
        calls.enter("quiet")
    calls.enter("third")  # its only one
    calls.leave("loud")
    calls.leave("third")
    calls.enter("quiet")


def test_slots_go_to_devices_in_turn_and_bytes_are_never_exceeded():
    order: list[str] = []
    held = 0

    async def work(slots: FairSlots, device: str, size_bytes: int) -> None:
        nonlocal held
        async with slots.hold(device, size_bytes):
            held += size_bytes
            assert held <= 100
            order.append(device)
            await asyncio.sleep(0)
            held -= size_bytes

    async def scenario() -> None:
        slots = FairSlots(slots=1, total_bytes=100, bytes_per_device=1000, setting="upload_mib_per_device")
        async with slots.hold("first"):
            waiting = [asyncio.create_task(work(slots, device, 60)) for device in ("a", "a", "a", "b", "c")]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    asyncio.run(scenario())
    assert order == ["a", "b", "c", "a", "a"]


def test_a_device_over_its_bytes_is_refused_and_one_that_gives_up_gives_its_place_back():
    async def scenario() -> None:
        slots = FairSlots(slots=2, total_bytes=100, bytes_per_device=80, setting="upload_mib_per_device")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(slots.hold("a", 80))
            with pytest.raises(LimitExceededError, match="upload_mib_per_device"):
                await stack.enter_async_context(slots.hold("a", 1))
            gone = asyncio.create_task(stack.enter_async_context(slots.hold("b", 80)))
            await asyncio.sleep(0)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            await stack.enter_async_context(slots.hold("c", 20))  # not behind the one that is gone
        async with slots.hold("a", 80), slots.hold("b", 20):
            pass

    asyncio.run(scenario())
