"""One batch of queries on its way: opinion, fate, route, and what central said. Values and pure functions.

Nothing here stores or sends: `edge_client.inference.pipeline` does, once for the whole batch.

What a caller gets for a query: the answer, who gave it, why, how sure, under which release, at what cost and how fast.

What the device itself thinks of queries, before anyone decides who answers: a label and a calibrated confidence each.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_client.inference.escalation import EscalationFailed
from edge_client.releases.inference import LoadedRelease
from edge_client.releases.manager import Active
from edge_client.store import LabelledQuery, LoggedAnswer, OpenQuestion, Probe
from fedge.errors import FedgeError
from fedge.features import Query
from fedge.routing import Mode, Policy, Reason, Route, Rule, confidence, route, softmax
from fedge.wire import answer_request
from protos.fedge.central.v1.central_pb2 import (
    PURPOSE_ESCALATION,
    PURPOSE_FORCED,
    PURPOSE_PROBE,
    AnswerRequest,
    AnswerResponse,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. ``answer_id`` names it for a correction.

    ``answer`` is None where nobody could answer: no release on this device yet, and central out of reach or out of bounds.
    ``answered_by``: "device", "central", "upstream" or "human" (``answer`` is then the device's suggestion to that person).
    ``degraded``: the device would rather have asked. ``probe``: central's answer serves calibration only. ``usd``: what this
    answer cost, electricity included. ``latency_ms``: measured, or the profile's figure for the device's part (simulation).
    ``queued``: central will be asked later, as the caller wished; this stands on disk. ``recorded``: the answer is in the
    device's store; False where the disk took nothing, and then ``answer_id`` is 0 and the answer cannot be corrected.
    """

    answer_id: int
    answer: str | None
    answered_by: str
    reason: str
    confidence: float
    usd: float
    release: str | None
    latency_ms: float
    degraded: bool
    probe: bool
    queued: bool = False
    recorded: bool = True

    def to_mapping(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Opinion:
    """The device's own answer and how sure it is; without a release there is no label, and no confidence."""

    label: str | None
    confidence: float


class ModelFailed(FedgeError):  # noqa: N818 - an event that the watch counts
    """A model gave what is no number."""


def opinions(loaded: LoadedRelease | None, queries: Sequence[Query]) -> list[Opinion]:
    """One opinion a query. Raises InputError for a query that the release's features refuse, ModelFailed."""
    if loaded is None:
        return [Opinion(None, 0.0)] * len(queries)
    manifest = loaded.release.manifest
    logits = loaded.session.predict(queries).logits
    if not np.isfinite(logits).all():
        raise ModelFailed("the model gave a logit that is no finite number")
    sure = confidence(softmax(logits, manifest.temperature), manifest.confidence)
    return [Opinion(manifest.labels[i], float(c)) for i, c in zip(logits.argmax(axis=1), sure, strict=True)]


REFUSED = "refused"
"""Reason of a local answer where central was reached and would not answer this query."""

NOT_STORED = "not_stored"
"""Reason of a local answer where central is not asked, since the disk takes nothing and the price could not be booked."""

_KEPT_IN = (Rule.NEVER_ESCALATE, Rule.HUMAN)
_OPEN_TO_QUEUE = (Reason.OFFLINE, Reason.OVER_BUDGET, Reason.RATE_LIMITED)
_FORCED = (Reason.FORCED_CENTRAL, Reason.POLICY_ALWAYS_CENTRAL)


@dataclass(frozen=True, slots=True)
class Question:
    """A query as it came in."""

    number: int
    content_hash: bytes
    query: Query
    topic: str | None
    opinion: Opinion

    @property
    def idempotency_key(self) -> str:
        """Names this question to central. The content is in it: after a power cut a number may name another question."""
        return f"{self.number}-{self.content_hash[:8].hex()}"


@dataclass(frozen=True, slots=True)
class Settled:
    """A question with who answered it. ``drawn``: its fate is to be a probe, so nothing may ever train on it."""

    question: Question
    drawn: bool
    route: Route
    response: AnswerResponse | None
    reason: str
    degraded: bool

    @property
    def answer(self) -> str | None:
        """The answer that the caller gets."""
        return self.response.label if self.response is not None else self.question.opinion.label

    @property
    def answered_by(self) -> str:
        """Who gave it."""
        if self.response is not None:
            return self.response.answered_by
        return "human" if self.route.answered_by == "human" else "device"


def stays_in(question: Question, policy: Policy) -> bool:
    """Policy forbids that this query leaves: it is never drawn as a probe.

    Without a release there is no predicted label to look up, so a policy that keeps any label in keeps everything in.
    """
    if question.opinion.label is None and any(rule in _KEPT_IN for rule in policy.label_rules.values()):
        return True
    return policy.rule(question.opinion.label or "", question.topic) in _KEPT_IN


def routed(
    question: Question,
    active: Active | None,
    *,
    policy: Policy,
    mode: Mode,
    drawn: bool,
    online: bool,
    within_budget: bool,
    within_rate: bool,
    price_usd: float,
    now: float,
) -> Route:
    """Who is to answer, by `fedge.routing.route`; a device without a release has an empty label and no threshold."""
    if question.opinion.label is None and stays_in(question, policy):
        return Route("device", Reason.POLICY_NEVER_ESCALATE, degraded=True)
    return route(
        label=question.opinion.label or "",
        confidence=question.opinion.confidence,
        threshold=active.threshold(now) if active else None,
        policy=policy,
        topic=question.topic,
        mode=mode,
        is_probe=drawn,
        online=online,
        central_price_usd=price_usd,
        oos_label=active.loaded.release.manifest.oos_label if active else None,
        within_budget=within_budget,
        within_rate=within_rate,
    )


def request_for(question: Question, decided: Route, *, device_id: str, release_id: str) -> AnswerRequest:
    """The question to central."""
    purpose = PURPOSE_PROBE if decided.probe else PURPOSE_FORCED if decided.reason in _FORCED else PURPOSE_ESCALATION
    return answer_request(
        idempotency_key=question.idempotency_key,
        device_id=device_id,
        query=question.query,
        release_id=release_id,
        purpose=purpose,
    )


def settle(question: Question, drawn: bool, decided: Route, outcome: AnswerResponse | EscalationFailed | None) -> Settled:
    """The end of a question. Where central failed, the device's own answer stands, marked degraded."""
    if isinstance(outcome, EscalationFailed):
        reason = Reason.OFFLINE if outcome.may_succeed_later else REFUSED
        return Settled(question, drawn, decided, None, reason, degraded=True)
    degraded = decided.degraded or (outcome is None and question.opinion.label is None)
    return Settled(question, drawn, decided, outcome, decided.reason, degraded)


def labelled(settled: Settled, now: float) -> LabelledQuery | None:
    """What the device may learn from it: central's answer to anything but a probe."""
    response = settled.response
    if response is None or settled.drawn:
        return None
    return labelled_by(response, settled.question.content_hash, settled.question.query, now)


def labelled_by(response: AnswerResponse, content_hash: bytes, query: Query, now: float) -> LabelledQuery:
    """A query with central's label."""
    return LabelledQuery(
        content_hash=content_hash,
        query=query,
        label=response.label,
        source="upstream" if response.answered_by == "upstream" else "central",
        at=now,
        distribution=np.array(response.distribution, dtype=np.float32) if response.distribution else None,
    )


def probe_of(settled: Settled, active: Active | None, now: float) -> Probe | None:
    """The record of a probe that central answered."""
    question, response = settled.question, settled.response
    if response is None or not settled.route.probe:
        return None
    return Probe(
        content_hash=question.content_hash,
        query=question.query,
        central_label=response.label,
        predicted_label=question.opinion.label or "",
        confidence=question.opinion.confidence,
        release_id=active.loaded.release_id if active else "",
        publication=active.publication if active else 0,
        would_stay_local=settled.route.counted,
        at=now,
    )


def open_question(settled: Settled, release_id: str, now: float, *, queue: bool = False) -> OpenQuestion | None:
    """A question to put to central later, where it should have been answered there: for its label, or for the caller who
    had it queued.
    """
    question = settled.question
    acknowledged = queue and settled.reason in _OPEN_TO_QUEUE
    if not acknowledged and (settled.reason != Reason.OFFLINE or settled.drawn):
        return None
    return OpenQuestion(
        question.content_hash,
        question.query,
        question.idempotency_key,
        release_id,
        now,
        learn=not settled.drawn,
        acknowledged=acknowledged,
    )


def logged(settled: Settled, now: float) -> LoggedAnswer:
    """The line in the answer log."""
    question = settled.question
    return LoggedAnswer(
        content_hash=question.content_hash,
        query=question.query,
        answer=settled.answer,
        answered_by=settled.answered_by,
        probe=settled.drawn,
        at=now,
    )
