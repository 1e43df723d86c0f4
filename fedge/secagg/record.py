"""Step 6: the signed record of a session that gave a sum, for the round log: what the aggregator claims, no more."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedge.secagg import keys
from fedge.secagg.codec import Vector
from fedge.secagg.session import Session
from fedge.secagg.wire import parse, vector_hash
from protos.fedge.secagg.v1 import secagg_pb2 as pb


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session gave: the sum [m] of the survivors' vectors, who they are, the signed record, and what the survivors'
    seeds contribute to the beacon (32 bytes).
    """

    total: Vector
    survivors: tuple[str, ...]
    record: bytes
    contribution: bytes


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A record as read. ``session_id`` is the SHA-256 of the descriptor, ``result_blake2b`` the hash of the sum's bytes."""

    suite: str
    session_id: bytes
    run: str
    round: int
    attempt: int
    survivors: int
    result_blake2b: bytes


def sign_record(session: Session, total: Vector, survivors: int, round_key: Ed25519PrivateKey) -> bytes:
    """The serialized, signed Record of a session and its sum."""
    body = pb.Record(
        suite=session.descriptor.suite,
        session_id=session.session_id,
        run=session.descriptor.run,
        round=session.descriptor.round,
        attempt=session.descriptor.attempt,
        survivors=survivors,
        result_blake2b=vector_hash(total),
    ).SerializeToString()
    return pb.Signed(body=body, signature=keys.sign(round_key, "record", body)).SerializeToString()


def read_record(data: bytes, round_key: Ed25519PublicKey) -> RoundRecord:
    """Raises MessageError unless the round key signed this record."""
    signed = parse(pb.Signed, data)
    keys.verify(round_key, "record", signed.body, signed.signature)
    record = parse(pb.Record, signed.body)
    return RoundRecord(
        record.suite,
        record.session_id,
        record.run,
        record.round,
        record.attempt,
        record.survivors,
        record.result_blake2b,
    )
