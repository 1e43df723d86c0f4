"""Upstream as central uses it: which answers it is asked for, a bounded number at once, each on an event loop of its own.

Asking returns at once with a future, so no batch of the strong model and no other query waits for upstream. The future
always brings an `Asked`, whatever upstream does: central's own answer is there to be given instead.

From upstream's label and the strong model's distribution to one distribution whose most probable label is upstream's.

d = (1 - w) s + w e, with s the strong model's distribution and e all on upstream's label. The weight w is the probability
that upstream gave to its whole reply where it said so, else UNTOLD, and never below the least weight with which the label
leads every other one by LEAD. So d is a distribution, upstream's label leads, and the other labels keep their proportions.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aggregator.central.upstream.budget import ANSWERED, BUSY, FAILED, NO_TIME, OVER_BUDGET, Asked, Budget, Tokens
from aggregator.central.upstream.client import LEAST_TRY_S, MAX_TRIES, ChatClient, UpstreamFailed
from aggregator.central.upstream.prompt import Form, Prompt, read_reply
from fedge.costs import PriceBook
from fedge.features import Query
from fedge.traces import NoTraces, Traces

UNTOLD = 0.6
LEAD = 0.01


def mixed(strong: NDArray[np.float32], label: int, probability: float | None) -> NDArray[np.float32]:
    """The distribution float32 [C]. ``strong``: float32 [C], sums to 1 up to rounding. ``label``: upstream's, an index."""
    given = np.asarray(strong, dtype=np.float64)
    given = given / given.sum()
    ahead = float(np.delete(given, label).max(initial=0.0)) - float(given[label])
    # (1 - w) * ahead <= w - LEAD, solved for w; where the label leads already nothing is needed.
    least = (ahead + LEAD) / (1 + ahead) if ahead + LEAD > 0 else 0.0
    weight = min(1.0, max(UNTOLD if probability is None else probability, least))
    result = (1 - weight) * given
    result[label] += weight
    rounded: NDArray[np.float32] = result.astype(np.float32)
    return rounded


_log = logging.getLogger(__name__)

MARGIN_S = 0.25
"""Kept of the caller's time, so that central's own answer still reaches it."""
QUEUED_PER_SLOT = 4
"""How many questions may wait for each that is asked; beyond it central answers itself at once."""


@dataclass(frozen=True, slots=True)
class When:
    """Which answers of the strong model are put to upstream. The same for probes, escalations and forced queries."""

    rule: Literal["unsure", "always"]
    min_confidence: float

    def wants(self, probabilities: NDArray[np.float32]) -> bool:
        """Whether upstream is to be asked, given the strong model's distribution."""
        return self.rule == "always" or float(probabilities.max()) < self.min_confidence


class Upstream:
    """A language model that central asks. `close` it in the end. Safe to use from several threads."""

    def __init__(
        self,
        client: Callable[[], ChatClient],
        prompt: Prompt,
        *,
        when: When,
        book: PriceBook,
        price_name: str,
        budget: Budget,
        timeout_s: float,
        max_concurrent: int,
        clock: Callable[[], float] = time.monotonic,
        traces: Traces | None = None,
    ) -> None:
        self.book = book
        self.price_name = price_name
        self.budget = budget
        self.model = prompt.model
        self._prompt = prompt
        self._labels = frozenset(prompt.labels)
        self._when = when
        self._timeout_s = timeout_s
        self._max_unfinished = max_concurrent * (1 + QUEUED_PER_SLOT)
        self._clock = clock
        self._traces = traces or NoTraces()
        self._form = Form()
        self._unfinished = 0
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(max_concurrent)
        self._thread = Thread(target=self._loop.run_forever, name="central-upstream", daemon=True)
        self._thread.start()
        self._client = asyncio.run_coroutine_threadsafe(_made(client), self._loop).result()

    def wants(self, probabilities: NDArray[np.float32]) -> bool:
        """Whether this answer of the strong model is to be put to upstream."""
        return self._when.wants(probabilities)

    def usd(self, tokens: Tokens) -> float:
        """What tokens cost."""
        return self.budget.usd(tokens)

    def ask(self, query: Query, *, deadline: float | None) -> "Future[Asked]":
        """Ask, in the present context. ``deadline``: the caller's, on the clock. The future's result never raises."""
        latest = self._clock() + MAX_TRIES * self._timeout_s
        until = latest if deadline is None else min(latest, deadline - MARGIN_S)
        return asyncio.run_coroutine_threadsafe(self._ask(str(query), until), self._loop)

    def close(self) -> None:
        """End what is under way (central answers those itself) and the connections. May be said twice."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    async def _ask(self, query: str, until: float) -> Asked:
        with self._traces.span("central.upstream", model=self.model):
            asked = await self._bounded(query, until)
            self._traces.note(outcome=asked.outcome, tokens_in=asked.tokens.tokens_in, tokens_out=asked.tokens.tokens_out)
            if asked.tokens.estimated:
                self._traces.note(tokens="estimated")
        if asked.outcome != ANSWERED:
            _log.info("upstream gave no answer (%s): central's own is given", asked.outcome)
        return asked

    async def _bounded(self, query: str, until: float) -> Asked:
        """One question within the bounds on number, time and money."""
        if self._unfinished >= self._max_unfinished:
            return self._counted(Asked(BUSY))
        self._unfinished += 1
        try:
            try:
                async with asyncio.timeout(max(0.0, until - LEAST_TRY_S - self._clock())):
                    await self._slots.acquire()
            except TimeoutError:
                return self._counted(Asked(NO_TIME))
            except asyncio.CancelledError:  # central stops
                return self._counted(Asked(FAILED))
            try:
                if until - self._clock() < LEAST_TRY_S:
                    return self._counted(Asked(NO_TIME))
                return await self._paid(query, until)
            finally:
                self._slots.release()
        finally:
            self._unfinished -= 1

    async def _paid(self, query: str, until: float) -> Asked:
        expected = self._prompt.estimate(query)
        if not self.budget.reserve(expected):
            return self._counted(Asked(OVER_BUDGET))
        # Cancelled or broken in between, upstream may have billed it all the same.
        asked = Asked(FAILED, tokens=expected)
        try:
            asked = await self._asked(query, until, expected)
        except asyncio.CancelledError:  # central stops, and its own answer is given
            _log.info("a question to upstream was given up")
        except Exception as error:  # a mistake of ours: the query is answered all the same, and nothing of it is logged
            _log.error("asking upstream failed: %s", type(error).__name__)
        finally:
            self.budget.settle(expected, asked)
        return asked

    async def _asked(self, query: str, until: float, expected: Tokens) -> Asked:
        """Ask; where the endpoint refuses an option by name, ask without it, and go on so once it has answered so."""
        unseen, form = Tokens(), self._form
        while True:
            try:
                received = await self._client.post(
                    self._prompt.body(query, form), headers=self._traces.headers(), deadline=until
                )
            except UpstreamFailed as failure:
                unseen = _times(expected, failure.unseen, unseen)
                if (other := form.without(failure.complaint)) is None:
                    return Asked(failure.outcome, tokens=unseen)
                form = other
                continue
            self._form = form
            reply = read_reply(received.body, self._labels)
            tokens = _times(expected, received.unseen, unseen) + (expected if reply.tokens is None else reply.tokens)
            return Asked(reply.outcome, reply.label, reply.probability, tokens)

    def _counted(self, asked: Asked) -> Asked:
        self.budget.count(asked)
        return asked


async def _made(client: Callable[[], ChatClient]) -> ChatClient:
    return client()


def _times(expected: Tokens, count: int, so_far: Tokens) -> Tokens:
    for _ in range(count):
        so_far += expected
    return so_far
