"""Gathers concurrent requests into one call of the service, in a thread of its own, so that the event loop never waits.

No timer: while one batch is computed the next one gathers, so a lone request is not delayed and a crowd is served together.
Devices take turns: a batch holds the first request of every device before the second one of any, and where too many wait,
those of the device with the most are refused.
For an answer that is still on its way (from upstream) its caller alone waits. Whoever gave up (cancelled, or past its
deadline) before its batch starts is left out of it.

One request on its way through central: what was asked, until when, and in whose trace.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial

from aggregator.central.errors import CentralError, DeadlinePassedError, OverloadedError
from aggregator.fleet.limits import FairQueue
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse


@dataclass(frozen=True, slots=True)
class Call:
    """``deadline``: of the caller, on the monotonic clock; None where it waits for ever. ``context``: the caller's own."""

    request: AnswerRequest
    deadline: float | None = None
    context: Context = field(default_factory=copy_context)


Outcome = Exception | Future[AnswerResponse]
BeginMany = Callable[[Sequence[Call]], Sequence[CentralError | Future[AnswerResponse]]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    call: Call
    answer: "asyncio.Future[AnswerResponse]"


class MicroBatcher:
    """Lives on one event loop. `close` when nothing waits any more."""

    def __init__(self, begin_many: BeginMany, *, max_batch: int, max_waiting: int) -> None:
        self._begin_many = begin_many
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: FairQueue[_Waiting] = FairQueue()
        self._draining: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="central-model")

    async def answer(self, request: AnswerRequest, *, timeout_s: float | None) -> AnswerResponse:
        """The answer to one request. Raises the service's refusals, DeadlinePassedError and OverloadedError."""
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlinePassedError("the deadline passed before the query was started")
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        waiting = _Waiting(Call(request, deadline), loop.create_future())  # the loop's clock is the monotonic one
        self._waiting.push(request.device_id, waiting)
        if len(self._waiting) > self._max_waiting:
            self._drop_one()
        if self._draining is None:
            self._draining = loop.create_task(self._drain())
        return await waiting.answer

    def close(self) -> None:
        """Lets the thread end after the batch it is at."""
        self._thread.shutdown(wait=False)

    def _drop_one(self) -> None:
        dropped = self._waiting.pop_longest()
        if not dropped.answer.done():
            dropped.answer.set_exception(
                OverloadedError(f"{len(self._waiting)} queries are waiting already (max_waiting): try again later")
            )

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while batch := self._next_batch(loop.time()):
                calls = [waiting.call for waiting in batch]
                context = calls[0].context  # one call for all: its spans belong to the trace of the first
                outcomes: Sequence[Outcome]
                try:
                    outcomes = await loop.run_in_executor(self._thread, context.run, self._begin_many, calls)
                except Exception as error:
                    outcomes = [error] * len(batch)
                _settle(loop, batch, outcomes)
        finally:
            # No await since the queue was seen empty, so nobody can have joined it unnoticed.
            self._draining = None

    def _next_batch(self, now: float) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_batch:
            waiting = self._waiting.pop()
            if waiting.answer.done():
                continue
            if waiting.call.deadline is not None and waiting.call.deadline <= now:
                waiting.answer.set_exception(DeadlinePassedError("the deadline passed before the query was started"))
                continue
            batch.append(waiting)
        return batch


def _settle(loop: asyncio.AbstractEventLoop, batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, Exception):
            _give(waiting.answer, outcome)
        elif outcome.done():
            _take(waiting.answer, outcome)
        else:
            outcome.add_done_callback(partial(_take_on, loop, waiting.answer))


def _take_on(
    loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[AnswerResponse]", given: "Future[AnswerResponse]"
) -> None:
    with suppress(RuntimeError):  # the loop has ended, and whoever waited on it
        loop.call_soon_threadsafe(_take, answer, given)


def _take(answer: "asyncio.Future[AnswerResponse]", given: "Future[AnswerResponse]") -> None:
    error = given.exception()
    _give(answer, given.result() if error is None else error)


def _give(answer: "asyncio.Future[AnswerResponse]", outcome: AnswerResponse | BaseException) -> None:
    if answer.done():  # cancelled meanwhile; the service remembers the answer for the retry
        return
    if isinstance(outcome, BaseException):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
