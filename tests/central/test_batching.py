"""Gathering of concurrent requests, on a real event loop with a scripted service."""

import asyncio
from concurrent.futures import Future
from threading import Event

import pytest

from aggregator.central.batching import MicroBatcher
from aggregator.central.errors import DeadlinePassedError, OverloadedError
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse


class Held:
    """Answers each request with its own key as label, once it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_run = Event()

    def __call__(self, calls):
        requests = [call.request for call in calls]
        self.batches.append([request.idempotency_key for request in requests])
        assert self.may_run.wait(timeout=30)
        if any(request.idempotency_key == "bug" for request in requests):
            raise ValueError("a bug")
        return [_done(AnswerResponse(label=request.idempotency_key)) for request in requests]


def _done(response: AnswerResponse) -> Future[AnswerResponse]:
    future: Future[AnswerResponse] = Future()
    future.set_result(response)
    return future


def _request(key: str) -> AnswerRequest:
    return AnswerRequest(idempotency_key=key)


async def _first_batch_runs(held: Held) -> None:
    while not held.batches:
        await asyncio.sleep(0)


def test_while_one_batch_runs_the_next_gathers_up_to_its_bound():
    held = Held()

    async def scenario():
        batcher = MicroBatcher(held, max_batch=3, max_waiting=100)
        first = asyncio.create_task(batcher.answer(_request("0"), timeout_s=None))
        await _first_batch_runs(held)
        others = [asyncio.create_task(batcher.answer(_request(str(i)), timeout_s=60)) for i in range(1, 6)]
        await asyncio.sleep(0)
        held.may_run.set()
        labels = [answer.label for answer in await asyncio.gather(first, *others)]
        batcher.close()
        return labels

    assert asyncio.run(scenario()) == ["0", "1", "2", "3", "4", "5"]
    assert held.batches == [["0"], ["1", "2", "3"], ["4", "5"]]


def test_whoever_gave_up_or_is_late_when_the_batch_starts_is_not_computed():
    held = Held()

    async def scenario():
        batcher = MicroBatcher(held, max_batch=10, max_waiting=100)
        first = asyncio.create_task(batcher.answer(_request("first"), timeout_s=None))
        await _first_batch_runs(held)
        late = asyncio.create_task(batcher.answer(_request("late"), timeout_s=0.001))
        gone = asyncio.create_task(batcher.answer(_request("gone"), timeout_s=60))
        patient = asyncio.create_task(batcher.answer(_request("patient"), timeout_s=60))
        await asyncio.sleep(0.05)
        gone.cancel()
        held.may_run.set()
        outcomes = await asyncio.gather(first, late, gone, patient, return_exceptions=True)
        with pytest.raises(DeadlinePassedError):
            await batcher.answer(_request("past"), timeout_s=0.0)
        batcher.close()
        return outcomes

    first, late, gone, patient = asyncio.run(scenario())
    assert (first.label, patient.label) == ("first", "patient")
    assert isinstance(late, DeadlinePassedError)
    assert isinstance(gone, asyncio.CancelledError)
    assert held.batches == [["first"], ["patient"]]


def test_too_many_waiting_are_refused_and_the_others_served():
    held = Held()

    async def scenario():
        batcher = MicroBatcher(held, max_batch=10, max_waiting=2)
        first = asyncio.create_task(batcher.answer(_request("0"), timeout_s=None))
        await _first_batch_runs(held)
        waiting = [asyncio.create_task(batcher.answer(_request(str(i)), timeout_s=None)) for i in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 queries"):
            await batcher.answer(_request("3"), timeout_s=None)
        held.may_run.set()
        answers = await asyncio.gather(first, *waiting)
        batcher.close()
        return [answer.label for answer in answers]

    assert asyncio.run(scenario()) == ["0", "1", "2"]


def test_a_bug_in_the_service_ends_its_batch_and_no_other():
    held = Held()
    held.may_run.set()

    async def scenario():
        batcher = MicroBatcher(held, max_batch=10, max_waiting=100)
        with pytest.raises(ValueError, match="a bug"):
            await batcher.answer(_request("bug"), timeout_s=None)
        answer = await batcher.answer(_request("fine"), timeout_s=None)
        batcher.close()
        return answer.label

    assert asyncio.run(scenario()) == "fine"
