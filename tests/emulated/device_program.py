"""One device of the test's cohort: the device's own code around a folder that holds its key, its queries and the release.

    python device_program.py FOLDER       answers requests on standard input until it ends

On the emulated board it runs as that program; its x86 peers are the same class in the test's process. Requests and answers
are a line of JSON and then bytes.
"""

import fedge  # noqa: F401, I001 - switches telemetry off, which it must do before Flower is imported

import json
import os
import platform
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from flwr.app import ConfigRecord, Message, RecordDict

from edge_client.power.accounting import EnergyMeter
from edge_client.flower.client_app import PAYLOAD, VECTOR, build_client_app
from edge_client.releases.inference import ReleaseLoader
from edge_client.releases.manager import Latest, ReleaseManager, ReleasePieces
from edge_client.releases.storage import FolderShelf
from edge_client.rounds.updates import make_update
from edge_client.rounds.participant import Federation, Participant
from edge_client.store import LabelledQuery, open_file
from fedge import secagg
from fedge.costs import PriceBook, load_profiles
from fedge.features import content_hash
from fedge.identity import DeviceIdentity, verify_certificate
from fedge.randomness import derive
from fedge.layouts import UpdateLayout
from fedge.release import Release, flatten, read_release
from fedge.routing import Policy
from fedge.secagg import SessionConfig
from fedge.secagg.rotation import padded_length, rotated_scale, rotation_seed
from sim.grid import InProcessGrid, Node, node_context

SEED = b"s" * 32


@dataclass(frozen=True)
class Answer:
    """``head`` says what ``blobs`` are."""

    head: dict[str, Any]
    blobs: tuple[bytes, ...] = ()


def update_config(release: Release, *, n_min: int, now: float) -> SessionConfig:
    """The session of updates on a release."""
    training, reals = release.manifest.training, padded_length(len(flatten(release.weights())))
    clip_norm = float(training["clip_norm"])
    return SessionConfig(
        reals=reals,
        integers=UpdateLayout().integers,
        bits=32,
        cohort_max=16,
        scale=rotated_scale(clip_norm, reals),
        clip_norm=clip_norm,
        weight_cap=int(training["weight_cap"]),
        n_min=n_min,
        deadline=now + 600,
    )


class Published:
    """A source with one release."""

    def __init__(self, folder: Path, key: Ed25519PublicKey) -> None:
        self.release = read_release(folder, key)

    def latest(self) -> Latest:
        return Latest(self.release.release_id, None)

    def fetch(self, release_id: str, have: Collection[str]) -> ReleasePieces:
        assert release_id == self.release.release_id
        release = self.release
        files = {release.manifest.files[name]: data for name, data in release.files.items()}
        return ReleasePieces(release.manifest.to_bytes(), release.signature, files)


class BoardDevice:
    """A device with its store on disk, answering what the test asks and what Flower's messages bring."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "device.json").read_text())
        self.now, self.n_min = told["now"], told["n_min"]
        self.queries: list[str] = told["queries"]
        self.seed = derive(SEED, told["device_id"])
        keys = {
            name: Ed25519PublicKey.from_public_bytes(bytes.fromhex(told[name])) for name in ("release", "authority", "round")
        }
        self.store = open_file(folder / "device.sqlite")
        self.store.memory.add(
            [LabelledQuery(content_hash(query), query, label, "central", self.now) for query, label in told["labelled"]]
        )
        self.releases = ReleaseManager(
            Published(Path(told["published"]), keys["release"]),
            shelf=FolderShelf(folder / "shelf", keys["release"]),
            store=self.store,
            loader=ReleaseLoader(keys["release"]),
        )
        self.releases.sync()
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(told["private"]))
        participant = Participant(
            identity=DeviceIdentity(told["device_id"], private, bytes.fromhex(told["certificate"])),
            federation=Federation(
                name=told["federation"],
                round_key=keys["round"],
                verify_certificate=lambda der: verify_certificate(der, keys["authority"], self.now),
                revoked=frozenset(),
                n_min=told["n_min"],
            ),
            store=self.store,
            releases=self.releases,
            meter=EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"]),
            policy=Policy.default(),
            roles=secagg,
            seed=self.seed,
            clock=lambda: self.now,
            entropy=os.urandom,
        )
        self.node = Node(build_client_app(participant), node_context(1))

    def machine(self) -> Answer:
        """What this runs on."""
        import onnxruntime

        return Answer(
            {"machine": platform.machine(), "libc": platform.libc_ver()[1], "onnxruntime": onnxruntime.__version__}
        )

    def features(self) -> Answer:
        """The features of the queries, name by name."""
        active = self.releases.active
        assert active is not None
        encoded = active.loaded.session._features.encode(self.queries)
        names = sorted(encoded)
        shapes = [[str(encoded[name].dtype), *encoded[name].shape] for name in names]
        return Answer({"names": names, "shapes": shapes}, tuple(encoded[name].tobytes() for name in names))

    def logits(self) -> Answer:
        """What the model says of each query alone."""
        active = self.releases.active
        assert active is not None
        rows = [active.loaded.session.predict([query]) for query in self.queries]
        parts = (np.concatenate([row.logits for row in rows]), np.concatenate([row.embedding for row in rows]))
        return Answer({}, tuple(part.tobytes() for part in parts))

    def update(self) -> Answer:
        """What training on the labelled queries gives, as the first session's update."""
        active = self.releases.active
        assert active is not None
        release = active.loaded.release
        made = make_update(self.store, active.loaded, seed=derive(self.seed, "training", 1, 1))
        config = update_config(release, n_min=self.n_min, now=self.now)
        reals, integers = made.coordinates(config, rotation_seed(release.release_id, 1, 1))
        return Answer({"steps": made.steps}, (np.asarray(reals, np.float64).tobytes(), integers.tobytes()))

    def deliver(self, kind: str, payload: bytes) -> Answer:
        """One of Flower's messages through the device's `ClientApp`."""
        grid = InProcessGrid({1: self.node}, absent=lambda *_: False)
        message = Message(RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: payload})}), 1, kind)
        (reply,) = grid.send_and_receive([message])
        if reply.has_error():
            return Answer({"error": reply.error.reason})
        arrays = reply.content.array_records.get(VECTOR)
        vector = () if arrays is None else (bytes(arrays[VECTOR].data),)
        return Answer({}, (reply.content.config_records[PAYLOAD][PAYLOAD], *vector))


def write(stream: IO[bytes], head: dict[str, Any], *blobs: bytes) -> None:
    """One request or answer."""
    stream.write(json.dumps({**head, "sizes": [len(blob) for blob in blobs]}).encode() + b"\n" + b"".join(blobs))
    stream.flush()


def read(stream: IO[bytes]) -> tuple[dict[str, Any], tuple[bytes, ...]] | None:
    """The next request or answer; None at the end."""
    line = stream.readline()
    if not line:
        return None
    head = json.loads(line)
    return head, tuple(stream.read(size) for size in head.pop("sizes"))


def main() -> None:
    """Answer until standard input ends. Nothing else may write to standard output: it becomes standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    device = BoardDevice(Path(sys.argv[1]))
    write(answers, {"ready": True})
    while (request := read(sys.stdin.buffer)) is not None:
        head, blobs = request
        answer = device.deliver(head["kind"], blobs[0]) if head["do"] == "deliver" else getattr(device, head["do"])()
        write(answers, answer.head, *answer.blobs)


if __name__ == "__main__":
    main()
