"""clinc150: 150 intents in 10 domains and out-of-scope queries (Larson et al. 2019, CC BY 3.0), typed by crowd workers.

The server owns a random half of the training queries, the devices ask the other half and the validation queries, and
the test queries measure, untouched. Domains are the groups for the uneven split, since the data has no users.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.workloads.base import Split, Workload
from aggregator.workbench.workloads.data import Source, checked, find, read_decompressed
from aggregator.workbench.workloads.partition import stratified_parts
from fedge.features import TextFeatures
from fedge.randomness import generator

OOS = "oos"
_REPOSITORY = "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data"
_QUERIES = Source(
    path="clinc150/data_full.json",
    url=f"{_REPOSITORY}/data_full.json",
    sha256="36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
)
_DOMAINS = Source(
    path="clinc150/domains.json",
    url=f"{_REPOSITORY}/domains.json",
    sha256="b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a",
)

Rows = list[tuple[str, str]]


def load_clinc150(*, seed: bytes, data_file: Path | None) -> Workload:
    """The workload; ``data_file`` is a copy of data_full.json(.gz). Raises InputError where the data cannot be had."""
    beside = None
    if data_file is None:
        content = find(_QUERIES)
    else:
        content, beside = checked(read_decompressed(data_file), _QUERIES, origin=str(data_file)), data_file.parent
    parts: dict[str, list[list[str]]] = json.loads(content)
    rows: dict[str, Rows] = {part: [(text, label) for text, label in pairs] for part, pairs in parts.items()}
    domains: dict[str, list[str]] = json.loads(find(_DOMAINS, beside=beside))
    topics = {label: domain for domain, labels in domains.items() for label in labels}
    labels = (*sorted(topics), OOS)

    server, others = _halves(rows["train"], generator(seed, "clinc150", "train"))
    server_oos, other_oos = _halves(rows["oos_train"], generator(seed, "clinc150", "oos"))
    test = _split(rows["test"] + rows["oos_test"], labels, topics)
    return Workload(
        name="clinc150",
        labels=labels,
        oos_label=OOS,
        features=TextFeatures(),
        topics=topics,
        server=_split(server + server_oos, labels, topics),
        devices=_split(others + rows["val"] + rows["oos_val"] + other_oos, labels, topics),
        test=test,
        test_device=np.full(len(test), -1, dtype=np.int64),
        data_sha256=_QUERIES.sha256,
        note=(
            "real queries; a device's queries come again with small random changes once it has asked them all; devices "
            "share 150 out-of-scope queries, which are as frequent as in the test set"
        ),
        oos_share=len(rows["oos_test"]) / len(test),
    )


def _halves(rows: Rows, draw: np.random.Generator) -> tuple[Rows, Rows]:
    names = sorted({label for _, label in rows})
    labels = np.array([names.index(label) for _, label in rows], dtype=np.int64)
    first, second = stratified_parts(labels, (0.5, 0.5), draw)
    return [rows[i] for i in first.tolist()], [rows[i] for i in second.tolist()]


def _split(rows: Rows, labels: tuple[str, ...], topics: dict[str, str]) -> Split:
    number = {label: index for index, label in enumerate(labels)}
    domain = {name: index for index, name in enumerate(sorted(set(topics.values())))}
    group = {label: domain[topic] for label, topic in topics.items()}

    def column(values: list[int]) -> NDArray[np.int64]:
        return np.array(values, dtype=np.int64)

    return Split(
        [text for text, _ in rows],
        column([number[label] for _, label in rows]),
        column([group.get(label, -1) for _, label in rows]),
    )
