"""The device model of a workload: made once with torch, then a pair of files for each round with onnx and numpy alone.

`build_device_model` imports torch when it is called; whoever only exports a round's head (`quantized`) never needs it. Never
sees a query of a device or of the test part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.model_files import (
    EMBEDDING,
    LOGITS,
    agreement_of,
    answers,
    run_model,
    with_head,
)
from aggregator.workbench.quantize import quantize_encoder
from aggregator.workbench.training_config import recipe_for
from aggregator.workbench.workloads.base import Split, Workload
from fedge.architectures import HEAD_BIAS, HEAD_WEIGHT, DenseHead
from fedge.errors import InputError
from fedge.features import FeatureSpec, Query
from fedge.randomness import derive, generator
from fedge.release import Weights

Progress = Callable[[int, int], None]
"""Called with (epochs done, epochs in all)."""

_CALIBRATION_ROWS = 512
_SELF_TEST_QUERIES = 8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DeviceModel:
    """What all rounds share. ``infer``: the fp32 file, ``infer_int8``: the same with a quantized encoder.

    ``architecture``: of the head that devices train. ``head``: the first release's. ``training``: for the manifest, the
    server optimizer's settings included. ``holdout``: inputs of server queries that trained nothing, with
    ``holdout_labels`` int64 [n]; ``self_test_queries`` are among them.
    """

    features: FeatureSpec
    labels: tuple[str, ...]
    infer: bytes
    infer_int8: bytes
    architecture: DenseHead
    head: Weights
    training: Mapping[str, float | str]
    holdout: Mapping[str, NDArray[Any]]
    holdout_labels: NDArray[np.int64]
    self_test_queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A round's files. ``infer``: int8, what devices get; ``infer_fp32``: what it was made from.

    ``agreement``: share of held-out server queries with the same answer from both (`model_files.agreement`), for the gate.
    ``right`` of ``held_out`` such queries the int8 file answers with their label.
    ``self_test_logits``: of the int8 file for the model's ``self_test_queries``, one row [C] each.
    """

    infer: bytes
    infer_fp32: bytes
    agreement: float
    right: int
    held_out: int
    self_test_logits: list[list[float]]


def build_device_model(
    workload: Workload,
    seed: bytes,
    *,
    warm_start: bool = False,
    dimensions: int | None = None,
    progress: Progress | None = None,
) -> DeviceModel:
    """Train the encoder on the workload's server part, export it, quantize it. Under a minute on one core for clinc150.

    ``warm_start``: the head learns from the server part, too; else it is all zeros. ``dimensions`` of the embedding: the
    recipe's, unless given. Raises InputError for a server part that is too small to hold some of it out.
    """
    # Here and not above: only the building of a model needs torch.
    from aggregator.workbench.architectures import DeviceNetwork, encoder_for
    from aggregator.workbench.encoder_training import fit_head, seeded, train_encoder
    from aggregator.workbench.export import export_infer

    recipe = recipe_for(workload.features)
    width = dimensions or recipe.dimensions
    classes = len(workload.labels)
    kept, held = _hold_out(workload.server, recipe.holdout_share, generator(seed, "device model", "holdout"))
    train, holdout = workload.server.take(kept), workload.server.take(held)
    inputs = workload.features.encode(train.queries)
    with seeded(derive(seed, "device model", "encoder")):
        encoder = encoder_for(workload.features, dimensions=width)
        train_encoder(
            encoder,
            inputs,
            train.labels,
            classes=classes,
            training=recipe.encoder,
            progress=progress,
        )
        infer = export_infer(DeviceNetwork(encoder, classes), workload.features.encode(train.queries[:2]))
        calibration = {name: array[:_CALIBRATION_ROWS] for name, array in inputs.items()}
        infer_int8 = quantize_encoder(infer, calibration)
        if warm_start:
            head = fit_head(run_model(infer_int8, inputs, [EMBEDDING])[EMBEDDING], train.labels, classes=classes)
        else:
            head = zero_head(dimensions=width, classes=classes)
    return DeviceModel(
        features=workload.features,
        labels=workload.labels,
        infer=with_head(infer, head),
        infer_int8=with_head(infer_int8, head),
        architecture=DenseHead(width, classes),
        head=head,
        training=recipe.training,
        holdout=workload.features.encode(holdout.queries),
        holdout_labels=holdout.labels,
        self_test_queries=tuple(holdout.query(row) for row in range(min(_SELF_TEST_QUERIES, len(holdout)))),
    )


def quantized(model: DeviceModel, head: Weights) -> Quantized:
    """The files of a release with this head. No torch and no calibration: the int8 encoder is the same in every round."""
    infer, infer_fp32 = with_head(model.infer_int8, head), with_head(model.infer, head)
    self_test = run_model(infer, model.features.encode(list(model.self_test_queries)), [LOGITS])[LOGITS]
    answered = answers(infer, model.holdout)
    return Quantized(
        infer=infer,
        infer_fp32=infer_fp32,
        agreement=agreement_of(answered, infer_fp32, model.holdout),
        right=int((answered == model.holdout_labels).sum()),
        held_out=len(answered),
        self_test_logits=[[float(value) for value in row] for row in self_test],
    )


def zero_head(*, dimensions: int, classes: int) -> Weights:
    """A head that knows nothing: every label is equally likely."""
    return {HEAD_WEIGHT: np.zeros((dimensions, classes), np.float32), HEAD_BIAS: np.zeros(classes, np.float32)}


def _hold_out(part: Split, share: float, draw: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on, in random order, and rows held out, at random."""
    held = round(share * len(part))
    if held < 1 or held >= len(part):
        raise InputError(f"the server's part has {len(part)} labelled queries: give it at least {round(1.5 / share)}")
    order = draw.permutation(len(part))
    return order[held:], order[:held]
