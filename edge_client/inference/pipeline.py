"""The device at work: a query in, an answer out, and what there is to learn, to count and to pay, in one transaction.

Features, model and router decide; central is asked through whatever client was given. A batch is the same as its queries one
after another, but runs the model once. Never trains and never takes part in rounds: see `learner` and the Flower client.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from edge_client.clock import Clock, Stopwatch
from edge_client.inference.arrears import Arrears
from edge_client.inference.budget import Spending
from edge_client.inference.escalation import CentralClient, Outcome
from edge_client.inference.query import (
    NOT_STORED,
    Answer,
    Opinion,
    Question,
    Settled,
    opinions,
    request_for,
    routed,
    settle,
    stays_in,
)
from edge_client.inference.recording import batch_rows, wire_rows, write_batch, write_late
from edge_client.power.accounting import EnergyMeter
from edge_client.releases.inference import LoadedRelease
from edge_client.releases.manager import Active, ReleaseManager, Synced
from edge_client.store import DeviceStore, LabelledQuery, StoreUnwritableError
from fedge.costs import Kind, LedgerEntry
from fedge.errors import InputError
from fedge.features import Query, content_hash
from fedge.routing import Mode, Policy, Reason, Route, is_probe, probe_rate
from fedge.traces import NoTraces, Traces
from fedge.wire import answer_request
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, AnswerRequest, AnswerResponse

_log = logging.getLogger(__name__)

_BY_THRESHOLD = (Reason.CONFIDENT, Reason.BELOW_THRESHOLD, Reason.OUT_OF_SCOPE, Reason.ERROR_PRICE)


def always() -> bool:
    """Central is taken to be in reach until a call shows otherwise."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Who this device is and what it goes by. ``probe_key``: its secret of 16 to 64 bytes for drawing probes.
    ``daily_budget_usd``: most that central may be paid on a day (UTC); the policy's own budget, where it is smaller. Beyond
    it the device answers, marked degraded.

    ``stopwatch`` None: times are the profile's (simulation). ``online``: what is known of the connection before a call.
    """

    device_id: str
    probe_key: bytes
    policy: Policy
    meter: EnergyMeter
    clock: Clock
    stopwatch: Stopwatch | None = None
    online: Callable[[], bool] = always
    timeout_s: float = 10.0
    daily_budget_usd: float | None = None
    traces: Traces = field(default_factory=NoTraces)


class Agent:
    """Answers queries on one device. Safe to call from several threads."""

    def __init__(self, device: Device, *, store: DeviceStore, releases: ReleaseManager, central: CentralClient) -> None:
        self.device = device
        self.store = store
        self.releases = releases
        self.spending = Spending(
            store,
            device.policy.limits,
            daily_budget_usd=device.daily_budget_usd,
            price_usd=lambda: device.meter.book.central_price_usd,
        )
        self._central = central
        self._catching_up = Lock()
        self._arrears = Arrears()

    def ask(self, query: Query, *, mode: Mode = "auto", topic: str | None = None, queue: bool = False) -> Answer:
        """Answer one query. Raises InputError for a query that the release's features refuse."""
        return self.ask_many([query], mode=mode, topics=[topic], queue=queue)[0]

    def ask_many(
        self,
        queries: Sequence[Query],
        *,
        mode: Mode = "auto",
        topics: Sequence[str | None] | None = None,
        queue: bool = False,
    ) -> list[Answer]:
        """Answer queries as if they came one after another, with one run of the model for all of them.

        ``queue``: what central should have answered and could not (out of reach, over the day's budget, too often) is put to
        it later, and its answer kept under the answer's number. Where the queue is full the answer says so: it is not
        ``queued``. Where the disk takes nothing the queries are answered all the same, marked as not ``recorded``.
        """
        if not len(queries):
            return []
        with self.device.traces.span("device.ask", queries=len(queries), mode=mode):
            return self._ask_many(queries, mode=mode, topics=topics, queue=queue)

    def _ask_many(
        self, queries: Sequence[Query], *, mode: Mode, topics: Sequence[str | None] | None, queue: bool
    ) -> list[Answer]:
        started = self.device.stopwatch() if self.device.stopwatch else 0.0
        with self.device.traces.span("device.inference", queries=len(queries)):
            active, views = self._opinions(queries)
        inferred = self.device.stopwatch() - started if self.device.stopwatch else None
        spent_s = inferred if active else 0.0
        done = self._recorded(queries, active, views, mode=mode, topics=topics, queue=queue, spent_s=spent_s)
        self._note(done.settled, active)
        local_usd = done.rows[0].amount_usd / len(queries)
        profile_ms = 1000 * self.device.meter.profile.value("inference_s") if active else 0.0
        latency_ms = 1000 * (self.device.stopwatch() - started) if self.device.stopwatch else profile_ms
        release_id = active.loaded.release_id if active else None
        return [
            Answer(
                answer_id=one.question.number if done.is_recorded else 0,
                answer=one.answer,
                answered_by=one.answered_by,
                reason=str(one.reason),
                confidence=one.question.opinion.confidence,
                usd=local_usd + (one.response.price_usd if one.response is not None else 0.0),
                release=release_id,
                latency_ms=latency_ms,
                degraded=one.degraded,
                probe=one.route.probe,
                queued=one.question.content_hash in done.queued,
                recorded=done.is_recorded,
            )
            for one in done.settled
        ]

    def _recorded(
        self,
        queries: Sequence[Query],
        active: Active | None,
        views: Sequence[Opinion],
        *,
        mode: Mode,
        topics: Sequence[str | None] | None,
        queue: bool,
        spent_s: float | None,
    ) -> "_Done":
        """Answer a batch and store what comes of it; where the disk takes nothing, answer it from memory."""
        meter, was_stored = self.device.meter, self.store.fault is None
        try:
            self._require_storage()
            with self.store.transaction():
                now = self.device.clock()  # inside, so that threads fill buckets in the order of their times
                first = self.store.answers.upcoming()
                questions = _questions(first, queries, views, topics)
                fates = self.store.fates.settle(self._draws(questions, active), at=now)
                routes = self._routes(questions, fates, active, mode=mode, now=now)
                # Nothing to send and nothing to promise: one transaction for all of it, half the time of a local answer.
                local = not queue and all(decided.answered_by != "central" for decided in routes)
                if local:
                    settled = _settled(questions, fates, routes, {})
                    rows = batch_rows(meter, settled, [], now=now, inferred=spent_s)
                    queued = write_batch(self.store, settled, active, rows, now=now)
                else:
                    self.store.answers.reserve(len(queries))
        except StoreUnwritableError as error:
            if was_stored:
                _log.warning("%s; until then queries are answered and not recorded", error)
            return self._unrecorded(_questions(0, queries, views, topics), active, mode=mode, spent_s=spent_s)
        if local:
            return _Done(settled, rows, queued)
        with self.device.traces.span("device.escalation"):
            requests, outcomes = self._escalated(questions, routes, active)
        settled = _settled(questions, fates, routes, outcomes)
        rows = batch_rows(meter, settled, requests, now=now, inferred=spent_s)
        release = partial(self.spending.release, len(requests), now)
        try:
            queued = write_batch(self.store, settled, active, rows, now=now, queue=queue, release=release)
        except StoreUnwritableError as error:  # what central was paid for is given to the caller all the same
            _log.warning("answers are given and not recorded: %s", error)
            self._arrears.owe(rows, set_aside=self.spending.set_aside(len(requests)), at=now)
            return _Done(settled, rows, set(), is_recorded=False)
        return _Done(settled, rows, queued)

    def _unrecorded(
        self, questions: Sequence[Question], active: Active | None, *, mode: Mode, spent_s: float | None
    ) -> "_Done":
        """Answer a batch without the store. No query is a probe: a new one's fate could not be kept, nor any outcome.

        Where a budget or a rate holds, central is not asked: what it is paid could not be counted.
        """
        device, now = self.device, self.device.clock()
        is_limited = self.spending.is_limited
        routes = []
        for question in questions:
            decided = routed(
                question,
                active,
                policy=device.policy,
                mode=mode,
                drawn=False,
                online=device.online(),
                within_budget=not is_limited,
                within_rate=True,
                price_usd=device.meter.book.central_price_usd,
                now=now,
            )
            routes.append(decided)
        requests, outcomes = self._escalated(questions, routes, active)
        fates = dict.fromkeys((question.content_hash for question in questions), False)
        settled = [
            replace(one, reason=NOT_STORED) if is_limited and one.reason == Reason.OVER_BUDGET else one
            for one in _settled(questions, fates, routes, outcomes)
        ]
        rows = batch_rows(device.meter, settled, requests, now=now, inferred=spent_s)
        self._arrears.owe(rows)
        return _Done(settled, rows, set(), is_recorded=False)

    def missing_storage(self) -> str | None:
        """Return why nothing is recorded, in words; None where everything is. Tries again where the last write failed."""
        try:
            self._require_storage()
        except StoreUnwritableError as error:
            return f"{error}; until then queries are answered and not recorded"
        return None

    def _require_storage(self) -> None:
        """Book what is in arrears, where the last write failed. Raises StoreUnwritableError where the disk takes nothing."""
        if self.store.fault is not None:
            self._arrears.book(self.store)
            _log.warning("the device's store can be written again: answers are recorded")

    def correct(self, answer_id: int, label: str) -> bool:
        """A user's correction of an answer, kept on the device for training.

        False, and nothing is kept, where the query is a probe: what calibrates is never trained on. Raises InputError for an
        unknown answer or label.
        """
        answer = self.store.answers.get(answer_id)
        if answer is None:
            raise InputError(f"no answer has the number {answer_id}: it is not this device's, or too long ago")
        active = self.releases.active
        labels = active.loaded.release.manifest.labels if active else ()
        if active and label not in labels:
            some = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
            raise InputError(f"{label!r} is no label of this device's model: use one of {some}")
        with self.store.transaction(durable=True):  # a user's word, given once
            self.store.count({"corrections": 1, **({"corrections.of_probes": 1} if answer.probe else {})})
            if not answer.probe:
                corrected = LabelledQuery(
                    content_hash=answer.content_hash,
                    query=answer.query,
                    label=label,
                    source="correction",
                    at=self.device.clock(),
                )
                self.store.memory.correct(corrected)
        return not answer.probe

    def catch_up(self, *, at_most: int = 64) -> int:
        """Ask central the questions that it could not be asked when they came up; returns how many it answered.

        They count as escalations in the ledger. Users have had the device's own answers by then.
        """
        with self._catching_up:  # two at once would book one answer twice
            if not self.device.online():
                return 0
            self._require_storage()  # or central would be paid again each time
            with self.store.transaction():
                now = self.device.clock()
                allowance = self.spending.allowance(now)
                waiting = self.store.outbox.oldest(at_most)
                waiting = waiting[: allowance.take_up_to(len(waiting))]
                self.spending.keep(allowance, now)
            if not waiting:
                return 0
            requests = [
                answer_request(
                    idempotency_key=question.idempotency_key,
                    device_id=self.device.device_id,
                    query=question.query,
                    release_id=question.release_id,
                    purpose=PURPOSE_ESCALATION,
                )
                for question in waiting
            ]
            outcomes = self._central.answer_many(requests, self.device.timeout_s)
            rows = wire_rows(
                self.device.meter,
                requests,
                [(Kind.ESCALATIONS, outcome) for outcome in outcomes if isinstance(outcome, AnswerResponse)],
                now=now,
            )
            release = partial(self.spending.release, len(requests), now)
            return write_late(self.store, list(zip(waiting, outcomes, strict=True)), rows, now=now, release=release)

    def expire(self, *, max_age_s: float) -> int:
        """Give up open questions that are older than that; returns how many."""
        now = self.device.clock()
        with self.store.transaction():
            old = self.store.outbox.older_than(now - max_age_s)
            for content_hash in old:
                self.store.waiting.settle(content_hash, "expired", at=now)
            self.store.outbox.close(old)
        return len(old)

    def embed(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """The encoder's vectors float32 [n, D] of queries; nothing is answered, logged or sent, but the energy is booked.

        Raises InputError where there is no release yet, and for a query that its features refuse.
        """
        active = self.releases.active
        if active is None:
            raise InputError("this device has no release yet, so it has no encoder: try again once it has one")
        started = self.device.stopwatch() if self.device.stopwatch else 0.0
        vectors = active.loaded.session.predict(queries).embedding
        seconds = self.device.stopwatch() - started if self.device.stopwatch else None
        self._charge([self.device.meter.inference(queries=len(queries), at=self.device.clock(), seconds=seconds)])
        return vectors

    def sync(self) -> Synced:
        """Bring the device to the published release and certificate; see `ReleaseManager.sync`."""
        synced = self.releases.sync()
        self._charge_download(synced.downloaded_bytes)
        if (active := self.releases.active) is not None:  # a new base's wait begins when it comes, not when it is asked for
            self.store.training.see(active.loaded.release.manifest.encoder_sha256, at=self.device.clock())
        return synced

    def obtain(self, release_id: str) -> LoadedRelease:
        """A release loaded beside the active one; see `ReleaseManager.obtain`."""
        loaded, downloaded = self.releases.obtain(release_id)
        self._charge_download(downloaded)
        return loaded

    def _opinions(self, queries: Sequence[Query]) -> tuple[Active | None, list[Opinion]]:
        """What the release says. Where its model fails the query does not: the release before answers if the watch goes back
        to that, else central, as on a device without a release.
        """
        while (active := self.releases.active) is not None:
            try:
                return active, opinions(active.loaded, queries)
            except InputError:
                raise
            except Exception as error:  # onnxruntime raises a family of its own without a common base
                if not self.releases.failed(active, error):
                    break
        return None, opinions(None, queries)

    def _note(self, settled: Sequence[Settled], active: Active | None) -> None:
        """Tell the watch; judged are the answers that a threshold decided about."""
        if active is None:
            return
        routed = [done.route.reason for done in settled if done.route.reason in _BY_THRESHOLD]
        escalated = sum(reason != Reason.CONFIDENT for reason in routed)
        self.releases.note(active, answered=len(settled), routed=len(routed), escalated=escalated)

    def _routes(
        self,
        questions: Sequence[Question],
        fates: Mapping[bytes, bool],
        active: Active | None,
        *,
        mode: Mode,
        now: float,
    ) -> list[Route]:
        """Who is to answer each question; what is to be sent is set aside. Belongs into a transaction."""
        device = self.device
        online = device.online()
        price_usd = device.meter.book.central_price_usd
        allowance = self.spending.allowance(now)
        routes: list[Route] = []
        for question in questions:
            decided = routed(
                question,
                active,
                policy=device.policy,
                mode=mode,
                drawn=fates[question.content_hash],
                online=online,
                within_budget=allowance.within_budget,
                within_rate=allowance.within_rate,
                price_usd=price_usd,
                now=now,
            )
            if decided.answered_by == "central":
                allowance.take()
            routes.append(decided)
        self.spending.keep(allowance, now)
        return routes

    def _escalated(
        self, questions: Sequence[Question], routes: Sequence[Route], active: Active | None
    ) -> tuple[list[AnswerRequest], dict[int, Outcome]]:
        """What was put to central, and what came of it by the question's place."""
        device = self.device
        release_id = active.loaded.release_id if active else ""
        asked = [i for i, decided in enumerate(routes) if decided.answered_by == "central"]
        requests = [request_for(questions[i], routes[i], device_id=device.device_id, release_id=release_id) for i in asked]
        outcomes = self._central.answer_many(requests, device.timeout_s) if requests else []
        return requests, dict(zip(asked, outcomes, strict=True))

    def _draws(self, questions: Sequence[Question], active: Active | None) -> dict[bytes, bool]:
        """The coin of each distinct query as it falls today; it counts only for those that were never seen."""
        rate = active.statement.probe_rate if active and active.statement else probe_rate(0, threshold_published=False)
        draws: dict[bytes, bool] = {}
        for question in questions:
            if question.content_hash not in draws:
                allowed = not stays_in(question, self.device.policy)
                draws[question.content_hash] = allowed and is_probe(question.content_hash, self.device.probe_key, rate)
        return draws

    def _charge_download(self, size_bytes: int) -> None:
        if size_bytes:
            self._charge(self.device.meter.transfer({Kind.DOWNLINK_RELEASES: size_bytes}, at=self.device.clock()))

    def _charge(self, rows: Sequence[LedgerEntry]) -> None:
        """Book what was used up; where the disk takes nothing, once it does again."""
        try:
            self.store.ledger.append(rows)
        except StoreUnwritableError:
            self._arrears.owe(rows)


@dataclass(frozen=True, slots=True)
class _Done:
    """A batch at its end. ``rows``: what it cost, its inference first; ``queued``: content hashes that stand on disk."""

    settled: Sequence[Settled]
    rows: Sequence[LedgerEntry]
    queued: set[bytes]
    is_recorded: bool = True


def _questions(
    first: int, queries: Sequence[Query], views: Sequence[Opinion], topics: Sequence[str | None] | None
) -> list[Question]:
    """The queries as they came in, numbered from ``first`` on; all 0 where nothing is recorded."""
    return [
        Question(first + i if first else 0, content_hash(query), query, topics[i] if topics else None, views[i])
        for i, query in enumerate(queries)
    ]


def _settled(
    questions: Sequence[Question],
    fates: Mapping[bytes, bool],
    routes: Sequence[Route],
    outcomes: Mapping[int, Outcome],
) -> list[Settled]:
    """The end of each question."""
    return [
        settle(question, fates[question.content_hash], routes[i], outcomes.get(i)) for i, question in enumerate(questions)
    ]
