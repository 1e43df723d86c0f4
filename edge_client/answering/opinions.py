"""What the device itself thinks of queries, before anyone decides who answers: a label and a calibrated confidence each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_client.releases.loading import LoadedRelease
from fedge.errors import FedgeError
from fedge.features import Query
from fedge.routing import confidence, softmax


@dataclass(frozen=True, slots=True)
class Opinion:
    """The device's own answer and how sure it is; without a release there is no label, and no confidence."""

    label: str | None
    confidence: float


class ModelFailed(FedgeError):  # noqa: N818 - an event that the watch counts
    """A model gave what is no number."""


def opinions(loaded: LoadedRelease | None, queries: Sequence[Query]) -> list[Opinion]:
    """One opinion a query. Raises InputError for a query that the release's features refuse, ModelFailed."""
    if loaded is None:
        return [Opinion(None, 0.0)] * len(queries)
    manifest = loaded.release.manifest
    logits = loaded.session.predict(queries).logits
    if not np.isfinite(logits).all():
        raise ModelFailed("the model gave a logit that is no finite number")
    sure = confidence(softmax(logits, manifest.temperature), manifest.confidence)
    return [Opinion(manifest.labels[i], float(c)) for i, c in zip(logits.argmax(axis=1), sure, strict=True)]
