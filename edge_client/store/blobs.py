"""Queries and probability vectors as database values: one tag byte, then UTF-8 text or little-endian float32."""

import numpy as np
from numpy.typing import NDArray

from fedge.errors import VerificationError
from fedge.features import Query

_TEXT, _PIXELS = b"t", b"p"


def query_to_blob(query: Query) -> bytes:
    """``query`` as bytes that `query_from_blob` gives back unchanged."""
    if isinstance(query, str):
        return _TEXT + query.encode()
    return _PIXELS + np.ascontiguousarray(query, dtype="<f4").tobytes()


def query_from_blob(blob: bytes) -> Query:
    """The query that `query_to_blob` stored. Raises VerificationError for anything else."""
    tag, body = blob[:1], blob[1:]
    if tag == _TEXT:
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise VerificationError("the device database holds a text that is not UTF-8: the file is damaged") from None
    if tag == _PIXELS:
        return _floats(body)
    raise VerificationError(f"the device database holds a query of unknown form {tag!r}: the file is damaged")


def vector_to_blob(vector: NDArray[np.float32] | None) -> bytes | None:
    """A float32 vector as bytes; None stays None."""
    return None if vector is None else np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_from_blob(blob: bytes | None) -> NDArray[np.float32] | None:
    """The vector that `vector_to_blob` stored. Raises VerificationError for bytes that are none."""
    return None if blob is None else _floats(blob)


def _floats(data: bytes) -> NDArray[np.float32]:
    if len(data) % 4:
        raise VerificationError(f"the device database holds a vector of {len(data)} bytes: the file is damaged")
    return np.frombuffer(data, dtype="<f4")
