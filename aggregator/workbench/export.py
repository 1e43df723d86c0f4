"""From torch to single-file ONNX, once for a device model: later rounds only exchange tensors in the file (`quantize`).

Never leaves a trace of the machine it ran on: the exporter's notes on source files and stacks are removed, so two exports of
one model are equal bytes.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from numpy.typing import NDArray

from aggregator.workbench.architectures import DeviceNetwork
from aggregator.workbench.model_files import EMBEDDING, LOGITS

OPSET = 20
"""Reduce operators with axes as inputs and LayerNormalization need 18; 20 is read by every onnxruntime since 1.17."""

_OUTPUT = "output."  # the exporter would let an output share its name with a value inside the graph


def export_infer(network: DeviceNetwork, example: Mapping[str, NDArray[Any]]) -> bytes:
    """``infer.onnx`` in fp32: the inputs of ``example`` by name (any number of rows), outputs ``logits`` and ``embedding``.

    ``example`` needs two rows at least, or the exporter takes the one for a fixed size.
    """
    rows = torch.export.Dim("n", min=1, max=1 << 16)
    with torch.no_grad():
        # The exporter merges equal tensors, and a head of zeros would share its bias with a layer of the encoder.
        weight, bias = network.head.weight, network.head.bias
        weight.copy_(torch.arange(1, weight.numel() + 1).reshape(weight.shape))
        bias.copy_(-torch.arange(1, bias.numel() + 1))
    columns = torch.export.Dim("tokens", min=1, max=1 << 16)
    # Texts differ in length, pictures do not.
    shapes = tuple({0: rows} if name == "pixels" else {0: rows, 1: columns} for name in example)
    return onnx_bytes(
        network.eval(),
        tuple(torch.from_numpy(array) for array in example.values()),
        input_names=tuple(example),
        output_names=(LOGITS, EMBEDDING),
        dynamic_shapes=(shapes,),
    )


def onnx_bytes(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: Any = None,
) -> bytes:
    """The module as one ONNX file without external data, its inputs and outputs named as told."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=list(input_names),
            output_names=[_OUTPUT + name for name in output_names],
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    if program is None:  # only the old exporter, which is not asked for, returns nothing
        raise TypeError("torch.onnx.export returned no program")
    return _renamed(_anonymous(program.model_proto)).SerializeToString(deterministic=True)


def _anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` without what tells where it was made; value_info goes too, since quantizers trip over it."""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    model.producer_name, model.producer_version = "fedge", ""
    graph = model.graph
    entries: list[onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto]
    entries = [*graph.node, *graph.input, *graph.output, *graph.initializer]
    for entry in entries:
        entry.doc_string = ""
        del entry.metadata_props[:]
    return model


def _renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with its outputs under their own names and everything between them numbered."""
    graph = model.graph
    names = {value.name: value.name.removeprefix(_OUTPUT) for value in graph.output}
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}.{number}"
        names |= {output: f"value.{number}.{place}" for place, output in enumerate(node.output) if output not in names}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for value in graph.output:
        value.name = names[value.name]
    return model
