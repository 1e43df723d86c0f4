"""Small releases made by hand: an ONNX graph built with onnx.helper, so that no trainer is needed."""

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper

from fedge.release import (
    INFER,
    WEIGHTS,
    Manifest,
    Release,
    encoder_sha256,
    file_hashes,
    sign_release,
    structure_sha256,
    weights_sha256,
    write_safetensors,
)

RELEASE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def graph_model(nodes, *, initializers=(), inputs=None, outputs=None, opset=20):
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])]
    outputs = outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def infer_model() -> bytes:
    """A quantized linear layer: DequantizeLinear, MatMul, Softmax; what goes in is the embedding, too."""
    table = numpy_helper.from_array(np.array([[1, -2], [3, 4]], dtype=np.int8), "w8")
    scale = numpy_helper.from_array(np.float32(0.5), "scale")
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"], axis=-1),
        helper.make_node("Identity", ["x"], ["embedding"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "embedding")]
    return graph_model(nodes, initializers=[table, scale], outputs=outputs).SerializeToString()


def some_weights(scale: float = 1.0):
    return {
        "head.weight": (scale * np.arange(6, dtype=np.float32)).reshape(2, 3),
        "head.bias": np.float32([0.5, -0.5, 0.25]),
    }


def manifest_of(files, weights, **changes) -> Manifest:
    fields = {
        "version": 1,
        "workload": "digits",
        "labels": ("a", "b", "none"),
        "oos_label": "none",
        "features": {"kind": "pixels", "size": 2},
        "files": file_hashes(files),
        "architecture": {"name": "dense-head-v1", "dimensions": 2, "classes": 3},
        "encoder_sha256": encoder_sha256(files[INFER] or infer_model()),
        "weights_sha256": weights_sha256(weights),
        "structure_sha256": structure_sha256(weights),
        "threshold_grid": (0.1, 0.5, 0.9),
        "temperature": 1.5,
        "confidence": "max_probability",
        "price_book": "2026-08",
        "self_test": {"queries": [[0.0, 1.0]], "logits": [[1.5, 2.0, 0.0]]},
        "metrics": {"agreement": 0.99},
        "parent": None,
        "training": {
            "learning_rate": 0.1,
            "batch_size": 16,
            "epochs": 2,
            "clip_norm": 1.0,
            "example_clip_norm": 8.0,
            "weight_cap": 64,
        },
    }
    return Manifest(**(fields | changes))


def some_release(scale: float = 1.0, key: Ed25519PrivateKey = RELEASE_KEY, **changes) -> Release:
    weights = some_weights(scale)
    files = {INFER: infer_model(), WEIGHTS: write_safetensors(weights)}
    return sign_release(manifest_of(files, weights, **changes), files, key)
