"""Checks on a model file before any runtime sees it: what it holds is arithmetic on tensors that stand in the file itself.

Refused: external data in any form, local functions, control flow and other subgraphs, strings, custom domains, operators
outside the allow-list, and sizes over the caps. The list covers quantize-dequantize int8 models and exported optimizer
steps. This narrows what a runtime must parse; it never runs a model and it does not replace the signature.
"""

import math
import sys
from collections.abc import Iterable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from fedge.errors import VerificationError
from fedge.release.onnx_folding import DATA_FIELDS, check_folding


def _load_messages() -> None:
    """Load onnx's generated messages without the rest of its package: 1 MB on a device instead of 8.

    They get their own name, so that a later ``import onnx`` finds these same classes.
    """
    name = "onnx.onnx_ml_pb2"
    package = find_spec("onnx")
    if name in sys.modules or package is None or package.origin is None:
        return  # whatever is wrong, the import below says it
    spec = spec_from_file_location(name, Path(package.origin).with_name("onnx_ml_pb2.py"))
    if spec is not None and spec.loader is not None:
        messages = module_from_spec(spec)
        spec.loader.exec_module(messages)
        sys.modules[name] = messages


if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto
else:
    _load_messages()
    _messages = sys.modules.get("onnx.onnx_ml_pb2")
    if _messages is None:
        import onnx as _messages
    AttributeProto, GraphProto, ModelProto = _messages.AttributeProto, _messages.GraphProto, _messages.ModelProto
    NodeProto, TensorProto = _messages.NodeProto, _messages.TensorProto
    TypeProto, ValueInfoProto = _messages.TypeProto, _messages.ValueInfoProto

MAX_MODEL_BYTES = 64 * 2**20
MAX_NODES = 5_000
MAX_ELEMENTS = 64 * 2**20
MIN_OPSET, MAX_OPSET = 18, 26

_ARITHMETIC = """
QuantizeLinear DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearMatMul Gemm MatMul Einsum Conv
Add Sub Mul Div Neg Abs Sqrt Reciprocal Pow Exp Log Erf Tanh Sigmoid Relu LeakyRelu Gelu HardSigmoid HardSwish Softplus
Clip Min Max Sum Mean Sign Floor Ceil Round Mod Sin Cos IsNaN IsInf
Equal Less LessOrEqual Greater GreaterOrEqual And Or Not Xor Where Cast CastLike
"""
_OVER_AXES = """
Softmax LogSoftmax LayerNormalization BatchNormalization GroupNormalization InstanceNormalization RMSNormalization
ReduceSum ReduceMean ReduceMax ReduceMin ReduceL2 ReduceSumSquare ReduceLogSumExp ReduceProd ArgMax ArgMin CumSum TopK
AveragePool MaxPool GlobalAveragePool GlobalMaxPool
"""
_PLACEMENT = """
Constant ConstantOfShape Identity Shape Size Reshape Flatten Squeeze Unsqueeze Expand Tile Transpose Concat Split Slice
Pad Gather GatherElements GatherND ScatterElements ScatterND OneHot Range Trilu EyeLike
"""
ALLOWED_OPERATORS = frozenset((_ARITHMETIC + _OVER_AXES + _PLACEMENT).split())
_DTYPE: dict[int, str] = {
    TensorProto.FLOAT: "<f4",
    TensorProto.FLOAT16: "<f2",
    TensorProto.DOUBLE: "<f8",
    TensorProto.INT8: "i1",
    TensorProto.UINT8: "u1",
    TensorProto.INT32: "<i4",
    TensorProto.INT64: "<i8",
    TensorProto.BOOL: "?",
}
"""The element types that are accepted, in numpy's words."""
_ALLOWED_TYPES = frozenset(_DTYPE)
_REFUSED_ATTRIBUTES = {
    AttributeProto.GRAPH: "a subgraph",
    AttributeProto.GRAPHS: "subgraphs",
    AttributeProto.SPARSE_TENSOR: "a sparse tensor",
    AttributeProto.SPARSE_TENSORS: "sparse tensors",
    AttributeProto.TYPE_PROTO: "a type",
    AttributeProto.TYPE_PROTOS: "types",
}
_MAX_NAME = 512
_MAX_ATTRIBUTE_TEXT = 64


def check_model(model: bytes) -> None:
    """Raises VerificationError unless ``model`` is a self-contained ONNX file within the allow-list and the caps."""
    proto = read_model(model)
    _check_opset(proto)
    if proto.functions:
        raise VerificationError("model: holds local functions: inline them before publishing")
    if proto.training_info:
        raise VerificationError("model: holds training_info, which is not used")
    _check_graph(proto.graph)


def read_model(model: bytes) -> ModelProto:
    """Parse an ONNX file of an acceptable size. Raises VerificationError for anything else."""
    if not 0 < len(model) <= MAX_MODEL_BYTES:
        raise VerificationError(f"model: {len(model)} bytes, expected 1 to {MAX_MODEL_BYTES}")
    try:
        return ModelProto.FromString(model)
    except (DecodeError, ValueError, RecursionError):
        raise VerificationError("model: not an ONNX file") from None


def _check_opset(proto: ModelProto) -> None:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or not MIN_OPSET <= versions[0] <= MAX_OPSET:
        raise VerificationError(f"model: opset {versions}, expected one from {MIN_OPSET} to {MAX_OPSET}")


def _check_graph(graph: GraphProto) -> None:
    if not 0 < len(graph.node) <= MAX_NODES:
        raise VerificationError(f"model: {len(graph.node)} nodes, expected 1 to {MAX_NODES}")
    if not graph.output:
        raise VerificationError("model: no outputs")
    if graph.sparse_initializer:
        raise VerificationError("model: sparse initializers are not accepted")
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_value(value)
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for node in graph.node:
        _check_node(node)
    check_folding(graph, _DTYPE)


def _check_value(value: ValueInfoProto) -> None:
    _check_names([value.name])
    if value.HasField("type"):
        _check_type(value.type, value.name)


def _check_type(kind: TypeProto, name: str) -> None:
    if kind.WhichOneof("value") not in (None, "tensor_type"):
        raise VerificationError(f"model: value {name!r} is not a dense tensor")
    element = kind.tensor_type.elem_type
    if element not in _ALLOWED_TYPES and element != TensorProto.UNDEFINED:
        raise VerificationError(f"model: value {name!r} has the element type {element}, which is not accepted")


def _check_node(node: NodeProto) -> None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in ALLOWED_OPERATORS or node.overload:
        raise VerificationError(f"model: operator {node.domain[:40]}:{node.op_type[:40]} is not on the allow-list")
    _check_names([node.name, *node.input, *node.output])
    for attribute in node.attribute:
        _check_attribute(attribute, node.op_type)


def _check_attribute(attribute: AttributeProto, operator: str) -> None:
    where = f"model: attribute {attribute.name[:40]!r} of {operator}"
    refused = _REFUSED_ATTRIBUTES.get(attribute.type)
    # Every field is looked at, not only the one that the declared type names: a runtime may read either.
    if refused or attribute.graphs or attribute.HasField("g"):
        raise VerificationError(f"{where}: holds {refused or 'a subgraph'}")
    if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
        raise VerificationError(f"{where}: holds a sparse tensor")
    if attribute.HasField("tp") or attribute.type_protos or attribute.ref_attr_name:
        raise VerificationError(f"{where}: holds a type or a reference")
    if (operator == "Constant" and (attribute.s or attribute.strings)) or attribute.strings:
        raise VerificationError(f"{where}: holds strings")
    if len(attribute.s) > _MAX_ATTRIBUTE_TEXT:
        raise VerificationError(f"{where}: text of {len(attribute.s)} bytes")
    for tensor in (attribute.t, *attribute.tensors):
        if tensor is not attribute.t or attribute.HasField("t"):
            _check_tensor(tensor)


def _check_tensor(tensor: TensorProto) -> None:
    where = f"model: tensor {tensor.name[:40]!r}"
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise VerificationError(f"{where}: external data is refused: export the model as a single file")
    if tensor.data_type not in _ALLOWED_TYPES or tensor.string_data:
        raise VerificationError(f"{where}: element type {tensor.data_type} is not accepted")
    if tensor.HasField("segment"):
        raise VerificationError(f"{where}: segments are not accepted")
    _check_names([tensor.name])
    if len(tensor.dims) > 8 or any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > MAX_ELEMENTS:
        raise VerificationError(f"{where}: shape {list(tensor.dims)[:10]} is not accepted")
    typed = sum(len(getattr(tensor, name)) for name in DATA_FIELDS)
    if typed != (0 if tensor.HasField("raw_data") else math.prod(tensor.dims)):
        raise VerificationError(f"{where}: {typed} numbers do not fill shape {list(tensor.dims)}")
    if tensor.HasField("raw_data") and len(tensor.raw_data) != np.dtype(_DTYPE[tensor.data_type]).itemsize * math.prod(
        tensor.dims
    ):
        raise VerificationError(f"{where}: {len(tensor.raw_data)} bytes do not fill shape {list(tensor.dims)}")


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if len(name) > _MAX_NAME:
            raise VerificationError(f"model: the name {name[:40]!r}... is longer than {_MAX_NAME}")
