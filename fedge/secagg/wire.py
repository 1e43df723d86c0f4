"""Bytes to messages and back. A message is refused by its length before it is parsed; vectors are raw little-endian bytes.

The limits are generous for a cohort of 128 and are there to bound work, not to fit.
"""

import hashlib
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from fedge.secagg.codec import Vector, dtype_of
from fedge.secagg.config import SessionConfig
from fedge.secagg.errors import MessageError
from protos.fedge.secagg.v1 import secagg_pb2 as pb

BUNDLE_LIMIT = 8 << 10
LIMITS: dict[type[Message], int] = {
    pb.SignedBundle: BUNDLE_LIMIT,
    pb.Bundle: BUNDLE_LIMIT,
    pb.PlainBundle: BUNDLE_LIMIT,
    pb.Roster: 2 << 20,
    pb.Descriptor: 64 << 10,
    pb.ShareReply: 128 << 10,
    pb.Dealing: 16 << 10,
    pb.ShareDelivery: 2 << 20,
    pb.MaskedReply: 64 << 10,
    pb.MaskedVector: 1 << 10,
    pb.Complaint: 16 << 10,
    pb.ConsistencyRequest: 2 << 10,
    pb.Consistency: 2 << 10,
    pb.ConsistencyReply: 4 << 10,
    pb.UnmaskRequest: 32 << 10,
    pb.UnmaskReply: 32 << 10,
    pb.PlainStep: 2 << 10,
    pb.Signed: 4 << 10,
    pb.Record: 2 << 10,
}
ID_LIMIT = 128

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """The message in ``data``. Raises MessageError where it is too long or not a message of this kind."""
    if len(data) > LIMITS[kind]:
        raise MessageError(f"{kind.__name__}: {len(data)} bytes, more than the limit of {LIMITS[kind]}")
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise MessageError(f"{kind.__name__}: the {len(data)} bytes are not such a message") from None
    return message


def check_size(name: str, value: bytes, size: int) -> bytes:
    """``value``, which must be ``size`` bytes long. Raises MessageError."""
    if len(value) != size:
        raise MessageError(f"{name} has {len(value)} bytes, expected {size}")
    return value


def check_id(name: str, value: str) -> str:
    """``value``, which must be 1 to 128 bytes of UTF-8. Raises MessageError."""
    if not 1 <= len(value.encode()) <= ID_LIMIT:
        raise MessageError(f"{name} has {len(value.encode())} bytes, expected 1 to {ID_LIMIT}")
    return value


def check_positions(name: str, values: Any, n: int) -> tuple[int, ...]:
    """A set of roster positions: strictly ascending, in 1..n. Raises MessageError."""
    positions = tuple(values)
    if any(high <= low for low, high in zip((0, *positions), (*positions, n + 1), strict=True)):
        raise MessageError(f"{name} is not an ascending set of positions in 1..{n}: {positions}")
    return positions


def vector_from(data: bytes | NDArray[Any] | None, config: SessionConfig) -> Vector:
    """A vector [length] as it came, raw bytes or array. Raises MessageError for any other size or type."""
    expected = dtype_of(config)
    if data is None:
        raise MessageError("the vector is missing")
    if isinstance(data, np.ndarray):
        if data.dtype != expected or data.shape != (config.length,):
            raise MessageError(f"the vector is {data.dtype} {data.shape}, expected {expected} [{config.length}]")
        return np.ascontiguousarray(data)
    check_size("the vector", data, config.vector_bytes)
    return np.frombuffer(data, dtype=expected)


def vector_hash(vector: Vector) -> bytes:
    """BLAKE2b-256 of a vector's bytes."""
    return hashlib.blake2b(np.ascontiguousarray(vector).data, digest_size=32).digest()


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the parts, one after another."""
    return hashlib.sha256(b"".join(parts)).digest()
