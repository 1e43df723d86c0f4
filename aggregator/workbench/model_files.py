"""The device model's ONNX files between rounds: put another head in, run them, compare them. onnx and onnxruntime alone.

Every round exchanges the head's tensors in a file and leaves all else as it is, so the embedding that devices have
remembered stays the one that the next release gives. Never sees torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from fedge.architectures import HEAD_BIAS, HEAD_WEIGHT
from fedge.errors import InputError
from fedge.release import Weights
from fedge.routing.confidence import softmax

EMBEDDING, LOGITS = "embedding", "logits"
FACTOR_LIMIT = 63
"""Largest integer in a quantized factor of a product: 7 bits (see `quantize`)."""

TIE = 0.001
"""Probabilities less than this apart are no decision. On home, after a dozen queries in all, labels that int8 and float32
gave differently lay less than 0.0001 apart; in a trained model next to no row is a tie."""

Inputs = Mapping[str, NDArray[Any]]
_ROWS_A_RUN = 256


def with_head(infer: bytes, head: Weights) -> bytes:
    """``infer.onnx``, fp32 or int8, with another head: ``head.weight`` [D, C] and ``head.bias`` [C].

    Raises InputError for other tensors or shapes, or for values that are not finite.
    """
    model = onnx.load_from_string(infer)
    present = {tensor.name: tensor for tensor in model.graph.initializer}
    if set(head) != {HEAD_WEIGHT, HEAD_BIAS} or not all(np.isfinite(array).all() for array in head.values()):
        raise InputError(f"a head is finite {HEAD_WEIGHT} and {HEAD_BIAS}: {sorted(head)} cannot be exported")
    values: dict[str, NDArray[Any]] = {HEAD_BIAS: head[HEAD_BIAS].astype(np.float32)}
    if HEAD_WEIGHT in present:
        values[HEAD_WEIGHT] = head[HEAD_WEIGHT].astype(np.float32)
    else:
        values[f"{HEAD_WEIGHT}.int8"], values[f"{HEAD_WEIGHT}.scale"] = int8_columns(head[HEAD_WEIGHT])
    for name, array in values.items():
        if name not in present or tuple(present[name].dims) != array.shape:
            raise InputError(f"the model has no tensor {name!r} of shape {array.shape}: it was made for another head")
        present[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return model.SerializeToString(deterministic=True)


def int8_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers int8 [inputs, outputs] within FACTOR_LIMIT and a scale float32 [outputs]: their product is about ``weight``.

    A column of zeros, or of numbers so small that the scale underflows, has scale 1: a head that knows nothing is fine.
    """
    scale = np.abs(weight).max(axis=0).astype(np.float32) / np.float32(FACTOR_LIMIT)
    scale = np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1.0)).astype(np.float32)
    return np.clip(np.rint(weight / scale), -FACTOR_LIMIT, FACTOR_LIMIT).astype(np.int8), scale


def agreement(int8: bytes, fp32: bytes, inputs: Inputs) -> float:
    """The share of rows to which the int8 model gives a label that its fp32 twin gives too, or could as well have given.

    A head that has seen three intents of thirty is undecided between the rest: which of them float32 answers is noise, and
    another rounding answers another. A row is such a tie where the twin's probabilities of the two labels lie less than TIE
    apart. Raises InputError without rows.
    """
    return agreement_of(answers(int8, inputs), fp32, inputs)


def answers(model: bytes, inputs: Inputs) -> NDArray[np.int64]:
    """Return the model's label for each row, int64 [n]. Raises InputError without rows."""
    labels: NDArray[np.int64] = run_model(model, inputs, [LOGITS])[LOGITS].argmax(axis=1).astype(np.int64)
    return labels


def agreement_of(answered: NDArray[np.int64], fp32: bytes, inputs: Inputs) -> float:
    """Return `agreement` for the labels that the int8 model gave."""
    likely = softmax(run_model(fp32, inputs, [LOGITS])[LOGITS])
    lost = likely.max(axis=1) - likely[np.arange(len(likely)), answered]
    return float(np.mean(lost < TIE))


def run_model(model: bytes, inputs: Inputs, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """``outputs`` by name for all rows of ``inputs``, on one thread. Raises InputError without rows."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # what it warns of is what it folds away
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = min((len(array) for array in inputs.values()), default=0)
    if rows == 0:
        raise InputError("the model was given no rows to run on: it needs at least one query")
    parts = [
        session.run(list(outputs), {name: array[start : start + _ROWS_A_RUN] for name, array in inputs.items()})
        for start in range(0, rows, _ROWS_A_RUN)
    ]
    return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(outputs)}
