"""Gathers concurrent requests into one call of the service, in a thread of its own, so that the event loop never waits.

No timer: while one batch is computed the next one gathers, so a lone request is not delayed and a crowd is served together.
Whoever gave up (cancelled, or past its deadline) before its batch starts is left out of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass

from aggregator.central.errors import CentralError, DeadlinePassedError, OverloadedError
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse

AnswerMany = Callable[[Sequence[AnswerRequest]], list[AnswerResponse | CentralError]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: AnswerRequest
    deadline: float | None  # on the event loop's clock
    answer: "asyncio.Future[AnswerResponse]"
    context: Context


class MicroBatcher:
    """Lives on one event loop. `close` when nothing waits any more."""

    def __init__(self, answer_many: AnswerMany, *, max_batch: int, max_waiting: int) -> None:
        self._answer_many = answer_many
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="central-model")

    async def answer(self, request: AnswerRequest, *, timeout_s: float | None) -> AnswerResponse:
        """The answer to one request. Raises the service's refusals, DeadlinePassedError and OverloadedError."""
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlinePassedError("the deadline passed before the query was started")
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError(f"{len(self._waiting)} queries are waiting already: try again later")
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        waiting = _Waiting(request, deadline, loop.create_future(), copy_context())
        self._waiting.append(waiting)
        if self._draining is None:
            self._draining = loop.create_task(self._drain())
        return await waiting.answer

    def close(self) -> None:
        """Lets the thread end after the batch it is at."""
        self._thread.shutdown(wait=False)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while batch := self._next_batch(loop.time()):
                requests = [waiting.request for waiting in batch]
                context = batch[0].context  # one call for all: its spans belong to the trace of the first
                outcomes: Sequence[AnswerResponse | Exception]
                try:
                    outcomes = await loop.run_in_executor(self._thread, context.run, self._answer_many, requests)
                except Exception as error:
                    outcomes = [error] * len(batch)
                _settle(batch, outcomes)
        finally:
            # No await since the queue was seen empty, so nobody can have joined it unnoticed.
            self._draining = None

    def _next_batch(self, now: float) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_batch:
            waiting = self._waiting.popleft()
            if waiting.answer.done():
                continue
            if waiting.deadline is not None and waiting.deadline <= now:
                waiting.answer.set_exception(DeadlinePassedError("the deadline passed before the query was started"))
                continue
            batch.append(waiting)
        return batch


def _settle(batch: Sequence[_Waiting], outcomes: Sequence[AnswerResponse | Exception]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if waiting.answer.done():  # cancelled meanwhile; the service remembers the answer for the retry
            continue
        if isinstance(outcome, Exception):
            waiting.answer.set_exception(outcome)
        else:
            waiting.answer.set_result(outcome)
