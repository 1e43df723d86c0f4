"""What devices would know without each other: the head of each trained on that device's own labels alone.

The labels are those that the federated run left on the device (central's answers and corrections), the encoder is the
fleet's, and the steps are as many as the device took in all rounds. Measures; nothing of the run is changed by it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_client.releases.inference import InferenceSession
from edge_client.rounds.learner import train
from edge_client.store import DeviceStore
from edge_client.training_policy import training_from_mapping
from fedge.architectures import HEAD_BIAS, HEAD_WEIGHT
from fedge.features import Query
from fedge.randomness import derive
from fedge.release import Release, Weights, flatten, unflatten

ALONE_DEVICES = 10


def right_alone(
    release: Release,
    head: Weights,
    stores: Sequence[DeviceStore],
    test: Sequence[Query],
    truth: NDArray[np.int64],
    *,
    rounds: int,
    seed: bytes,
) -> NDArray[np.int64]:
    """int64 [n]: how many of the devices whose ``stores`` these are answer each test query rightly, from ``head`` on."""
    manifest = release.manifest
    session, architecture = InferenceSession(release), manifest.trained()
    training = training_from_mapping(manifest.training)
    training = replace(training, epochs=training.epochs * rounds)
    index = {label: i for i, label in enumerate(manifest.labels) if label != manifest.oos_label}
    measured = session.predict(test).embedding
    right = np.zeros(len(truth), dtype=np.int64)
    for number, store in enumerate(stores):
        examples = [example for example in store.memory.all() if example.label in index]
        embeddings = architecture.normalize(session.predict([example.query for example in examples]).embedding)
        labels = np.array([index[example.label] for example in examples], dtype=np.int64)
        update = train(architecture, head, embeddings, labels, training=training, seed=derive(seed, "alone", number))
        learned = unflatten(flatten(head) + update.delta, head)
        right += (measured @ learned[HEAD_WEIGHT] + learned[HEAD_BIAS]).argmax(axis=1) == truth
    return right
