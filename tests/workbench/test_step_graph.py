import numpy as np
import onnxruntime
import pytest
import torch

from aggregator.workbench.step_graph import export_step, head_step
from fedge.release import check_model

B, D, C = 4, 6, 5
L2, SMOOTHING = 0.01, 0.1


@pytest.fixture(scope="module")
def step_file():
    return export_step(dimensions=D, classes=C, batch_size=B, l2=L2, label_smoothing=SMOOTHING)


@pytest.fixture(scope="module")
def session(step_file):
    return onnxruntime.InferenceSession(step_file, providers=["CPUExecutionProvider"])


def feed(rng, *, sample_weight=(1, 1, 1, 1), learning_rate=0.5):
    return {
        "head.weight": rng.normal(size=(D, C)).astype(np.float32),
        "head.bias": rng.normal(size=C).astype(np.float32),
        "embedding": rng.normal(size=(B, D)).astype(np.float32),
        "label": rng.integers(0, C, B),
        "sample_weight": np.array(sample_weight, np.float32),
        "learning_rate": np.array(learning_rate, np.float32),
    }


OUTPUTS = ["head.weight.next", "head.bias.next", "loss"]


@pytest.mark.parametrize("sample_weight", [(1, 1, 1, 1), (1, 1, 0, 0), (0.5, 2, 1, 0)])
def test_onnx_step_equals_torch_autograd(session, sample_weight):
    inputs = feed(np.random.default_rng(1), sample_weight=sample_weight)
    named = {name: torch.tensor(array) for name, array in inputs.items()}
    weight, bias = named["head.weight"].requires_grad_(), named["head.bias"].requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        named["embedding"] @ weight + bias, named["label"], reduction="none", label_smoothing=SMOOTHING
    )
    mean = (loss * named["sample_weight"]).sum() / named["sample_weight"].sum()
    (mean + L2 / 2 * weight.square().sum()).backward()
    wanted = [(weight - 0.5 * weight.grad).detach(), (bias - 0.5 * bias.grad).detach(), mean.detach()]
    for got, want in zip(session.run(OUTPUTS, inputs), wanted, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-6)


def test_onnx_step_equals_the_traced_function_over_many_steps(session):
    inputs = feed(np.random.default_rng(2))
    weight, bias = torch.tensor(inputs["head.weight"]), torch.tensor(inputs["head.bias"])
    batch = {name: torch.tensor(inputs[name]) for name in ("embedding", "label", "sample_weight", "learning_rate")}
    for _ in range(50):
        inputs["head.weight"], inputs["head.bias"], loss = session.run(OUTPUTS, inputs)
        weight, bias, same_loss = head_step(weight, bias, **batch, l2=L2, label_smoothing=SMOOTHING)
    np.testing.assert_allclose(inputs["head.weight"], weight.numpy(), atol=1e-5)
    assert loss == pytest.approx(float(same_loss), abs=1e-5)


def test_first_step_from_zero_has_the_closed_form_gradient(session):
    inputs = feed(np.random.default_rng(3), learning_rate=1.0)
    inputs["head.weight"][:], inputs["head.bias"][:] = 0, 0
    weight, bias, loss = session.run(OUTPUTS, inputs)
    target = np.full((B, C), SMOOTHING / C)
    target[np.arange(B), inputs["label"]] += 1 - SMOOTHING
    residual = 1 / C - target
    np.testing.assert_allclose(bias, -residual.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(weight, -inputs["embedding"].T @ residual / B, atol=1e-6)
    assert loss == pytest.approx(np.log(C), abs=1e-6)


def test_padding_changes_nothing_whatever_it_holds(session):
    inputs = feed(np.random.default_rng(4), sample_weight=(1, 1, 1, 0))
    before = session.run(OUTPUTS, inputs)
    inputs["embedding"][3], inputs["label"][3] = 7.0, 0
    for one, other in zip(before, session.run(OUTPUTS, inputs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_of_padding_has_no_loss_and_only_decays(session):
    inputs = feed(np.random.default_rng(5), sample_weight=(0, 0, 0, 0))
    weight, bias, loss = session.run(OUTPUTS, inputs)
    assert loss == 0.0
    np.testing.assert_allclose(weight, inputs["head.weight"] * (1 - 0.5 * L2), rtol=1e-6)
    np.testing.assert_array_equal(bias, inputs["head.bias"])


def test_examples_of_the_ignored_label_count_as_padding(session):
    file = export_step(dimensions=D, classes=C, batch_size=B, l2=L2, label_smoothing=SMOOTHING, ignored_label=C - 1)
    ignoring = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = feed(np.random.default_rng(6))
    inputs["label"] = np.array([0, C - 1, 2, C - 1])
    padded = {**inputs, "sample_weight": np.array([1, 0, 1, 0], np.float32)}
    for got, want in zip(ignoring.run(OUTPUTS, inputs), session.run(OUTPUTS, padded), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_the_file_passes_the_release_checks_and_names_no_machine(step_file):
    check_model(step_file)
    assert b".py" not in step_file and b"/home" not in step_file and b"site-packages" not in step_file


def test_two_exports_are_equal_bytes(step_file):
    assert export_step(dimensions=D, classes=C, batch_size=B, l2=L2, label_smoothing=SMOOTHING) == step_file
