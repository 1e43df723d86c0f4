import itertools

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from fedge.errors import VerificationError
from fedge.release import check_model
from fedge.release.onnx_checks import ALLOWED_OPERATORS, MAX_MODEL_BYTES, MAX_NODES


def node(operator="Relu", **attributes):
    return helper.make_node(operator, ["x"], ["y"], **attributes)


def external(tensor):
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def f32(*values):
    return numpy_helper.from_array(np.float32(values), "t")


def test_the_model_of_a_release_passes(parts):
    check_model(parts.infer_model())


@pytest.mark.parametrize("operator", ["LayerNormalization", "LogSoftmax", "Gather", "Gemm", "ReduceSum", "Where", "Tanh"])
def test_operators_that_exported_heads_and_int8_models_use_are_on_the_list(operator):
    assert operator in ALLOWED_OPERATORS


@pytest.mark.parametrize("operator", ["Loop", "If", "Scan", "SequenceAt", "StringNormalizer", "TfIdfVectorizer", "Nope"])
def test_control_flow_strings_and_unknown_operators_are_refused(parts, operator):
    with pytest.raises(VerificationError, match=f"{operator} is not on the allow-list"):
        check_model(parts.graph_model([node(operator)]).SerializeToString())


def sparse():
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[1], name="s", raw_data=b"\0" * 4)
    return onnx.SparseTensorProto(
        values=tensor, indices=TensorProto(data_type=TensorProto.INT64, dims=[1], raw_data=b"\0" * 8), dims=[4]
    )


def _initializer(tensor):
    return lambda parts, model: model.graph.initializer.append(tensor)


def _attribute(attribute):
    return lambda parts, model: model.graph.node[0].attribute.append(attribute)


def _subgraph(parts, model):
    inner = parts.graph_model([node()], initializers=[external(f32(1.0))]).graph
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def _disguised_subgraph(parts, model):
    attribute = helper.make_attribute("alpha", 1.0)
    attribute.g.CopyFrom(parts.graph_model([node("Loop")]).graph)
    model.graph.node[0].attribute.append(attribute)


def _function(parts, model):
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("own", "f", ["x"], ["y"], [node()], opsets))


def _string_input(parts, model):
    model.graph.input.append(helper.make_tensor_value_info("s", TensorProto.STRING, [1]))


def _sequence_input(parts, model):
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [1]))


DEFECTS = {
    "external initializer": (_initializer(external(f32(1.0))), "external data"),
    "external location alone": (
        _initializer(
            TensorProto(
                data_type=1, dims=[1], raw_data=b"\0" * 4, external_data=[onnx.StringStringEntryProto(key="location")]
            )
        ),
        "external data",
    ),
    "external attribute": (_attribute(helper.make_attribute("value", external(f32(1.0)))), "external data"),
    "external in attribute list": (
        _attribute(AttributeProto(name="v", type=AttributeProto.TENSORS, tensors=[external(f32(1.0))])),
        "external data",
    ),
    "sparse attribute": (_attribute(helper.make_attribute("value", sparse())), "sparse"),
    "sparse initializer": (lambda parts, model: model.graph.sparse_initializer.append(sparse()), "sparse"),
    "subgraph": (_subgraph, "subgraph"),
    "subgraph under a float's type": (_disguised_subgraph, "subgraph"),
    "local function": (_function, "local functions"),
    "string tensor": (_initializer(helper.make_tensor("s", TensorProto.STRING, [1], [b"x"])), "element type"),
    "string input": (_string_input, "element type"),
    "sequence input": (_sequence_input, "not a dense tensor"),
    "strings": (_attribute(helper.make_attribute("value_strings", ["a"])), "strings"),
    "long text": (_attribute(helper.make_attribute("mode", "x" * 65)), "65 bytes"),
    "reference": (_attribute(AttributeProto(name="a", type=AttributeProto.FLOAT, ref_attr_name="b")), "reference"),
    "wrong length": (_initializer(TensorProto(data_type=1, dims=[3], raw_data=b"\0" * 8, name="t")), "do not fill"),
    "negative size": (_initializer(TensorProto(data_type=1, dims=[-1], name="t")), "shape"),
    "huge size": (_initializer(TensorProto(data_type=1, dims=[2**40, 2**40], name="t")), "shape"),
    "segment": (_initializer(TensorProto(data_type=1, segment=TensorProto.Segment(begin=0, end=1))), "segment"),
    "complex numbers": (_initializer(TensorProto(data_type=TensorProto.COMPLEX64, dims=[1])), "element type"),
    "training info": (lambda parts, model: model.training_info.add(), "training_info"),
    "old opset": (lambda parts, model: setattr(model.opset_import[0], "version", 11), "opset"),
    "two opsets": (lambda parts, model: model.opset_import.add(domain="ai.onnx", version=20), "opset"),
    "no opset": (lambda parts, model: model.ClearField("opset_import"), "opset"),
    "custom domain": (lambda parts, model: setattr(model.graph.node[0], "domain", "com.evil"), "allow-list"),
    "overload": (lambda parts, model: setattr(model.graph.node[0], "overload", "x"), "allow-list"),
    "long name": (lambda parts, model: setattr(model.graph.node[0], "name", "n" * 600), "longer"),
    "no nodes": (lambda parts, model: model.graph.ClearField("node"), "0 nodes"),
    "no outputs": (lambda parts, model: model.graph.ClearField("output"), "no outputs"),
    "too many nodes": (lambda parts, model: model.graph.node.extend([node()] * MAX_NODES), "nodes"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_model_with_a_defect_is_refused(parts, defect):
    model = parts.graph_model([node()])
    check_model(model.SerializeToString())
    change, message = DEFECTS[defect]
    change(parts, model)
    with pytest.raises(VerificationError, match=message):
        check_model(model.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"hello", b"\x00" * (MAX_MODEL_BYTES + 1)], ids=len)
def test_what_is_no_model_is_refused(data):
    with pytest.raises(VerificationError):
        check_model(data)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mutated_model_passes_or_ends_in_a_verification_error(parts, data):
    mutated = bytearray(parts.infer_model())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutated)) | st.just(len(mutated)))
    try:
        check_model(bytes(mutated[:cut]))
    except VerificationError as error:
        assert str(error).startswith("model: ")


@pytest.mark.parametrize(
    ("operator", "sizes"),
    [
        ("ConstantOfShape", [1 << 20, 1 << 20]),
        ("Expand", [1 << 30]),
        ("Tile", [1 << 30]),
        ("OneHot", [1 << 30]),
        ("Pad", [0, 1 << 30]),
        ("Range", [1 << 40]),
    ],
)
@pytest.mark.parametrize("as_node", [False, True])
def test_a_tensor_that_would_outgrow_the_cap_while_loading_is_refused(parts, operator, sizes, as_node):
    """A few bytes of model, gigabytes of memory: runtimes compute constants when they load."""
    tensor = numpy_helper.from_array(np.array(sizes, np.int64), "sizes")
    inputs = ["sizes"] if operator == "ConstantOfShape" else ["x", "sizes", "x"]
    grow = helper.make_node(operator, inputs, ["y"])
    nodes = [helper.make_node("Constant", [], ["sizes"], value=tensor), grow] if as_node else [grow]
    model = parts.graph_model(nodes, initializers=[] if as_node else [tensor])
    with pytest.raises(VerificationError, match=f"{operator} asks for"):
        check_model(model.SerializeToString())
    small = numpy_helper.from_array(np.array([2, 2], np.int64), "sizes")
    check_model(parts.graph_model([grow], initializers=[small]).SerializeToString())


@pytest.mark.parametrize("numbers", [0, 1, 5])
def test_a_tensor_whose_numbers_do_not_fill_its_shape_is_refused(parts, numbers):
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[2, 2], float_data=[0.0] * numbers)
    with pytest.raises(VerificationError, match="do not fill shape"):
        check_model(parts.graph_model([node()], initializers=[tensor]).SerializeToString())


def test_a_tensor_with_two_contents_is_refused(parts):
    tensor = numpy_helper.from_array(np.zeros((2, 2), np.float32), "t")
    tensor.float_data.extend([1.0] * 4)
    with pytest.raises(VerificationError, match="do not fill shape"):
        check_model(parts.graph_model([node()], initializers=[tensor]).SerializeToString())


def constant(name, values):
    return numpy_helper.from_array(np.array(values), name)


def column(parts, count):
    """A small vector as a column and as a row, by operators that hide its form."""
    return [constant("v", np.zeros(count, np.float32)), constant("axes", [1]), constant("shape", [1, count])], [
        helper.make_node("Unsqueeze", ["v", "axes"], ["column"]),
        helper.make_node("Reshape", ["v", "shape"], ["row"]),
    ]


def attack_products(parts):
    """20,000 products of constants: loading took over 40 s."""
    names = ["c", *(f"p{number}" for number in range(4_000))]
    nodes = [helper.make_node("Mul", [before, "c"], [after]) for before, after in itertools.pairwise(names)]
    return [constant("c", np.ones(1, np.float32))], [*nodes, helper.make_node("Add", ["x", names[-1]], ["y"])]


def attack_declared(parts):
    """The shape of an input is a constant to a runtime, and so is what is made of it: 115 bytes took 819 MB."""
    return [], [helper.make_node("Shape", ["big"], ["s"]), helper.make_node("ConstantOfShape", ["s"], ["y"])]


def attack_outer(parts):
    tensors, nodes = column(parts, 8192)
    return tensors, [*nodes, helper.make_node("Mul", ["column", "row"], ["y"])]


def attack_matmul(parts):
    tensors = [constant("a", np.zeros((8192, 1), np.float32)), constant("b", np.zeros((1, 8192), np.float32))]
    return tensors, [helper.make_node("MatMul", ["a", "b"], ["y"])]


def attack_computed_size(parts):
    tensors = [constant("a", [1 << 15])]
    return tensors, [helper.make_node("Mul", ["a", "a"], ["s"]), helper.make_node("ConstantOfShape", ["s"], ["y"])]


def attack_small_steps(parts):
    tensors = [constant("start", np.float32(0)), constant("end", np.float32(1)), constant("step", np.float32(1e-9))]
    return tensors, [helper.make_node("Range", ["start", "end", "step"], ["y"])]


def attack_many_grown(parts):
    tensors = [constant("s", [1 << 20])]
    return tensors, [helper.make_node("ConstantOfShape", ["s"], [f"y{number}"]) for number in range(8)]


def attack_window(parts):
    tensors = [constant("i", np.zeros((1, 1, 2, 2), np.float32))]
    return tensors, [helper.make_node("MaxPool", ["i"], ["y"], kernel_shape=[1, 1], pads=[1 << 14] * 4)]


ATTACKS = {name.removeprefix("attack_"): value for name, value in list(globals().items()) if name.startswith("attack_")}


@pytest.mark.parametrize("attack", ATTACKS)
def test_constants_that_imply_much_are_refused(parts, attack):
    tensors, nodes = ATTACKS[attack](parts)
    model = parts.graph_model(nodes, initializers=tensors)
    if attack == "declared":
        model.graph.input.append(helper.make_tensor_value_info("big", TensorProto.FLOAT, [1 << 12, 1 << 12]))
    data = model.SerializeToString()
    with pytest.raises(VerificationError, match="model: "):
        check_model(data)


def test_the_folded_weights_of_a_large_quantized_model_pass(parts):
    weights = constant("w", np.zeros((30_000, 100), np.int8))
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["f"]),
        helper.make_node("Mul", ["f", "scale"], ["g"]),
        helper.make_node("Gather", ["g", "x"], ["y"]),
    ]
    check_model(
        parts.graph_model(
            nodes, initializers=[weights, constant("scale", np.float32(0.1)), constant("zero", np.int8(0))]
        ).SerializeToString()
    )
