"""What a model's constants imply: runtimes compute whatever depends on constants alone already while they load a file.

A hundred bytes can so ask for gigabytes, or for hours. This bounds, without computing anything, how many nodes are folded
and how many elements they give. Shapes that a runtime infers beyond the declared ones are not seen here: a device therefore
loads an unknown model in a process with limits first (`edge_client.releases.trial`).
"""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from fedge.errors import VerificationError

MAX_FOLDED_NODES = 1_000
MAX_FOLDED_ELEMENTS = 32 * 2**20
"""All results of folded nodes together. The weights of a large quantized model are folded once: a few million."""
MAX_GROWN_ELEMENTS = 4 * 2**20
"""What results may have beyond their operands, and beyond what stands in the file, all nodes together."""
_MAX_WINDOW = 4096
_NUMBERS = 64
"""Values of a tensor of sizes that are looked at; no tensor has so many dimensions."""

Shape = tuple[int, ...] | int
"""The dimensions of a value, or the number of its elements where its form is not followed."""

_PAIRED = """
Add Sub Mul Div Pow Mod Min Max Sum Mean Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Where
"""
_BROADCAST = frozenset(_PAIRED.split())
_SINGLE = """
QuantizeLinear DequantizeLinear Neg Abs Sqrt Reciprocal Exp Log Erf Tanh Sigmoid Relu LeakyRelu Gelu HardSigmoid HardSwish
Softplus Clip Sign Floor Ceil Round Sin Cos IsNaN IsInf Not Cast CastLike Identity Softmax LogSoftmax LayerNormalization
BatchNormalization GroupNormalization InstanceNormalization RMSNormalization CumSum Trilu EyeLike
"""
_ALIKE = frozenset(_SINGLE.split())
"""Operators whose result has the form of their first operand."""
_KEPT = frozenset(["Identity", "Cast", "CastLike", "Squeeze", "Unsqueeze"])
"""Operators that keep the values of sizes."""
_WIDE = frozenset({"Einsum", "Gather", "GatherND", "Conv"})
"""Operators whose result has at most the product of their operands' elements; the rest: at most their first operand's."""
_SIZE_AT = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "OneHot": 1, "Pad": 1, "Range": 1}
"""Operators whose result can be far larger than what goes in, and the operand that says how large."""
DATA_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def check_folding(graph: Any, dtypes: dict[int, str]) -> None:
    """Check the nodes of a graph, in order. ``dtypes``: numpy's words for the element types that are accepted.

    Raises VerificationError that names the operator and what it asks for.
    """
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    numbers = {
        tensor.name: _numbers(tensor, dtypes[tensor.data_type])
        for tensor in graph.initializer
        if math.prod(tensor.dims) <= _NUMBERS
    }
    declared = {value.name: _declared(value) for value in (*graph.input, *graph.value_info)}
    folded = elements = grown = 0
    for node in graph.node:
        _check_windows(node)
        if node.op_type == "Constant":
            _constant(node, shapes, numbers, dtypes)
            continue
        if node.op_type == "Shape" and node.input and node.input[0] not in shapes:
            known = declared.get(node.input[0])
            if known is not None:  # a runtime makes a constant of it
                shapes[node.output[0]], numbers[node.output[0]] = (len(known),), [float(size) for size in known]
            continue
        given = [shapes.get(name) for name in node.input if name]
        operands = [shape for shape in given if shape is not None]
        is_folded = len(operands) == len(given)
        result = _result(node, operands if is_folded else None, shapes, numbers)
        if result is None:
            continue
        if is_folded:
            folded += 1
            elements += _count(result)
            for name in node.output:
                shapes[name] = result
        grown += max(0, _count(result) - (sum(map(_count, operands)) if is_folded else 0))
        if grown > MAX_GROWN_ELEMENTS or elements > MAX_FOLDED_ELEMENTS:
            raise VerificationError(
                f"model: {node.op_type} asks for {_count(result):.3g} elements, with the nodes before it more than "
                f"{MAX_GROWN_ELEMENTS} beyond its operands or {MAX_FOLDED_ELEMENTS} of constants"
            )
        if folded > MAX_FOLDED_NODES:
            raise VerificationError(f"model: more than {MAX_FOLDED_NODES} nodes depend on constants alone: fold them first")


def _result(
    node: Any, operands: Sequence[Shape] | None, shapes: dict[str, Shape], numbers: dict[str, list[float]]
) -> Shape | None:
    """Return at most what a node gives: of all nodes that are folded, and of those that grow to a constant size."""
    position = _SIZE_AT.get(node.op_type)
    if position is not None and len(node.input) > position and node.input[position] in shapes:
        return _grown(node, operands, numbers, position)
    if operands is None or (position is not None and len(node.input) > position):
        return None
    first = operands[0] if operands else ()
    if node.op_type in _KEPT and node.input[0] in numbers:
        numbers[node.output[0]] = numbers[node.input[0]]
    if node.op_type == "Shape" and not isinstance(first, int):
        numbers[node.output[0]] = [float(size) for size in first]
    return _form(node, operands, first)


def _form(node: Any, operands: Sequence[Shape], first: Shape) -> Shape:
    """Return at most what a node gives whose operands are all constants, and that does not grow."""
    if node.op_type in _ALIKE:
        return first
    if node.op_type in _BROADCAST:
        return _broadcast(operands)
    if node.op_type in ("MatMul", "MatMulInteger", "QLinearMatMul", "Gemm"):
        return _product(node, operands)
    if node.op_type in _WIDE:
        return math.prod(max(1, _count(shape)) for shape in operands)
    if node.op_type in ("Concat", "GatherElements", "Shape", "Size"):
        return 8 + sum(map(_count, operands))
    return _count(first)


def _grown(node: Any, operands: Sequence[Shape] | None, numbers: dict[str, list[float]], position: int) -> Shape:
    sizes = numbers.get(node.input[position])
    if sizes is None or not all(map(math.isfinite, sizes)):
        raise VerificationError(f"model: {node.op_type} asks for a size that is itself computed: fold it before publishing")
    base = _count(operands[0]) if operands and node.op_type in ("Tile", "OneHot") else 1
    if node.op_type == "Pad":
        shape = operands[0] if operands and not isinstance(operands[0], int) else ()
        pads = [abs(size) for size in sizes]
        half = len(pads) // 2
        if len(shape) == half and half:
            wide = [size + pads[axis] + pads[axis + half] for axis, size in enumerate(shape)]
            return int(math.prod(wide))
        return int(math.prod(1 + pad for pad in pads)) * (_count(operands[0]) if operands else 1)
    if node.op_type == "Range":
        ends = [numbers.get(name) for name in node.input[:3]]
        start = abs(ends[0][0]) if ends[0] else 0.0
        step = abs(ends[2][0]) if len(ends) > 2 and ends[2] else 1.0
        count = (start + abs(sizes[0] if sizes else 0.0)) / step if step else math.inf
        return int(min(count, 2.0**62)) + 1
    # A negative size is no size: counted by its amount, as a zero is as one.
    return int(min(math.prod(max(1.0, abs(size)) for size in sizes), 2.0**62)) * max(1, base)


def _count(shape: Shape) -> int:
    return shape if isinstance(shape, int) else math.prod(shape)


def _broadcast(operands: Sequence[Shape]) -> Shape:
    forms = [shape for shape in operands if not isinstance(shape, int)]
    if len(forms) < len(operands):
        return math.prod(max(1, _count(shape)) for shape in operands)
    turned = zip_longest(*(shape[::-1] for shape in forms), fillvalue=1)
    return tuple(max(sizes) if min(sizes) else 0 for sizes in turned)[::-1]


def _product(node: Any, operands: Sequence[Shape]) -> Shape:
    left = operands[0]
    right = operands[3] if node.op_type == "QLinearMatMul" and len(operands) > 3 else operands[min(1, len(operands) - 1)]
    if not isinstance(left, int) and not isinstance(right, int) and len(left) == len(right) == 2:
        turned = {attribute.name for attribute in node.attribute if attribute.i}
        return left["transA" in turned], right["transB" not in turned]
    return max(1, _count(left)) * max(1, _count(right))


def _constant(node: Any, shapes: dict[str, Shape], numbers: dict[str, list[float]], dtypes: dict[int, str]) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            shapes[node.output[0]] = tuple(attribute.t.dims)
            if math.prod(attribute.t.dims) <= _NUMBERS:
                numbers[node.output[0]] = _numbers(attribute.t, dtypes[attribute.t.data_type])
        else:
            values = [*attribute.ints, *attribute.floats] or [attribute.i or attribute.f]
            shapes[node.output[0]] = (len(values),)
            numbers[node.output[0]] = [float(value) for value in values[:_NUMBERS]]


def _declared(value: Any) -> tuple[int, ...] | None:
    """Return a value's shape where all of it is declared. Raises VerificationError for one that is too large."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if math.prod(size for size in sizes if size > 0) > MAX_FOLDED_ELEMENTS or any(size < 0 for size in sizes):
        raise VerificationError(f"model: value {value.name[:40]!r} declares the shape {sizes[:10]}")
    return tuple(sizes) if all(dim.HasField("dim_value") for dim in kind.shape.dim) else None


def _check_windows(node: Any) -> None:
    if node.op_type in ("Conv", "AveragePool", "MaxPool"):
        for attribute in node.attribute:
            if any(abs(size) > _MAX_WINDOW for size in attribute.ints):
                raise VerificationError(f"model: {node.op_type} has the {attribute.name[:40]} {list(attribute.ints)[:10]}")


def _numbers(tensor: Any, dtype: str) -> list[float]:
    """Return the values of a small tensor of an accepted type, wherever they stand in it."""
    if tensor.HasField("raw_data"):
        return [float(value) for value in np.frombuffer(tensor.raw_data, dtype=dtype)]
    typed = [value for name in DATA_FIELDS for value in getattr(tensor, name)]
    if dtype == "<f2":  # as bits, in int32_data
        return [float(value) for value in np.array(typed, dtype=np.int64).astype("<u2").view(dtype)]
    return [float(value) for value in typed]
