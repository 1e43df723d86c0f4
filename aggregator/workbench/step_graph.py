"""The device's training step as an ONNX graph: forward, backward and update of the head, traced once with torch.

The plain onnxruntime wheel runs it, so a device trains without torch. Weights go in and out as tensors; clipping, noise and
masking happen outside. The step is plain gradient descent: an optimizer with state would be one more thing to carry between
rounds, and the server's optimizer does that work on the sum.

Answers "out of scope" are not learned from: a head that learns them, from few and repeated queries, claims foreign
queries for that label; one that does not is unsure of them, and they go to central (clinc150, 20 rounds: 69 % local at 4 %
disagreement instead of 61 %).
"""

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

from aggregator.workbench.export import onnx_bytes
from aggregator.workbench.model_files import HEAD_BIAS, HEAD_WEIGHT


def head_step(
    weight: Tensor,
    bias: Tensor,
    *,
    embedding: Tensor,
    label: Tensor,
    sample_weight: Tensor,
    learning_rate: Tensor,
    l2: float,
    label_smoothing: float,
    ignored_label: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of gradient descent on a head [D, C], [C] over a batch [B, D]: ``(next weight, next bias, loss)``.

    The loss that comes back is the weighted mean of the smoothed cross-entropy; what is descended also holds
    ``l2 / 2 * |weight|^2``. Examples of ``ignored_label`` count as padding. A batch whose weights are all 0 moves the head
    by the L2 term alone and has loss 0.
    """

    if ignored_label is not None:
        sample_weight = sample_weight * (label != ignored_label).to(sample_weight.dtype)

    def objective(parameters: tuple[Tensor, Tensor]) -> Tensor:
        matrix, offset = parameters
        log_probability = torch.log_softmax(embedding @ matrix + offset, dim=1)
        # A comparison instead of one_hot, and no cross_entropy: the exporter does not know their backward.
        hit = (label.unsqueeze(1) == torch.arange(matrix.shape[1])).to(log_probability.dtype)
        target = hit * (1.0 - label_smoothing) + label_smoothing / matrix.shape[1]
        loss = -(target * log_probability).sum(dim=1)
        return (loss * sample_weight).sum() / sample_weight.sum().clamp(min=1e-6)

    (weight_gradient, bias_gradient), loss = grad_and_value(objective)((weight, bias))
    # The L2 term's gradient by hand: traced, it would put a constant of the weight's size into the file.
    weight_gradient = weight_gradient + l2 * weight
    return weight - learning_rate * weight_gradient, bias - learning_rate * bias_gradient, loss


def export_step(
    *, dimensions: int, classes: int, batch_size: int, l2: float, label_smoothing: float, ignored_label: int | None = None
) -> bytes:
    """``step.onnx`` for a head [D, C] and batches of exactly B.

    Inputs: ``head.weight``, ``head.bias``, ``embedding`` [B, D], ``label`` int64 [B], ``sample_weight`` [B] (0 for padding),
    ``learning_rate`` []. Outputs: ``head.weight.next``, ``head.bias.next``, ``loss`` [].
    """
    batch = {
        "embedding": torch.ones(batch_size, dimensions),
        "label": torch.zeros(batch_size, dtype=torch.int64),
        "sample_weight": torch.ones(batch_size),
        "learning_rate": torch.tensor(0.1),
    }

    def step(weight: Tensor, bias: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        named = dict(zip(batch, rest, strict=True))
        return head_step(weight, bias, **named, l2=l2, label_smoothing=label_smoothing, ignored_label=ignored_label)

    example = (torch.zeros(dimensions, classes), torch.zeros(classes), *batch.values())
    return onnx_bytes(
        make_fx(step)(*example),
        example,
        input_names=(HEAD_WEIGHT, HEAD_BIAS, *batch),
        output_names=(f"{HEAD_WEIGHT}.next", f"{HEAD_BIAS}.next", "loss"),
    )
