"""int8 for the device's encoder, once per device model; the head follows in every round (`model_files`).

The file is in QDQ form (QuantizeLinear and DequantizeLinear around ordinary operators), which is bit-identical between
processor architectures, so that a threshold carries over exactly. Written out instead of calling onnxruntime's quantizer,
since a round must not calibrate again: devices keep embeddings, and the encoder's numbers have to stay as they are.

Choices:
- Activations are uint8 between the smallest and the largest value seen on calibration queries, weights symmetric.
- Factors of products have one scale a column and 7 bits: x86 without VNNI adds pairs of products in 16 bits and would
  saturate on 8. Embedding tables have 8 bits and one scale.
- Biases stay fp32 and are added by Sum: onnxruntime merges an Add with its product into a Gemm that it computes in fp32,
  widening the whole factor in every run (five times slower).
- The output ``embedding`` is the dequantized one: a device trains on exactly what its head reads.

Never sees torch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from aggregator.workbench.model_files import EMBEDDING, Inputs, int8_columns, run_model
from fedge.errors import InputError

_TABLE_LIMIT = 127


def quantize_encoder(infer: bytes, calibration: Inputs) -> bytes:
    """The int8 form of an fp32 ``infer.onnx``, its activation ranges measured on the rows of ``calibration``.

    Quantized are MatMul with a constant factor and Gather from a constant table. Raises InputError without calibration rows
    or where the model gives numbers that are not finite.
    """
    model = onnx.load_from_string(infer)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    ranges = _ranges(model, sorted({node.input[0] for node in products}), calibration)
    sums = {node.output[0] for node in products}
    nodes: list[NodeProto] = []
    rounded: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in constants:
            nodes += _int8_gather(model, node, constants[node.input[0]])
            continue
        if node.op_type == "MatMul" and node.input[1] in constants:
            source, factor = node.input
            if source not in rounded:
                rounded[source] = f"{source}.near"
                nodes += _uint8_activation(model, source, *ranges[source])
            nodes.append(_int8_factor(model, factor, constants[factor]))
            node.input[:] = [rounded[source], f"{factor}.near"]
        if node.op_type == "Add" and node.input[0] in sums:
            node.op_type = "Sum"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if EMBEDDING in rounded:
        _swap_names(model, {EMBEDDING: f"{EMBEDDING}.raw", rounded[EMBEDDING]: EMBEDDING})
    return model.SerializeToString(deterministic=True)


def _ranges(model: ModelProto, names: list[str], calibration: Inputs) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each named activation, 0 always between them."""
    probe = ModelProto()
    probe.CopyFrom(model)
    fed = {value.name for value in probe.graph.input}
    told = {value.name for value in probe.graph.output}
    inner = [name for name in names if name not in fed]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in told)
    found = run_model(probe.SerializeToString(), calibration, inner)
    found |= {name: calibration[name] for name in names if name in fed}
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise InputError(f"the model's value {name!r} is not finite on the calibration queries: it cannot be quantized")
    return {name: (min(float(array.min()), 0.0), max(float(array.max()), 0.0)) for name, array in found.items()}


def _uint8_activation(model: ModelProto, source: str, low: float, high: float) -> list[NodeProto]:
    """``source`` rounded to 256 steps between ``low`` and ``high``, as ``<source>.near``."""
    scale = np.float32((high - low) / 255.0 or 1.0)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    settings = _add(model, source, {"scale": np.array(scale), "zero": np.array(zero)})
    return [
        helper.make_node("QuantizeLinear", [source, *settings], [f"{source}.uint8"]),
        helper.make_node("DequantizeLinear", [f"{source}.uint8", *settings], [f"{source}.near"]),
    ]


def _int8_factor(model: ModelProto, name: str, weight: NDArray[np.float32]) -> NodeProto:
    """The factor ``name`` [inputs, outputs] as int8 in the file, dequantized as ``<name>.near``."""
    integers, scale = int8_columns(weight)
    _remove(model, name)
    tensors = _add(model, name, {"int8": integers, "scale": scale, "zero": np.zeros(scale.shape, np.int8)})
    return helper.make_node("DequantizeLinear", tensors, [f"{name}.near"], axis=1)


def _int8_gather(model: ModelProto, node: NodeProto, table: NDArray[np.float32]) -> list[NodeProto]:
    """Rows of an int8 table, dequantized after they were picked: the table itself is never widened."""
    name, picked = node.input[0], f"{node.output[0]}.int8"
    # One scale for the whole table: onnxruntime takes twice as long with one a column, and nothing is gained.
    scale = np.float32(float(np.abs(table).max()) / _TABLE_LIMIT or 1.0)
    integers = np.clip(np.rint(table / scale), -_TABLE_LIMIT, _TABLE_LIMIT).astype(np.int8)
    _remove(model, name)
    rows, *settings = _add(model, name, {"int8": integers, "scale": np.array(scale), "zero": np.array(np.int8(0))})
    return [
        helper.make_node("Gather", [rows, node.input[1]], [picked], axis=0),
        helper.make_node("DequantizeLinear", [picked, *settings], [node.output[0]]),
    ]


def _swap_names(model: ModelProto, names: Mapping[str, str]) -> None:
    """Rename values inside the graph, all at once; the outputs keep their names and so change their source."""
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _remove(model: ModelProto, name: str) -> None:
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _add(model: ModelProto, name: str, parts: Mapping[str, NDArray[Any]]) -> list[str]:
    """Put the tensors ``<name>.<part>`` into the file and give their names."""
    for part, array in parts.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{name}.{part}"))
    return [f"{name}.{part}" for part in parts]
