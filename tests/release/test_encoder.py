"""The hash of the frozen base covers what the embedding depends on, and nothing else."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fedge.errors import VerificationError
from fedge.release import encoder_sha256


def model(*, encoder=1.0, head=1.0, reads="encoder", reverse=False, embedding="embedding"):
    nodes = [
        helper.make_node("MatMul", ["x", reads], ["projected"]),
        helper.make_node("Relu", ["projected"], [embedding]),
        helper.make_node("MatMul", [embedding, "head.weight"], ["logits"]),
    ]
    tensors = [
        numpy_helper.from_array(np.full((2, 2), value, np.float32), name)
        for name, value in (("encoder", encoder), ("head.weight", head))
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "logits", embedding)]
    graph = helper.make_graph(nodes[::-1] if reverse else nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def test_another_head_on_the_same_encoder_is_the_same_base():
    assert encoder_sha256(model(head=1.0)) == encoder_sha256(model(head=2.0))


def test_another_encoder_is_another_base():
    assert encoder_sha256(model(encoder=1.0)) != encoder_sha256(model(encoder=2.0))
    assert encoder_sha256(model()) != encoder_sha256(model(reads="head.weight"))


def test_an_embedding_that_is_computed_from_the_head_is_another_base_with_every_head():
    assert encoder_sha256(model(reads="head.weight", head=1.0)) != encoder_sha256(model(reads="head.weight", head=2.0))


def test_the_order_of_the_nodes_hides_nothing():
    assert encoder_sha256(model(reverse=True, encoder=1.0)) != encoder_sha256(model(reverse=True, encoder=2.0))


def test_a_model_without_an_embedding_has_no_base():
    with pytest.raises(VerificationError, match="embedding"):
        encoder_sha256(model(embedding="other"))
