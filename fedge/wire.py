"""Turning queries into messages and back, the same way on both ends of the fallback service.

What a message says is checked here for form (one query, numbers from 0 to 1); what it means (which labels, how many pixels)
is the service's business. Nothing here opens a connection.
"""

import ipaddress

import numpy as np

from fedge.errors import InputError
from fedge.features import Query
from fedge.features.query import checked_pixels
from fedge.identity import check_device_id
from protos.fedge.central.v1 import central_pb2

__all__ = [
    "RELAY_CHUNK_BYTES",
    "RETRY_LATER",
    "answer_request",
    "check_idempotency_key",
    "is_loopback",
    "query_from_proto",
    "query_to_proto",
]

MAX_KEY_LENGTH = 128
RETRY_LATER = "fedge-retry-later"
"""Trailing metadata of a RESOURCE_EXHAUSTED that passes with time: without it, the same call would be refused again."""
RELAY_CHUNK_BYTES = 64 * 1024
"""What one message of the relay carries at most; larger bodies travel in pieces of this size."""

_FLOAT32_LE = np.dtype("<f4")


def query_to_proto(query: Query) -> central_pb2.Query:
    """A text as it is, or a pixel vector float [d] as little-endian float32. Raises InputError for anything else."""
    if isinstance(query, str):
        try:
            query.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"the query {query[:40]!a} is no valid Unicode: remove the lone surrogates") from error
        return central_pb2.Query(text=query)
    values = checked_pixels(query)
    if values.ndim != 1 or not len(values):
        raise InputError(f"a pixel query must be one row of pixels, not an array of shape {values.shape}: flatten it")
    return central_pb2.Query(pixels=values.astype(_FLOAT32_LE).tobytes())


def query_from_proto(message: central_pb2.Query) -> Query:
    """The text, or the pixel vector float32 [d] in native byte order. Raises InputError when it is empty or malformed."""
    form = message.WhichOneof("form")
    if form == "text":
        if not message.text.strip():
            raise InputError("the query text is empty: send at least one character that is not white space")
        return message.text
    if form == "pixels":
        size_bytes = len(message.pixels)
        if size_bytes == 0 or size_bytes % _FLOAT32_LE.itemsize:
            raise InputError(f"a pixel query of {size_bytes} bytes is not a row of float32 values: send 4 bytes a pixel")
        return checked_pixels(np.frombuffer(message.pixels, dtype=_FLOAT32_LE).astype(np.float32))
    raise InputError("the query is missing: set either text or pixels")


def answer_request(
    *, idempotency_key: str, device_id: str, query: Query, release_id: str, purpose: central_pb2.Purpose
) -> central_pb2.AnswerRequest:
    """The request for one query. Keep the idempotency key across retries of the same question, and use it for no other."""
    check_idempotency_key(idempotency_key)
    check_device_id(device_id)
    return central_pb2.AnswerRequest(
        idempotency_key=idempotency_key,
        device_id=device_id,
        query=query_to_proto(query),
        release_id=release_id,
        purpose=purpose,
    )


def check_idempotency_key(value: str) -> None:
    """Accepts 1 to 128 printable ASCII characters; raises InputError otherwise."""
    if not 0 < len(value) <= MAX_KEY_LENGTH:
        raise InputError(f"idempotency_key has {len(value)} characters: use 1 to {MAX_KEY_LENGTH}")
    if not (value.isascii() and value.isprintable()):
        raise InputError(f"idempotency_key {value[:40]!a} holds a character that is not printable ASCII")


def is_loopback(address: str) -> bool:
    """Whether the gRPC address (`host:port` or `unix:path`) cannot leave this machine. A name other than localhost can."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
