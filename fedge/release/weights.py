"""Trainable weights as named float32 arrays, as one flat vector, as bytes, and as hashes.

The file format is safetensors: 8 bytes of header length, a JSON header, raw little-endian data. Only what a release needs of
it is read (float32, no metadata, no gaps), under strict caps, so that a device needs no package for it. Never pickle.
"""

import hashlib
import json
import math
import re
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fedge.errors import InputError, VerificationError
from fedge.release.canonical import require_keys, to_canonical

Weights = dict[str, NDArray[np.float32]]

MAX_WEIGHTS_BYTES = 256 * 2**20
MAX_HEADER_BYTES = 2**20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,127}")


def flatten(weights: Weights) -> NDArray[np.float32]:
    """All values as one float32 vector [m], the tensors in the order of their sorted names."""
    if not weights:
        return np.zeros(0, dtype=np.float32)
    return np.concatenate([np.ascontiguousarray(weights[name], dtype=np.float32).ravel() for name in sorted(weights)])


def unflatten(vector: NDArray[np.float32], like: Weights) -> Weights:
    """The inverse of ``flatten``: names and shapes of ``like``, values of ``vector`` [m] (copied). Raises InputError."""
    size = sum(array.size for array in like.values())
    if vector.shape != (size,):
        raise InputError(f"a vector of shape {vector.shape} does not fill weights of {size} values")
    weights: Weights = {}
    start = 0
    for name in sorted(like):
        stop = start + like[name].size
        weights[name] = vector[start:stop].reshape(like[name].shape).astype(np.float32, copy=True)
        start = stop
    return weights


def structure_sha256(weights: Weights) -> str:
    """Hex SHA-256 of names and shapes alone: equal for every round's weights of one architecture."""
    return hashlib.sha256(_structure(weights)).hexdigest()


def weights_sha256(weights: Weights) -> str:
    """Hex SHA-256 of names, shapes and values (little-endian float32), whatever the order of the dictionary."""
    structure = _structure(weights)
    digest = hashlib.sha256(len(structure).to_bytes(8, "little") + structure)
    digest.update(flatten(weights).astype("<f4").tobytes())
    return digest.hexdigest()


def write_safetensors(weights: Weights) -> bytes:
    """The safetensors file of ``weights``; one set of weights has one encoding. Raises InputError for unusable weights."""
    header: dict[str, Any] = {}
    start = 0
    for name in sorted(weights):
        array = weights[name]
        if array.dtype != np.float32:
            raise InputError(f"tensor {name!r} is {array.dtype}, weights are float32")
        if not np.isfinite(array).all():
            raise InputError(f"tensor {name!r} holds values that are not finite")
        if not _NAME.fullmatch(name):
            raise InputError(f"tensor name {name!r}: use up to 128 of A-Z a-z 0-9 _ . / : -")
        stop = start + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = len(text).to_bytes(8, "little") + text + flatten(weights).astype("<f4").tobytes()
    if len(data) > MAX_WEIGHTS_BYTES or len(text) > MAX_HEADER_BYTES or len(weights) > MAX_TENSORS:
        raise InputError(f"weights of {len(data)} bytes in {len(weights)} tensors are more than a release may hold")
    return data


def read_safetensors(data: bytes) -> Weights:
    """The weights in a safetensors file of float32 tensors. Raises VerificationError for anything else."""
    header, body = _split(data)
    weights: Weights = {}
    end = 0
    entries = sorted((_entry(name, entry) for name, entry in header.items()), key=_by_position)
    for name, shape, start in entries:
        stop = start + 4 * math.prod(shape)
        if start != end or stop > len(body):
            raise VerificationError(f"weights: tensor {name!r} leaves a gap, overlaps or runs past the end")
        array = np.frombuffer(body[start:stop], dtype="<f4").astype(np.float32).reshape(shape)
        if not np.isfinite(array).all():
            raise VerificationError(f"weights: tensor {name!r} holds values that are not finite")
        weights[name] = array
        end = stop
    if end != len(body):
        raise VerificationError(f"weights: {len(body) - end} bytes after the last tensor")
    return weights


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    if not 8 <= len(data) <= MAX_WEIGHTS_BYTES:
        raise VerificationError(f"weights: {len(data)} bytes, expected 8 to {MAX_WEIGHTS_BYTES}")
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise VerificationError(f"weights: a header of {length} bytes does not fit")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"weights: header is not JSON: {str(error)[:200]}") from None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise VerificationError(f"weights: header is not an object of at most {MAX_TENSORS} tensors")
    return cast(dict[str, Any], header), memoryview(data)[8 + length :]


def _entry(name: str, entry: object) -> tuple[str, tuple[int, ...], int]:
    if not _NAME.fullmatch(name) or not isinstance(entry, dict):
        raise VerificationError(f"weights: {name[:140]!r} is not a tensor entry")
    what = f"weights: tensor {name!r}"
    require_keys(entry, ("dtype", "shape", "data_offsets"), what=what)
    shape, offsets = entry["shape"], entry["data_offsets"]
    if entry["dtype"] != "F32":
        raise VerificationError(f"{what}: only float32 is accepted")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS or not _naturals(offsets) or len(offsets) != 2:
        raise VerificationError(f"{what}: shape or offsets are not lists of sizes")
    if offsets[1] - offsets[0] != 4 * math.prod(shape):
        raise VerificationError(f"{what}: offsets {offsets} do not span shape {shape}")
    return name, tuple(shape), offsets[0]


def _by_position(entry: tuple[str, tuple[int, ...], int]) -> tuple[int, int, str]:
    name, shape, start = entry
    return start, math.prod(shape), name  # an empty tensor comes before the one that starts where it does


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_WEIGHTS_BYTES for item in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _structure(weights: Weights) -> bytes:
    return to_canonical([[name, list(weights[name].shape)] for name in sorted(weights)])
