"""A small real fleet in one folder, used three ways: by the tests, as the rounds process, and as a process of devices.

    python fleet_world.py rounds FOLDER
    python fleet_world.py devices FOLDER NAME...

Everything is real: SuperLink, secure aggregation, the registry, each device's database and its onnxruntime sessions. The
model is the tiny one of the device's own tests. A name may carry an order: ``device-4:die=query.shares`` (kill -9 of its own
process when that message comes), ``device-5:claim=device-1`` (answers under another's id).
"""

import importlib.util
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from edge_client.rounds.budget import ContributionBudget
from fedge.calendar import Calendar
from fedge.identity import DeviceIdentity, load_identity, request_certificate, verify_certificate
from fedge.release import load_private_key, save_private_key

NAME = "test"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LIFE_S = 7200.0
CALENDAR_S = 4.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def authority_key(folder: Path) -> Ed25519PublicKey:
    return load_private_key(folder / "authority.pem").public_key()


def tiny() -> Any:
    """The device tests' tiny model."""
    path = Path(__file__).parents[1] / "edge_client" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_release", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_release"] = module
    spec.loader.exec_module(module)
    return module


def make_folder(folder: Path, *, devices: int, n_min: int, phase_timeout_s: float = 8.0) -> None:
    """Keys of the federation, enrolled devices with something to train on, and settings."""
    from aggregator.fleet.enrollment import Enrolment
    from aggregator.fleet.keys import AggregatorKeys

    AggregatorKeys.open(folder / "keys")
    save_private_key(folder / "authority.pem", Ed25519PrivateKey.generate())
    enrolment = Enrolment(folder / "enrolment", load_private_key(folder / "authority.pem"))
    (folder / "server.toml").write_text(
        f"superlink_port = {free_port()}\n[rounds]\nn_min = {n_min}\nphase_timeout_s = {phase_timeout_s}\nperiod_s = 0\n"
    )
    for number in range(1, devices + 1):
        _make_device(folder / f"device-{number}", f"device-{number}", enrolment)


def _make_device(folder: Path, name: str, enrolment: Any) -> None:
    folder.mkdir()
    key = Ed25519PrivateKey.generate()
    save_private_key(folder / "identity.pem", key)
    request = request_certificate(enrolment.ca_name, name, key).to_bytes()
    (folder / "identity.der").write_bytes(enrolment.issue(request, now=time.time(), lifetime_s=LIFE_S))
    node = ec.generate_private_key(ec.SECP384R1())
    (folder / "node.key").write_bytes(node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))


def node_keys(folder: Path) -> Mapping[str, bytes]:
    """The public node key of each device that is not listed in ``revoked``."""
    from edge_client.flower.fleet_api import node_public_key

    revoked = (folder / "revoked").read_text().split() if (folder / "revoked").exists() else []
    return {
        path.parent.name: node_public_key(load_ssh_private_key(path.read_bytes(), None))
        for path in sorted(folder.glob("device-*/node.key"))
        if path.parent.name not in revoked
    }


def parts(folder: Path, *, stop: threading.Event | None = None, **changes: Any) -> Any:
    """What the rounds process needs."""
    from aggregator.fleet.keys import AggregatorKeys
    from aggregator.releases.registry import ReleaseRegistry
    from aggregator.rounds.certification import CertificatePolicy
    from aggregator.rounds.client_selection import COHORT_MAX
    from aggregator.rounds.config import RoundSettings
    from aggregator.rounds.coordinator import RoundsParts
    from aggregator.rounds.release_builder import Export, ReleaseMaker
    from aggregator.rounds.server_optimizer import ServerOptimizer
    from aggregator.settings import ServerHome
    from fedge.architectures import DenseHead

    model = tiny()
    keys = AggregatorKeys.open(folder / "keys")
    queries = np.array([[1, 0, 0, 0], [0, 0, 1, 1]], dtype=np.float32)
    training = {
        "learning_rate": 0.5,
        "batch_size": model.BATCH,
        "epochs": 2,
        "clip_norm": 10.0,
        "example_clip_norm": 10.0,
        "weight_cap": 32,
    }

    def export(head: Mapping[str, Any]) -> Export:
        logits = model.logits_of(queries, head).tolist()
        return Export(model.infer_model(head), 1.0, {"queries": queries.tolist(), "logits": logits})

    maker = ReleaseMaker(
        workload="tiny",
        labels=model.LABELS,
        oos_label=None,
        features=model.PixelFeatures(model.PIXELS).to_mapping(),
        architecture=DenseHead(model.WIDTH, len(model.LABELS)),
        first_head=model.weights_of(0.5),
        training=training,
        threshold_grid=model.GRID,
        confidence="max_probability",
        price_book="test",
        export=export,
        release_key=keys.release,
    )
    settings = ServerHome(folder).settings()
    rounds = RoundSettings(
        cohort=settings.rounds.cohort,
        cohort_max=COHORT_MAX,
        n_min=settings.rounds.n_min,
        calendar=Calendar(CALENDAR_S),
        bits=32,
        clip_norm=float(training["clip_norm"]),
        weight_cap=int(training["weight_cap"]),
        max_attempts=5,
        phase_timeout_s=settings.rounds.phase_timeout_s,
        session_timeout_s=3600.0,
        optimizer=ServerOptimizer(kind="fedavgm", learning_rate=1.0, momentum=0.0, tau=0.001),
        certificate=CertificatePolicy(
            max_risk=settings.rounds.max_risk,
            confidence=settings.rounds.confidence,
            lifetime_s=7 * 24 * 3600.0,
            grid=model.GRID,
        ),
        usage_every=1,
    )
    registry = ReleaseRegistry(folder / "registry", keys.release.public_key())
    given = {
        "maker": maker,
        "registry": registry,
        "releases": registry,
        "settings": rounds,
        "release_key": keys.release,
        "round_key": keys.round,
        "verify_certificate": lambda der: verify_certificate(der, authority_key(folder), time.time()),
        "nodes": partial(node_keys, folder),
        "federation": NAME,
        "seed": b"s" * 32,
        "period_s": settings.rounds.period_s,
        "stop": stop or threading.Event(),
    }
    return RoundsParts(**{**given, **changes})


def superlink(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The SuperLink process's command and environment."""
    from aggregator.rounds.superlink.process import prepare_superlink, superlink_command, superlink_environment
    from aggregator.settings import ServerHome

    home = ServerHome(folder)
    files = prepare_superlink(home)
    return superlink_command(files, home.settings().superlink_port), superlink_environment(files)


def run_rounds_process(folder: Path) -> None:
    from aggregator.rounds.coordinator import run_rounds
    from aggregator.settings import ServerHome

    run_rounds(ServerHome(folder), parts(folder))


def participant(folder: Path, name: str) -> Any:
    """A device's participant from what stands in its folder; taught and probed where it is new."""
    from aggregator.fleet.keys import AggregatorKeys
    from aggregator.releases.registry import ReleaseRegistry
    from edge_client.power.accounting import EnergyMeter
    from edge_client.releases.inference import ReleaseLoader
    from edge_client.releases.manager import ReleaseManager
    from edge_client.releases.storage import FolderShelf
    from edge_client.rounds.participant import Federation, Participant
    from edge_client.store import open_file
    from edge_client.training_policy import TrainingPolicy
    from fedge import secagg
    from fedge.costs import PriceBook, load_profiles
    from fedge.routing import Policy
    from sim.source import RegistrySource

    keys = AggregatorKeys.open(folder / "keys")
    authority, release_key = authority_key(folder), keys.release.public_key()
    home = folder / name
    fresh = not (home / "device.sqlite").exists()
    store = open_file(home / "device.sqlite")
    if fresh:
        _teach(store, int(name.rpartition("-")[2]))
    source = RegistrySource(ReleaseRegistry(folder / "registry", release_key))
    releases = ReleaseManager(
        source, shelf=FolderShelf(home / "releases", release_key), store=store, loader=ReleaseLoader(release_key)
    )
    identity: DeviceIdentity = load_identity(home, authority, now=time.time())

    class LivelyParticipant(Participant):
        """Between any two check-ins its user has asked something, so that it always has something to report."""

        def check_in(self, payload: bytes) -> bytes:
            source.refresh()  # as its own channel would
            _teach(store, time.time_ns(), queries=1)
            return super().check_in(payload)

    return LivelyParticipant(
        identity=identity,
        federation=Federation(
            name=NAME,
            round_key=keys.round.public_key(),
            verify_certificate=lambda der: verify_certificate(der, authority, time.time()),
            revoked=frozenset(),
            n_min=2,
            calendar=Calendar(CALENDAR_S),
            budget=ContributionBudget(min_period_s=CALENDAR_S),
        ),
        store=store,
        releases=releases,
        meter=EnergyMeter(PriceBook.load_default(), load_profiles()["raspberry-pi-4"]),
        policy=Policy.default(),
        roles=secagg,
        seed=name.encode().ljust(32, b"."),
        clock=time.time,
        entropy=os.urandom,
        training_policy=TrainingPolicy(max_example_share=math.inf),  # six examples of two labels
    )


def _teach(store: Any, number: int, *, queries: int = 6) -> None:
    from edge_client.store import LabelledQuery, Probe
    from fedge.features import content_hash

    now = time.time()
    for query in np.random.default_rng(number).random((queries, 4), dtype=np.float32):
        digest = content_hash(query)
        label = "left" if query[:2].sum() > query[2:].sum() else "right"
        store.memory.add([LabelledQuery(digest, query, label, "central", now)])
        store.fates.settle({digest: True}, at=now)
        store.probes.record([Probe(digest, query, label, "left", 0.9, "old", 0, True, now)])
        store.count({"answered.device.confident": 1})


def app(folder: Path, name: str, orders: Mapping[str, str]) -> Any:
    """The device's real ClientApp; with orders, one that dies or lies."""
    from edge_client.flower.client_app import build_client_app
    from protos.fedge.rounds.v1 import rounds_pb2

    real = participant(folder, name)
    if "claim" in orders:
        check_in = real.check_in

        def lie(payload: bytes) -> bytes:
            response = rounds_pb2.CheckInResponse.FromString(check_in(payload))
            response.device_id = orders["claim"]
            return bytes(response.SerializeToString())

        real.check_in = lie
    inner = build_client_app(real)

    def outer(message: Any, context: Any) -> Any:
        if message.metadata.message_type == orders.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(message=message, context=context)

    return outer


def key_of(folder: Path, name: str) -> ec.EllipticCurvePrivateKey:
    key = load_ssh_private_key((folder / name / "node.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def start_node(folder: Path, name: str, *, stop: threading.Event, post: Any = None) -> tuple[Any, threading.Thread]:
    """One embedded node in a thread, straight to SuperLink unless told otherwise."""
    from aggregator.rounds.superlink.process import SuperLinkFiles, superlink_address
    from aggregator.settings import ServerHome
    from edge_client.flower.node import EmbeddedNode
    from edge_client.flower.transports import straight

    name, _, order = name.partition(":")
    orders = dict([order.split("=")]) if order else {}
    home = ServerHome(folder)
    way = post or straight(superlink_address(home), SuperLinkFiles(home.superlink).certificate.read_bytes())
    node = EmbeddedNode(way, key_of(folder, name), app(folder, name, orders), stop)
    thread = threading.Thread(target=node.run, name=name, daemon=True)
    thread.start()
    return node, thread


def run_devices(folder: Path, names: list[str]) -> None:
    stop = threading.Event()
    threads = [start_node(folder, name, stop=stop)[1] for name in names]
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    part, where, *rest = sys.argv[1:]
    if part == "rounds":
        run_rounds_process(Path(where))
    else:
        run_devices(Path(where), rest)
