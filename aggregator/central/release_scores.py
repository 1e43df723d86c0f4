"""What a release's device model would have answered: central runs it on probes to know which ones the device got wrong.

onnxruntime alone, one session for equal bytes, the last few kept; never torch. Only files that `fedge.release.check_model`
passed are loaded, since releases are data here as on a device.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
import onnxruntime

from fedge.errors import FedgeError
from fedge.features import FeatureSpec, Query, features_from_mapping
from fedge.release import INFER, CertificateDocument, Manifest, Release, check_model
from fedge.routing import CertificateStatement, Policy, confidence, route, softmax

_ROWS_A_RUN = 256
_KEPT = 4
THRESHOLD_GRACE_S = 900.0
"""How long after a newer certificate a device may still answer by the one before."""


class PublishedReleases(Protocol):
    """Where released files and certificates are read: `aggregator.releases.registry.ReleaseRegistry`."""

    def release(self, release_id: str) -> Release:
        """Return a whole release, verified. Raises InputError for an unknown id."""
        ...

    def certificate(self, release_id: str) -> CertificateDocument | None:
        """Return the newest certificate of a release."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """What the device's model says of a query, and whether its certified threshold keeps that on the device."""

    label: str
    is_local: bool


@dataclass(slots=True)
class _Model:
    manifest: Manifest
    session: onnxruntime.InferenceSession
    features: FeatureSpec
    thresholds: "OrderedDict[float | None, float]"
    """Certified thresholds, each with the time at which it was last the newest one."""


class ReleaseScores:
    """Scores queries under released models. ``policy`` is what devices are assumed to go by. Safe between threads.

    A device with stricter rules than ``policy`` reports fewer probes than are counted here, never more.
    """

    def __init__(self, releases: PublishedReleases, *, policy: Policy, central_price_usd: float) -> None:
        self._releases = releases
        self._policy = policy
        self._price_usd = central_price_usd
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._lock = Lock()

    def score(self, release_id: str, queries: Sequence[Query], *, now: float) -> list[Score]:
        """Return one score a query. Raises FedgeError for a release that is not published here or cannot be loaded."""
        with self._lock:
            model = self._model(release_id)
            threshold = self._threshold(model, release_id, now)
        manifest = model.manifest
        scores = []
        for start in range(0, len(queries), _ROWS_A_RUN):
            inputs = model.features.encode(list(queries[start : start + _ROWS_A_RUN]))
            logits = np.asarray(model.session.run(["logits"], inputs)[0])
            sure = confidence(softmax(logits, manifest.temperature), manifest.confidence)
            for index, value in zip(logits.argmax(axis=1), sure, strict=True):
                label = manifest.labels[int(index)]
                decided = route(
                    label=label,
                    confidence=float(value),
                    threshold=threshold,
                    policy=self._policy,
                    is_probe=True,
                    online=True,
                    central_price_usd=self._price_usd,
                    oos_label=manifest.oos_label,
                )
                scores.append(Score(label, decided.counted))
        return scores

    def _model(self, release_id: str) -> _Model:
        model = self._models.pop(release_id, None)
        if model is None:
            release = self._releases.release(release_id)
            model = _Model(
                release.manifest,
                _open(release.files[INFER]),
                features_from_mapping(release.manifest.features),
                OrderedDict(),
            )
        self._models[release_id] = model
        while len(self._models) > _KEPT:
            self._models.popitem(last=False)
        return model

    def _threshold(self, model: _Model, release_id: str, now: float) -> float | None:
        """Return the lowest threshold that a device may have had ``THRESHOLD_GRACE_S`` ago or since; None without any."""
        document = self._releases.certificate(release_id)
        newest = None
        if document is not None:
            statement = CertificateStatement.from_bytes(document.statement)
            newest = statement.threshold if now < statement.expires_at else None
        model.thresholds[newest] = now
        model.thresholds.move_to_end(newest)
        while len(model.thresholds) > _KEPT:
            model.thresholds.popitem(last=False)
        usable = [value for value, at in model.thresholds.items() if value is not None and at >= now - THRESHOLD_GRACE_S]
        return min(usable, default=None)


def _open(model: bytes) -> onnxruntime.InferenceSession:
    check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        raise FedgeError(f"onnxruntime cannot load the released model: {str(error)[:200]}") from None
