import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aggregator.workbench.architectures import DeviceNetwork, encoder_for
from aggregator.workbench.export import export_infer
from aggregator.workbench.model_files import agreement, int8_columns, run_model, with_head
from aggregator.workbench.quantize import quantize_encoder
from fedge.errors import InputError
from fedge.features import PixelFeatures, TextFeatures
from fedge.release import check_model

CLASSES, D = 7, 16
TEXTS = ["what is the weather", "turn on the light in the kitchen", "hi", "", "set a timer for ten minutes please", "?!"]


class Made:
    """An untrained device model of one kind of query, in torch, fp32 ONNX and int8 ONNX."""

    def __init__(self, features, queries):
        torch.manual_seed(0)
        self.inputs = features.encode(queries)
        encoder = encoder_for(features, dimensions=D)
        # Biases away from zero, as after training.
        for name, parameter in encoder.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
        self.network = DeviceNetwork(encoder, CLASSES)
        self.features = features
        self.fp32 = export_infer(self.network, features.encode(queries[:2]))
        self.int8 = quantize_encoder(self.fp32, self.inputs)


@pytest.fixture(scope="module", params=["text", "pixels"])
def made(request):
    if request.param == "text":
        return Made(TextFeatures(buckets=512, max_tokens=40), TEXTS)
    return Made(PixelFeatures(size=64), np.random.default_rng(0).random((40, 64), dtype=np.float32))


def head(seed):
    rng = np.random.default_rng(seed)
    return {
        "head.weight": rng.normal(size=(D, CLASSES)).astype(np.float32),
        "head.bias": rng.normal(size=CLASSES).astype(np.float32),
    }


def zeros():
    return {name: np.zeros_like(array) for name, array in head(0).items()}


def test_fp32_file_equals_torch_with_any_head(made):
    weights = head(1)
    out = run_model(with_head(made.fp32, weights), made.inputs, ["logits", "embedding"])
    with torch.no_grad():
        embedding = made.network.encoder(*(torch.from_numpy(array) for array in made.inputs.values())).numpy()
    np.testing.assert_allclose(out["embedding"], embedding, atol=1e-5)
    np.testing.assert_allclose(out["logits"], embedding @ weights["head.weight"] + weights["head.bias"], atol=1e-4)


def test_logits_of_the_int8_file_are_its_embedding_times_the_rounded_head(made):
    weights = head(2)
    out = run_model(with_head(made.int8, weights), made.inputs, ["logits", "embedding"])
    integers, scale = int8_columns(weights["head.weight"])
    wanted = out["embedding"] @ (integers * scale) + weights["head.bias"]
    np.testing.assert_allclose(out["logits"], wanted, atol=1e-4)


def test_int8_embedding_is_the_same_bits_under_every_head(made):
    embeddings = [
        run_model(with_head(made.int8, w), made.inputs, ["embedding"])["embedding"] for w in (head(3), head(4), zeros())
    ]
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    np.testing.assert_array_equal(embeddings[0], embeddings[2])


def test_int8_embedding_takes_few_values_and_lies_near_the_fp32_one(made):
    near = run_model(made.int8, made.inputs, ["embedding"])["embedding"]
    exact = run_model(made.fp32, made.inputs, ["embedding"])["embedding"]
    assert len(np.unique(near)) <= 256
    assert np.abs(near - exact).mean() < 0.03 * exact.std()


def test_one_query_at_a_time_gives_the_bits_of_the_batch(made):
    file = with_head(made.int8, head(5))
    together = run_model(file, made.inputs, ["logits"])["logits"]
    rows = [{name: array[i : i + 1] for name, array in made.inputs.items()} for i in range(len(together))]
    np.testing.assert_array_equal(together, np.concatenate([run_model(file, row, ["logits"])["logits"] for row in rows]))


def test_a_head_of_zeros_gives_zero_logits_and_full_agreement(made):
    fp32, int8 = with_head(made.fp32, zeros()), with_head(made.int8, zeros())
    assert not run_model(int8, made.inputs, ["logits"])["logits"].any()
    assert agreement(fp32, int8, made.inputs) == 1.0


@pytest.mark.parametrize(("apart", "agrees"), [(1e-4, 1.0), (0.1, 0.0)])
def test_labels_that_float32_cannot_tell_apart_are_no_disagreement(made, apart, agrees):
    first, second = zeros(), zeros()
    first["head.bias"][3], second["head.bias"][5] = apart, apart
    assert agreement(with_head(made.int8, second), with_head(made.fp32, first), made.inputs) == agrees


def test_agreement_counts_rows_with_the_same_label(made):
    weights = {"head.weight": np.zeros((D, CLASSES), np.float32), "head.bias": np.eye(CLASSES, dtype=np.float32)[2]}
    third = with_head(made.fp32, weights)
    weights["head.bias"] = np.eye(CLASSES, dtype=np.float32)[3]
    assert agreement(third, third, made.inputs) == 1.0
    assert agreement(third, with_head(made.int8, weights), made.inputs) == 0.0


def test_every_file_passes_the_release_checks_and_names_no_machine(made):
    for file in (made.fp32, made.int8, with_head(made.int8, head(6))):
        check_model(file)
        assert b".py" not in file and b"site-packages" not in file


def test_the_int8_file_holds_quantize_and_dequantize_and_no_wide_weights(made):
    graph = onnx.load_from_string(made.int8).graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    wide = [t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]
    assert wide == []


def test_integer_products_of_two_pairs_fit_sixteen_bits(made):
    # x86 without VNNI adds two uint8 x int8 products in an int16 and saturates.
    for tensor in onnx.load_from_string(with_head(made.int8, head(7))).graph.initializer:
        if tensor.name.endswith("weight.int8"):
            largest = int(np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max())
            assert 0 < 2 * 255 * largest <= 2**15 - 1


def test_two_quantizations_are_equal_bytes(made):
    assert quantize_encoder(made.fp32, made.inputs) == made.int8


def test_a_head_of_another_shape_or_not_finite_is_refused(made):
    wrong = head(8)
    wrong["head.weight"] = wrong["head.weight"][:, :-1]
    broken = head(8)
    broken["head.bias"][0] = np.nan
    for weights in (wrong, broken, {"head.weight": head(8)["head.weight"]}):
        for file in (made.fp32, made.int8):
            with pytest.raises(InputError):
                with_head(file, weights)


def test_no_calibration_rows_are_refused(made):
    with pytest.raises(InputError, match="at least one query"):
        quantize_encoder(made.fp32, {name: array[:0] for name, array in made.inputs.items()})


@settings(deadline=None)
@given(arrays(np.float32, (5, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)))
def test_rounded_columns_lie_within_half_a_step(weight):
    integers, scale = int8_columns(weight)
    assert (scale > 0).all() and np.abs(integers.astype(int)).max() <= 63
    error = np.abs(integers * scale.astype(np.float64) - weight)
    assert (error <= scale * 0.5001).all()
