"""The strong model for pictures: a support vector machine with a Gaussian kernel, its votes turned into probabilities."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

from aggregator.workbench.strong.calibration import softmax
from aggregator.workbench.workloads.base import Workload
from fedge.features import FeatureSpec, Query, features_from_mapping
from fedge.randomness import generator

_REGULARIZATION = 3.0
_WIDTH = 1.3  # of the kernel, in units of scikit-learn's gamma="scale"
# The one-against-rest votes of an SVC lie about one apart: this makes probabilities of them, at about the least log loss.
_SHARPNESS = 3.0


class PixelModel:
    """Pixel vectors to probabilities; labels that the server's part lacks have none. Fits itself when it is made."""

    name = "support vector machine (Gaussian kernel) on pixels"

    def __init__(self, pixels: NDArray[np.float32], labels: NDArray[np.int64], features: FeatureSpec, classes: int) -> None:
        gamma = _WIDTH / (pixels.shape[1] * float(pixels.var()))
        self._machine = SVC(C=_REGULARIZATION, gamma=gamma, decision_function_shape="ovr")
        self._machine.fit(pixels, labels)
        self._fitted_on = (pixels, labels)
        self._features = features
        self._classes = classes

    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Probabilities float32 [n, C]. Raises InputError for a query that is no such picture."""
        probabilities = np.zeros((len(queries), self._classes), dtype=np.float32)
        if len(queries) == 0:
            return probabilities
        pixels = self._features.encode(queries)["pixels"]
        votes = np.asarray(self._machine.decision_function(pixels), dtype=np.float64)
        if votes.ndim == 1:  # two labels have one column between them
            votes = np.stack([-votes, votes], axis=1)
        probabilities[:, self._machine.classes_] = softmax(votes, _SHARPNESS)
        return probabilities

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What the model is made of: the examples, since scikit-learn's own way to store a machine is pickle."""
        pixels, labels = self._fitted_on
        return {"features": self._features.to_mapping(), "classes": self._classes}, {"pixels": pixels, "labels": labels}

    @staticmethod
    def of_stored(plain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "PixelModel":
        """The inverse of `stored`: the same machine, fitted again on the same examples (a second or two)."""
        return PixelModel(arrays["pixels"], arrays["labels"], features_from_mapping(plain["features"]), plain["classes"])


def train_pixel_model(workload: Workload, seed: bytes, *, progress: Callable[[str], None]) -> PixelModel:
    """Fit on the server's part and, where users have handwritings, on a copy of it in further hands."""
    progress("training central's strong model")
    pixels: NDArray[np.float32] = workload.features.encode(workload.server.queries)["pixels"]
    labels = workload.server.labels
    if workload.handwriting is not None:
        # One more hand for each is worth half a point on digits (five seeds), two more nothing beyond that.
        noise = generator(seed, "strong model", "hands")
        further = [
            workload.handwriting.write(row.reshape(1, -1), f"central-{number}", noise) for number, row in enumerate(pixels)
        ]
        pixels, labels = np.concatenate([pixels, *further]), np.tile(labels, 2)
    return PixelModel(pixels, labels, workload.features, len(workload.labels))
