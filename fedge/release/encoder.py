"""The hash of a release's frozen base: everything in ``infer.onnx`` that the output ``embedding`` depends on.

The head changes with every round and stands in the same file; it is no part of the hash unless the embedding is computed
from it, in which case every round has another base.
"""

import hashlib

from fedge.errors import VerificationError
from fedge.release.onnx_checks import read_model

EMBEDDING = "embedding"


def encoder_sha256(infer: bytes) -> str:
    """Return the hex SHA-256 of the part of a model that gives ``embedding``. Raises VerificationError without one."""
    model = read_model(infer)
    graph = model.graph
    if EMBEDDING not in {output.name for output in graph.output}:
        raise VerificationError(f"model: gives no output {EMBEDDING!r}")
    # By producers, not by the order of the nodes: a runtime sorts them itself.
    producers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    wanted, used, open_names = set[str](), set[int](), [EMBEDDING]
    while open_names:
        name = open_names.pop()
        if name not in wanted:
            wanted.add(name)
            if name in producers:
                used.add(producers[name])
                open_names += graph.node[producers[name]].input
    nodes = [graph.node[place] for place in sorted(used)]
    parts = [f"{entry.domain}:{entry.version}".encode() for entry in model.opset_import]
    parts += [value.SerializeToString(deterministic=True) for value in graph.input if value.name in wanted]
    parts += [node.SerializeToString(deterministic=True) for node in nodes]
    tensors = sorted((tensor for tensor in graph.initializer if tensor.name in wanted), key=lambda tensor: tensor.name)
    parts += [tensor.SerializeToString(deterministic=True) for tensor in tensors]
    digest = hashlib.sha256(b"fedge/encoder/1")
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
