"""What a batch of answered queries leaves behind: labels, probes, open questions, the log, counters and ledger rows.

All of it in one transaction. Never decides and never sends.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from edge_client.inference.escalation import EscalationFailed, Outcome
from edge_client.inference.query import Settled, labelled, labelled_by, logged, open_question, probe_of
from edge_client.power.accounting import EnergyMeter
from edge_client.releases.manager import Active
from edge_client.store import DeviceStore, OpenQuestion
from fedge.costs import Kind, LedgerEntry
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse


def nothing() -> None:
    """Nothing was set aside."""


def write_batch(
    store: DeviceStore,
    settled: Sequence[Settled],
    active: Active | None,
    rows: Sequence[LedgerEntry],
    *,
    now: float,
    queue: bool = False,
    release: Callable[[], None] = nothing,
) -> set[bytes]:
    """Store everything that comes of a batch. Returns the content hashes that are queued for a caller, for good (fsync).

    ``release`` gives back what was set aside for the questions, in the transaction that writes what they cost.
    """
    release_id = active.loaded.release_id if active else ""
    examples = [example for done in settled if (example := labelled(done, now))]
    probes = [probe for done in settled if (probe := probe_of(done, active, now))]
    waiting = [question for done in settled if (question := open_question(done, release_id, now, queue=queue))]
    counts = Counter(f"answered.{done.answered_by}.{done.reason}" for done in settled)
    if degraded := sum(done.degraded for done in settled):
        counts["degraded"] = degraded
    asked_to_queue = {question.content_hash for question in waiting if question.acknowledged}
    with store.transaction(durable=bool(asked_to_queue)):
        store.memory.add(examples)
        store.probes.record(probes)
        queued = store.outbox.add(waiting) & asked_to_queue
        numbers = [done.question for done in settled if done.question.content_hash in queued]
        store.waiting.add([(question.number, question.content_hash) for question in numbers], at=now)
        store.answers.append(settled[0].question.number, [logged(done, now) for done in settled])
        store.ledger.append(rows)
        release()
        store.count(counts)
    return queued


def write_late(
    store: DeviceStore,
    asked: Sequence[tuple[OpenQuestion, Outcome]],
    rows: Sequence[LedgerEntry],
    *,
    now: float,
    release: Callable[[], None] = nothing,
) -> int:
    """Store what came of open questions: labels, the answers that callers wait for, what it cost. Returns the answered.

    ``release`` as for `write_batch`.
    """
    answered = [(question, outcome) for question, outcome in asked if isinstance(outcome, AnswerResponse)]
    learned = [
        labelled_by(response, question.content_hash, question.query, now)
        for question, response in answered
        if question.learn
    ]
    refused = [
        question for question, outcome in asked if isinstance(outcome, EscalationFailed) and not outcome.may_succeed_later
    ]
    with store.transaction():
        store.memory.add(learned)
        for question, response in answered:
            store.waiting.settle(
                question.content_hash,
                "answered",
                at=now,
                label=response.label,
                answered_by=response.answered_by,
                price_usd=response.price_usd,
            )
        for question in refused:
            store.waiting.settle(question.content_hash, "refused", at=now)
        store.outbox.close([question.content_hash for question, _ in answered] + [q.content_hash for q in refused])
        store.ledger.append(rows)
        release()
        store.count({"caught_up": len(answered)})
    return len(answered)


def batch_rows(
    meter: EnergyMeter,
    settled: Sequence[Settled],
    requests: Sequence[AnswerRequest],
    *,
    now: float,
    inferred: float | None,
) -> list[LedgerEntry]:
    """Ledger rows of a batch; the first is the device's own work, ``inferred`` its seconds where measured."""
    rows = [meter.inference(queries=len(settled), at=now, seconds=inferred)]
    paid = [
        (Kind.PROBES if done.route.probe else Kind.ESCALATIONS, done.response)
        for done in settled
        if done.response is not None
    ]
    return [*rows, *wire_rows(meter, requests, paid, now=now)] if requests else rows


def wire_rows(
    meter: EnergyMeter,
    requests: Sequence[AnswerRequest],
    paid: Sequence[tuple[Kind, AnswerResponse]],
    *,
    now: float,
) -> list[LedgerEntry]:
    """Ledger rows of questions that were sent and answers that came back."""
    sizes = {
        Kind.UPLINK_QUERIES: sum(request.ByteSize() for request in requests),
        Kind.DOWNLINK_ANSWERS: sum(response.ByteSize() for _, response in paid),
    }
    prices = Counter((kind, response.price_usd) for kind, response in paid)
    return [*meter.transfer(sizes, at=now), *meter.paid(prices, at=now)]
