"""digits: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998), with handwriting styles.

Real and without a download. A third each for server, devices and test. The server's third is written in styles of its
own, so that the strong model has met many hands; a test digit carries the style of one of the fleet's devices, in turn.
"""

import gzip
import hashlib
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from aggregator.workbench.workloads.base import Split, Workload
from aggregator.workbench.workloads.handwriting import Handwriting
from aggregator.workbench.workloads.partition import stratified_parts
from fedge.features import PixelFeatures
from fedge.randomness import derive, generator

_SERVER_COPIES, _SERVER_HANDS = 8, 400  # each of the server's digits is written 8 times, by 400 hands in turn


def load_handwritten_digits(*, seed: bytes, devices: int) -> Workload:
    """The workload for a fleet of ``devices``; ``devices`` only decides whose styles the test digits carry."""
    data = load_digits()
    pixels = (data.data / 16.0).astype(np.float32)
    labels = data.target.astype(np.int64)
    parts = stratified_parts(labels, (1 / 3, 1 / 3, 1 / 3), generator(seed, "digits", "parts"))
    server, pool, test = (Split(pixels[rows], labels[rows], labels[rows]) for rows in parts)
    writing = Handwriting(derive(seed, "digits"))
    test_device = np.arange(len(test), dtype=np.int64) % devices
    return Workload(
        name="digits",
        labels=tuple(str(digit) for digit in range(10)),
        oos_label=None,
        features=PixelFeatures(size=64),
        topics={str(digit): "even" if digit % 2 == 0 else "odd" for digit in range(10)},
        server=_in_many_hands(server, writing, seed),
        devices=pool,
        test=_in_device_hands(test, test_device, writing, seed),
        test_device=test_device,
        data_sha256=_file_sha256(),
        note=(
            "real digits; a handwriting style per device and small random shifts on every further pass are simulated; "
            f"the server's third is written in {_SERVER_COPIES} styles each, a test digit once, in its device's"
        ),
        handwriting=writing,
    )


def _in_many_hands(split: Split, writing: Handwriting, seed: bytes) -> Split:
    draw = generator(seed, "digits", "server")
    rows = np.tile(np.arange(len(split), dtype=np.int64), _SERVER_COPIES)
    written = [
        writing.write(np.asarray(split.queries[row]).reshape(1, -1), f"server-{number % _SERVER_HANDS}", draw)[0]
        for number, row in enumerate(rows.tolist())
    ]
    return Split(np.stack(written), split.labels[rows], split.groups[rows])


def _in_device_hands(split: Split, device: NDArray[np.int64], writing: Handwriting, seed: bytes) -> Split:
    draw = generator(seed, "digits", "test")
    written = [
        writing.write(np.asarray(split.queries[row]).reshape(1, -1), int(writer), draw)[0]
        for row, writer in enumerate(device)
    ]
    return Split(np.stack(written), split.labels, split.groups)


def _file_sha256() -> str:
    packed = (resources.files("sklearn.datasets.data") / "digits.csv.gz").read_bytes()
    return hashlib.sha256(gzip.decompress(packed)).hexdigest()
