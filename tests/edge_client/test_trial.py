"""An unknown model is loaded in a process with limits first, once for each file."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_client.releases import trial as module
from edge_client.releases.trial import LoadingTrial, TrialFailedError
from fedge.errors import VerificationError


def model(nodes, initializers=()) -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


GOOD = model([helper.make_node("Relu", ["x"], ["y"])])
COLUMN = numpy_helper.from_array(np.ones((1 << 14, 1), np.float32), "c")
ROW = numpy_helper.from_array(np.ones((1, 1 << 14), np.float32), "r")
LARGE = model([helper.make_node("Mul", ["c", "r"], ["p"]), helper.make_node("Add", ["x", "p"], ["y"])], [COLUMN, ROW])
"""A constant of a GiB, for which onnxruntime alone would say no: it goes on without it where memory does not do."""


def test_a_good_model_passes_and_is_not_tried_again(monkeypatch):
    trial = LoadingTrial()
    trial.check([GOOD, GOOD])
    monkeypatch.setattr(module.sys, "executable", "/nowhere/python")
    trial.check([GOOD])
    with pytest.raises(TrialFailedError, match="cannot be tried"):
        LoadingTrial().check([GOOD])


def test_other_weights_of_a_graph_that_passed_are_not_tried_again_and_other_shapes_are(monkeypatch):
    def weighted(rows: int, value: float) -> bytes:
        weights = numpy_helper.from_array(np.full((rows, 100), value, np.float32), "c")
        return model([helper.make_node("MatMul", ["x", "c"], ["y"])], [weights])

    trial = LoadingTrial()
    trial.check([weighted(4, 1.0)])
    monkeypatch.setattr(module.sys, "executable", "/nowhere/python")
    trial.check([weighted(4, 2.0)])
    with pytest.raises(TrialFailedError, match="cannot be tried"):
        trial.check([weighted(5, 1.0)])


def test_a_model_that_takes_gigabytes_to_load_is_refused_and_a_later_good_one_passes():
    trial = LoadingTrial(memory_mib=256)
    with pytest.raises(VerificationError, match="within 256 MiB"):
        trial.check([LARGE])
    trial.check([GOOD])


def test_what_is_no_model_is_refused():
    with pytest.raises(VerificationError):
        LoadingTrial().check([b"no model"])
