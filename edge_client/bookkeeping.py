"""What a batch of answered queries leaves behind: labels, probes, open questions, the log, counters and ledger rows.

All of it in one transaction. Never decides and never sends.
"""

from collections import Counter
from collections.abc import Sequence

from edge_client.asking import Settled, labelled, logged, open_question, probe_of
from edge_client.energy import EnergyMeter
from edge_client.releases import Active
from edge_client.store import DeviceStore
from fedge.costs import Kind, LedgerEntry
from protos.fedge.central.v1.central_pb2 import AnswerRequest, AnswerResponse


def write_batch(
    store: DeviceStore, settled: Sequence[Settled], active: Active | None, rows: Sequence[LedgerEntry], *, now: float
) -> None:
    """Store everything that comes of a batch."""
    release_id = active.loaded.release_id if active else ""
    examples = [example for done in settled if (example := labelled(done, now))]
    probes = [probe for done in settled if (probe := probe_of(done, active, now))]
    waiting = [question for done in settled if (question := open_question(done, release_id, now))]
    counts = Counter(f"answered.{done.answered_by}.{done.reason}" for done in settled)
    counts["degraded"] = sum(done.degraded for done in settled)
    with store.transaction():
        store.memory.add(examples)
        store.probes.record(probes)
        store.outbox.add(waiting)
        store.answers.append(settled[0].question.number, [logged(done, now) for done in settled])
        store.ledger.append(rows)
        store.count(counts)


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
