"""Range proofs in a session: what its devices prove about their integers, and where proof and sum are checked.

The task says whether a session has proofs. What they are about follows from the task and the layout of the integers, which
both ends know (`fedge.layouts.CountsLayout.claim`), so the claim is an argument of the roles and never travels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError
from fedge.secagg import keys, range_proof
from fedge.secagg.codec import Vector, decode
from fedge.secagg.config import SessionConfig
from fedge.secagg.errors import CodecError, MessageError, RefusedError
from fedge.secagg.session import Session, Task
from fedge.secagg.wire import sha256

PROOF_LIMIT = 63 << 10
"""Bytes of a proof: with signature and vector's hash it has to fit into a MaskedReply."""


@dataclass(frozen=True, slots=True)
class RangeClaim:
    """What each device of a session proves: ``statement``, about the values that its integers give.

    ``values(integers, devices)`` turns the sum of the integers of ``devices`` devices, int64 [integers], into the sum of
    their values: affine, with one constant for each device, and one to one, so that the values' ranges bound the integers.
    Raises InputError for a proof that no reply has room for.
    """

    statement: range_proof.Statement
    values: Callable[[NDArray[np.int64], int], list[int]]

    def __post_init__(self) -> None:
        size = self.statement.proof_bytes
        if size > PROOF_LIMIT:
            raise InputError(f"a range proof would take {size} bytes, at most {PROOF_LIMIT} fit: lower the probe cap")

    def values_of(self, vector: Vector, config: SessionConfig) -> list[int]:
        """Return the values of one device's unmasked ``vector``, whose tripwire no claim is about."""
        counted = vector.copy()
        counted[-1] = 1
        return self.values(decode(counted, 1, config).integers, 1)

    def check(self, vector: Vector, config: SessionConfig) -> None:
        """Raise MessageError unless what one device's unmasked ``vector`` holds can be proved."""
        limits = (*self.statement.limits, *(total.limit for total in self.statement.totals))
        try:
            values = self.statement.extend(self.values_of(vector, config))
        except CodecError:  # below 0, which in the ring is more than anybody can count
            values = [-1]
        if any(not 0 <= value <= limit for value, limit in zip(values, limits, strict=False)):
            raise MessageError("a count lies outside its range")


def require_claim(task: Task, claim: RangeClaim | None) -> RangeClaim | None:
    """Return the claim of a session with range proofs and None for one without. Raises RefusedError where it is missing."""
    if not task.range_proofs:
        return None
    if claim is None:
        raise RefusedError("the task asks for range proofs, and this end was not told what they claim")
    return claim


def prove_vector(
    claim: RangeClaim,
    session: Session,
    position: int,
    sharers: Sequence[int],
    vector: Vector,
    *,
    added: Sequence[bytes],
    subtracted: Sequence[bytes],
    dealing_seed: bytes,
) -> bytes:
    """Return a device's commitment to the integers of its unmasked ``vector`` with the proof of ``claim``.

    ``added`` and ``subtracted`` are the keys of the vector's masks. Raises CodecError for a vector that the claim excludes.
    """
    return range_proof.prove(
        claim.statement,
        claim.values_of(vector, session.config),
        blinding=range_proof.derive_blinding(added=added, subtracted=subtracted),
        context=_context(session, position, sharers),
        entropy=keys.derive(dealing_seed, session_id=session.session_id, label=keys.prefixed(b"range proof")),
    )


def verify_proof(
    claim: RangeClaim | None, session: Session, position: int, sharers: Sequence[int], *, proof: bytes, digest: bytes
) -> bytes:
    """Return the commitment of a reply's range proof, whose hash the device signed; b"" in a session without proofs.

    Raises MessageError for a proof that does not hold, that another device or session made, or that nobody asked for.
    """
    if claim is None:
        if proof or digest:
            raise MessageError("a range proof came in a session without")
        return b""
    if digest != sha256(proof):
        raise MessageError("the range proof is not the one that was signed")
    return range_proof.verify(claim.statement, proof, context=_context(session, position, sharers))


def check_committed(
    claim: RangeClaim,
    config: SessionConfig,
    total: Vector,
    commitments: Mapping[int, bytes],
    *,
    removed: Sequence[bytes],
    restored: Sequence[bytes],
) -> None:
    """Raise CodecError unless the unmasked ``total`` is the sum of what the survivors committed to.

    ``commitments`` are theirs by position; ``removed`` and ``restored`` the keys of the masks that recovery subtracted from
    the sum and added to it.
    """
    devices = len(commitments)
    range_proof.check_sum(
        claim.statement,
        list(commitments.values()),
        claim.values(decode(total, devices, config).integers, devices),
        blinding=range_proof.derive_blinding(added=removed, subtracted=restored),
    )


def _context(session: Session, position: int, sharers: Sequence[int]) -> bytes:
    """Name what a proof is for: no other session, device or set of sharers can use it."""
    return keys.prefixed(session.session_id, position.to_bytes(4, "big"), session.set_hash(sharers))
