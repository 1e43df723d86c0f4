"""A round as a line of time: its phases one after another, its sessions with how many had to answer, and its signed sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aggregator.console.figures.live import going_round
from aggregator.store import Database
from aggregator.store.views import round_document
from fedge.secagg import MessageError, read_record, threshold

# In the order in which they happen, with what an operator reads. What a round calls otherwise comes after them.
PHASES = {
    "check_in": "train and check in",
    "share_keys": "keys and shares",
    "masked_input": "masked upload",
    "consistency": "consistency",
    "unmask": "unmask",
    "publish": "evaluate and publish",
    "certificate": "certificate",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase: where it begins and how long it takes, as shares of the round's time in all phases."""

    name: str
    seconds: float
    start: float
    share: float


def bars(seconds: Mapping[str, float]) -> list[Bar]:
    """The phases of a round. A phase that several sessions went through is one bar of their summed time."""
    order = [*PHASES, *sorted(set(seconds) - set(PHASES))]
    total = sum(seconds.values())
    found: list[Bar] = []
    passed = 0.0
    for phase in order:
        if phase in seconds and total > 0:
            found.append(Bar(PHASES.get(phase, phase), seconds[phase], passed / total, seconds[phase] / total))
            passed += seconds[phase]
    return found


def needed_of(cohort: int, *, n_min: int | None) -> int:
    """How many devices of a session have to answer: the protocol's threshold, and the least sum that is taken."""
    return max(threshold(cohort) if cohort else 0, n_min or 0)


def full_round(
    database: Database, number: int, *, n_min: int | None = None, round_key: Ed25519PublicKey | None = None
) -> dict[str, Any]:
    """A round in full, with what its sessions needed and whether the round key signed their sums.

    ``signature`` is null where the key is not at hand. A round that is not recorded yet is given as far as it has come.
    Raises UnknownRoundError.
    """
    going = going_round(database, number)
    if going is not None:
        return going
    document = round_document(database, number)
    records = {record.attempt: record for record in database.records_of(number)}
    for attempt in document["attempts"]:
        attempt["needed"] = needed_of(attempt["cohort"], n_min=n_min)
        record = records.get(attempt["attempt"])
        attempt["record"] = None if record is None else _record(record.session, record.record, round_key)
    return document


def _record(session: str, record: bytes, round_key: Ed25519PublicKey | None) -> dict[str, Any]:
    if round_key is None:
        return {"session": session, "signature": None}
    try:
        read = read_record(record, round_key)
    except MessageError:
        return {"session": session, "signature": "invalid"}
    return {"session": session, "signature": "valid", "survivors": read.survivors, "result": read.result_blake2b.hex()}
