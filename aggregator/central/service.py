"""The core of the fallback service: checks a query, asks the strong model once, prices the answer and counts it.

Where an upstream is given, answers that it is wanted for are put to it as well (`aggregator.central.upstream`): these come
later, and no other query waits for them.

Knows nothing of gRPC: requests and responses are plain messages, refusals are CentralErrors, and the clock comes in.
Never stores a query: what is kept is its content hash, to notice a reused key, and the answer, both for a bounded time.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aggregator.central.batching import Call
from aggregator.central.errors import CentralError, LedgerFailedError, ModelFailedError, RequestRefusedError
from aggregator.central.idempotency import AnswerMemory, Claim, Key
from aggregator.central.probe_counts import AnsweredProbe
from aggregator.central.upstream.budget import ANSWERED, FAILED, NO_TOKENS, Asked, Tokens
from aggregator.central.upstream.upstream import mixed
from fedge.costs import PriceBook
from fedge.errors import FedgeError, InputError
from fedge.features import Query, content_hash
from fedge.identity import check_device_id
from fedge.traces import NoTraces, Traces
from fedge.wire import check_idempotency_key, query_from_proto
from protos.fedge.central.v1.central_pb2 import (
    PURPOSE_PROBE,
    PURPOSE_UNSPECIFIED,
    AnswerRequest,
    AnswerResponse,
    DescribeResponse,
    Purpose,
)

_log = logging.getLogger(__name__)
_PURPOSES = frozenset(Purpose.values()) - {PURPOSE_UNSPECIFIED}
_RELEASE_ID = re.compile(r"(?:[0-9a-f]{64})?")
_MAX_SUM_ERROR = 1e-3  # a float32 softmax over a few hundred labels is off by about 1e-6

Account = tuple[str, Purpose]
"""On whose account an answer stands: the device's id, and what the device asked for."""

_Fresh = tuple[Call, Query, Claim]
Outcome = CentralError | Future[AnswerResponse]


class StrongModel(Protocol):
    """Answer queries: probabilities float [n, C], rows in the order of the queries, columns in the order of the labels."""

    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Probabilities of the labels for each query. Called from one thread at a time."""
        ...


class AsksUpstream(Protocol):
    """A language model that central may ask: `aggregator.central.upstream.upstream.Upstream`."""

    book: PriceBook
    model: str

    def wants(self, probabilities: NDArray[np.float32]) -> bool:
        """Whether an answer with this distribution is to be put to it."""
        ...

    def ask(self, query: Query, *, deadline: float | None) -> "Future[Asked]":
        """Ask, in the present context, until ``deadline`` on the monotonic clock; the future's result never raises."""
        ...

    def usd(self, tokens: Tokens) -> float:
        """What tokens cost by ``book``."""
        ...


class CountsProbes(Protocol):
    """Count the probes that central answers: `aggregator.central.probe_counts.ProbeCounts`."""

    def count(self, probes: Sequence[AnsweredProbe], *, now: float) -> None:
        """Count probes that are about to be answered."""
        ...


class BooksAnswers(Protocol):
    """Write the cost of answers to the ledger: `aggregator.central.ledger_writer.LedgerWriter`."""

    def check(self) -> None:
        """Raise LedgerFailedError where nothing can be written now."""
        ...

    def book(self, served: "Mapping[Account, Served]") -> "Future[None]":
        """Write what answers cost; the future is done once it is on disk, or ends in LedgerFailedError."""
        ...


@dataclass(frozen=True, slots=True)
class Pricing:
    """The price of one answer in USD, and the version of the price book that says so."""

    price_book: str
    price_usd: Callable[[Query], float]

    @classmethod
    def from_book(cls, book: PriceBook) -> "Pricing":
        """The book's flat price of one answer, whatever the query."""
        price_usd = book.central_price_usd
        return cls(book.version, lambda query: price_usd)


@dataclass(frozen=True, slots=True)
class Limits:
    """Which queries are accepted: texts up to a size in bytes of UTF-8, or vectors of exactly so many pixels (0: none)."""

    max_text_bytes: int = 0
    pixels: int = 0

    def check(self, query: Query) -> None:
        """Raises RequestRefusedError for a query that the model does not take."""
        if isinstance(query, str):
            size_bytes = len(query.encode())
            if size_bytes > self.max_text_bytes:
                raise RequestRefusedError(
                    f"a query text of {size_bytes} bytes is too long: up to {self.max_text_bytes} are taken"
                )
        elif len(query) != self.pixels:
            raise RequestRefusedError(f"a query of {len(query)} pixels does not fit: {self.pixels} are taken")


@dataclass(frozen=True, slots=True)
class Served:
    """How many queries were computed (repeated requests count once) and what they cost. Adds up with `+`.

    ``upstream``: how many of them upstream answered. ``tokens``: what it is paid for, for these and for replies of no use.
    """

    queries: int = 0
    price_usd: float = 0.0
    upstream: int = 0
    tokens: Tokens = NO_TOKENS

    def __add__(self, other: "Served") -> "Served":
        return Served(
            self.queries + other.queries,
            self.price_usd + other.price_usd,
            self.upstream + other.upstream,
            self.tokens + other.tokens,
        )


class CentralService:
    """Answers queries with a strong model. Safe to call from several threads; the model sees one batch at a time."""

    def __init__(
        self,
        *,
        model: StrongModel,
        model_name: str,
        labels: Sequence[str],
        pricing: Pricing,
        limits: Limits,
        clock: Callable[[], float],
        max_remembered: int = 100_000,
        max_age_s: float = 24 * 3600.0,
        traces: Traces | None = None,
        upstream: AsksUpstream | None = None,
        probes: CountsProbes | None = None,
        ledger: BooksAnswers | None = None,
    ) -> None:
        if not labels or len(set(labels)) != len(labels) or not all(labels):
            raise InputError(f"the labels must be distinct and not empty, got {list(labels)[:5]}")
        self._model = model
        self._model_name = model_name
        self._labels = tuple(labels)
        self._pricing = pricing
        self._limits = limits
        self._clock = clock
        self._traces = traces or NoTraces()
        self._upstream = upstream
        self._probes = probes
        self._ledger = ledger
        self._memory = AnswerMemory(max_entries=max_remembered, max_age_s=max_age_s)
        self._served: dict[Account, Served] = {}
        self._count_lock = Lock()
        self._model_lock = Lock()

    def describe(self) -> DescribeResponse:
        """Labels, model, price book and limits."""
        return DescribeResponse(
            labels=self._labels,
            model=self._model_name,
            price_book=self._pricing.price_book,
            max_text_bytes=self._limits.max_text_bytes,
            pixels=self._limits.pixels,
        )

    def answer(self, request: AnswerRequest) -> AnswerResponse:
        """The answer to one request. Raises a CentralError subclass that says what is wrong."""
        (outcome,) = self.answer_many([request])
        if isinstance(outcome, CentralError):
            raise outcome
        return outcome

    def answer_many(self, requests: Sequence[AnswerRequest]) -> list[AnswerResponse | CentralError]:
        """Answers in the order of the requests, the new ones computed in one call of the model; refusals stand as values."""
        return [_wait(outcome) for outcome in self.begin_many([Call(request) for request in requests])]

    def begin_many(self, calls: Sequence[Call]) -> list[Outcome]:
        """As `answer_many`, without waiting for upstream: a refusal or the answer's future for each call, in their order."""
        outcomes: list[Outcome] = []
        fresh: list[_Fresh] = []
        for call in calls:
            try:
                query = self._check(call.request)
                claim = self._memory.claim(_key(call.request), content_hash(query), now=self._clock())
            except CentralError as error:
                outcomes.append(error)
                continue
            outcomes.append(claim.future)
            if claim.is_first:
                fresh.append((call, query, claim))
        # Whoever claims computes before waiting for anyone else, so two calls never wait for each other.
        if fresh:
            self._compute(fresh)
        return outcomes

    def served(self) -> Mapping[Account, Served]:
        """What was answered since the start by (device, purpose)."""
        with self._count_lock:
            return dict(self._served)

    def _check(self, request: AnswerRequest) -> Query:
        try:
            check_idempotency_key(request.idempotency_key)
            check_device_id(request.device_id)
            query = query_from_proto(request.query)
        except InputError as error:
            raise RequestRefusedError(str(error)) from error
        if not _RELEASE_ID.fullmatch(request.release_id):
            raise RequestRefusedError(f"release_id {request.release_id[:80]!r} is not 64 lower-case hex digits, nor empty")
        if request.purpose not in _PURPOSES:
            raise RequestRefusedError(f"purpose {request.purpose} is unknown: say escalation, probe or forced")
        self._limits.check(query)
        return query

    def _compute(self, fresh: Sequence[_Fresh]) -> None:
        if self._ledger is not None:
            try:
                self._ledger.check()
            except LedgerFailedError as error:
                self._refuse(fresh, error)
                return
        try:
            responses = self._respond([query for _, query, _ in fresh])
        except Exception as error:
            if len(fresh) > 1:
                # One query that the model cannot digest must not cost the others in its batch their answers.
                for one in fresh:
                    self._compute([one])
                return
            ((call, _, _),) = fresh
            _log.exception("the model failed on a query of device %s", call.request.device_id)
            is_said = isinstance(error, CentralError)
            self._refuse(fresh, error if is_said else ModelFailedError("the model failed; the server's log says why"))
            return
        at_once = [
            (one, response) for one, response in zip(fresh, responses, strict=True) if not self._ask_upstream(one, response)
        ]
        if at_once:
            self._book(at_once, [Served(1, response.price_usd) for _, response in at_once])

    def _ask_upstream(self, one: _Fresh, own: AnswerResponse) -> bool:
        """Put a query to upstream where its answer is wanted beside central's ``own``; what comes of it is given later."""
        call, query, _ = one
        upstream = self._upstream
        if upstream is None or not upstream.wants(np.array(own.distribution, dtype=np.float32)):
            return False
        # In a copy of the caller's context: in the trace of this query, whichever batch it was computed in.
        try:
            asking = call.context.copy().run(partial(upstream.ask, query, deadline=call.deadline))
        except RuntimeError:  # it was closed in this very moment: central stops
            return False
        asking.add_done_callback(lambda asked: self._finish_later(upstream, one, own, asked))
        return True

    def _count_probes(self, answered: Sequence[tuple[_Fresh, AnswerResponse]]) -> None:
        """Count the probes among answers that are about to be given. That they cannot be counted keeps no answer back."""
        if self._probes is None:
            return
        probes = [
            AnsweredProbe(call.request.device_id, call.request.release_id, query, response.label)
            for (call, query, _), response in answered
            if call.request.purpose == PURPOSE_PROBE
        ]
        if not probes:
            return
        try:
            self._probes.count(probes, now=self._clock())
        except FedgeError as error:
            _log.error("%d probes are not counted: %s", len(probes), error)

    def _finish_later(self, upstream: AsksUpstream, one: _Fresh, own: AnswerResponse, asking: "Future[Asked]") -> None:
        failed = asking.cancelled() or asking.exception() is not None
        asked = Asked(FAILED) if failed else asking.result()
        response = self._with_upstream(upstream, own, asked)
        is_upstream = asked.outcome == ANSWERED
        self._book([(one, response)], [Served(1, response.price_usd, int(is_upstream), asked.tokens)])

    def _with_upstream(self, upstream: AsksUpstream, own: AnswerResponse, asked: Asked) -> AnswerResponse:
        """Upstream's answer at the price of its tokens; else central's own at its price and that of tokens in vain."""
        tokens_usd = upstream.usd(asked.tokens)
        response = AnswerResponse()
        response.CopyFrom(own)
        if asked.label is not None:
            label = self._labels.index(asked.label)
            distribution = mixed(np.array(own.distribution, dtype=np.float32), label, asked.probability)
            response.label, response.answered_by, response.model = asked.label, "upstream", upstream.model
            response.distribution[:] = distribution.tolist()
            response.price_usd = tokens_usd
        else:
            response.price_usd = own.price_usd + tokens_usd
        if asked.tokens != NO_TOKENS:
            response.price_book = upstream.book.version
        return response

    def _book(self, answered: Sequence[tuple[_Fresh, AnswerResponse]], costs: Sequence[Served]) -> None:
        """Give answers once what they cost is in the ledger; where it cannot be written nobody gets them."""
        served: dict[Account, Served] = {}
        for ((call, _, _), _), cost in zip(answered, costs, strict=True):
            account = (call.request.device_id, call.request.purpose)
            served[account] = served.get(account, Served()) + cost
        if self._ledger is None:
            self._give(answered, served)
            return

        def finish(booked: "Future[None]") -> None:
            error = booked.exception()
            if error is None:
                self._give(answered, served)
            else:
                self._refuse([one for one, _ in answered], error)

        self._ledger.book(served).add_done_callback(finish)

    def _give(self, answered: Sequence[tuple[_Fresh, AnswerResponse]], served: Mapping[Account, Served]) -> None:
        self._count_probes(answered)
        with self._count_lock:
            for account, cost in served.items():
                self._served[account] = self._served.get(account, Served()) + cost
        for (_, _, claim), response in answered:
            claim.future.set_result(response)

    def _refuse(self, fresh: Sequence[_Fresh], error: BaseException) -> None:
        """Give no answer: a retry under the same key computes anew."""
        for call, _, claim in fresh:
            self._memory.release(_key(call.request), claim)
            claim.future.set_exception(error)

    def _respond(self, queries: Sequence[Query]) -> list[AnswerResponse]:
        with self._traces.span("central.model", queries=len(queries)), self._model_lock:
            probabilities = np.asarray(self._model.predict(queries), dtype=np.float32)
        expected = (len(queries), len(self._labels))
        if probabilities.shape != expected:
            raise ModelFailedError(f"the model gave probabilities of shape {probabilities.shape}, not {expected}")
        sums = probabilities.sum(axis=1)
        if not ((probabilities >= 0).all() and (np.abs(sums - 1) <= _MAX_SUM_ERROR).all()):  # NaN fails both
            raise ModelFailedError("the model gave numbers that are no distribution over the labels")
        return [
            AnswerResponse(
                label=self._labels[int(row.argmax())],
                distribution=row.tolist(),
                answered_by="central",
                price_usd=self._pricing.price_usd(query),
                price_book=self._pricing.price_book,
                model=self._model_name,
            )
            for query, row in zip(queries, probabilities, strict=True)
        ]


def _key(request: AnswerRequest) -> Key:
    return request.device_id, request.idempotency_key


def _wait(outcome: Outcome) -> AnswerResponse | CentralError:
    if isinstance(outcome, CentralError):
        return outcome
    try:
        return outcome.result()
    except CentralError as error:
        return error
