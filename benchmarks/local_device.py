"""A joined device in a folder, and a central service for it, made from nothing: for benchmarks and tests on one machine.

Real keys, certificates, release, signature and certificate document; the model is an int8 embedding bag with random weights,
so its answers mean nothing and cost what real ones cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from aggregator.central import CentralService, Limits, Pricing, ServerTls
from edge_client.releases.storage import FolderShelf
from edge_client.settings import DeviceHome
from edge_client.store import InstalledRelease, open_file
from fedge.architectures import DenseHead
from fedge.costs import PriceBook
from fedge.features import Query, TextFeatures
from fedge.identity import TrustRoot, issue_certificate
from fedge.release import (
    INFER,
    CertificateDocument,
    Manifest,
    Release,
    encoder_sha256,
    file_hashes,
    save_private_key,
    sign_release,
    structure_sha256,
    weights_sha256,
    write_safetensors,
)
from fedge.routing import GridTest, RunningBound, clopper_pearson_upper, statement

LABELS = tuple(f"label-{i}" for i in range(64))
WIDTH = 64
GRID = (0.01, 0.5)
"""Every answer is above the first: no answer of 64 labels is less sure than 1/64."""
DEVICE = "device-1"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The keys of one small fleet and the PEM files of its servers."""

    folder: Path
    authority: Ed25519PrivateKey
    release: Ed25519PrivateKey
    round: Ed25519PrivateKey
    tls_key: ec.EllipticCurvePrivateKey
    tls_certificate: x509.Certificate

    @staticmethod
    def make(folder: Path) -> "Fleet":
        """New keys; the server's certificate names localhost and 127.0.0.1."""
        folder.mkdir(parents=True)
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _certificate("fleet", key, issuer="fleet", issuer_key=key, is_authority=True)
        enrolment, release, round_key = (Ed25519PrivateKey.generate() for _ in range(3))
        fleet = Fleet(folder, enrolment, release, round_key, key, authority)
        (folder / "ca.crt").write_bytes(authority.public_bytes(Encoding.PEM))
        fleet.certify("localhost", folder / "server.crt", folder / "server.key")
        return fleet

    def certify(self, name: str, certificate: Path, key: Path) -> None:
        """A key and a certificate for ``name``, as PEM files."""
        own = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(name, own, issuer="fleet", issuer_key=self.tls_key, is_authority=False)
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key.chmod(0o600)

    def server_tls(self) -> ServerTls:
        """For central."""
        return ServerTls(self.folder / "server.crt", self.folder / "server.key", self.folder / "ca.crt")

    def join(
        self, home: DeviceHome, *, central: str, now: float, device_id: str = DEVICE, settings: Sequence[str] = ()
    ) -> None:
        """Everything that a joined device's folder holds, but a release. ``settings``: further lines of device.toml."""
        home.folder.mkdir(mode=0o700, parents=True)
        identity = Ed25519PrivateKey.generate()
        save_private_key(home.identity_key, identity)
        begin, end = now - 300, now + 86_400
        certificate = issue_certificate(
            self.authority, "fleet", device_id, identity.public_key(), not_before=begin, not_after=end
        )
        home.identity_certificate.write_bytes(certificate)
        self.certify(device_id, home.tls_certificate, home.tls_key)
        home.tls_authority.write_bytes((self.folder / "ca.crt").read_bytes())
        trust = TrustRoot("fleet", self.authority.public_key(), self.release.public_key(), self.round.public_key())
        home.trust.write_bytes(trust.to_bytes())
        lines = [f'device_id = "{device_id}"', 'fleet = "localhost:1"', f'central = "{central}"', *settings]
        home.settings_file.write_text("\n".join(lines) + "\n")

    def install(self, home: DeviceHome, release: Release, *, threshold: float | None, now: float) -> None:
        """A release with its certificate, as a device that took it up before has it. ``threshold``: one of GRID."""
        document = self.certify_release(release, threshold=threshold, now=now)
        FolderShelf(home.releases, self.release.public_key()).put(release)
        store = open_file(home.store)
        store.installed.set(InstalledRelease(release.release_id, release.manifest.version, document, 1))
        store.close()

    def certify_release(self, release: Release, *, threshold: float | None, now: float, number: int = 1) -> bytes:
        """A signed certificate document; without a threshold everything escalates. It asks for no probes."""
        grid = GridTest(None, None, 0, 0, None, 1)
        if threshold is not None:
            grid = GridTest(GRID.index(threshold), threshold, 200, 2, clopper_pearson_upper(2, 200, 0.05), 1)
        content = statement(
            release_id=release.release_id, round=number, grid=grid, running=RunningBound(), max_risk=0.05, tolerance=0.05,
            confidence=0.95, probes_are_new=True, probe_rate=0.0, issued_at=int(now), expires_at=int(now) + 86_400,
        )  # fmt: skip
        return CertificateDocument.sign(self.release, release.release_id, content.to_bytes()).to_bytes()

    def make_release(self, *, version: int = 1, buckets: int = 16_384, seed: int = 1) -> Release:
        """A signed release: about 1 MB at the usual number of buckets."""
        rng = np.random.default_rng(seed)
        weights = {"head.weight": rng.normal(size=(WIDTH, len(LABELS))).astype(np.float32)}
        table = rng.integers(-127, 128, (buckets + 1, WIDTH)).astype(np.int8)
        weights["head.bias"] = np.zeros(len(LABELS), np.float32)
        infer = _infer(table, weights["head.weight"])
        files = {"infer.onnx": infer, "weights.safetensors": write_safetensors(weights)}
        manifest = Manifest(
            version=version, workload="bench", labels=LABELS, oos_label=None,
            features=TextFeatures(buckets=buckets).to_mapping(), files=file_hashes(files),
            architecture=DenseHead(WIDTH, len(LABELS)).to_mapping(), encoder_sha256=encoder_sha256(infer),
            weights_sha256=weights_sha256(weights), structure_sha256=structure_sha256(weights), threshold_grid=GRID,
            temperature=1.0, confidence="max_probability", price_book="bench", self_test={"queries": [], "logits": []},
            metrics={}, parent=None,
            training={
                "learning_rate": 0.1, "batch_size": 16, "epochs": 1, "clip_norm": 1.0, "example_clip_norm": 8.0,
                "weight_cap": 64,
            },
        )  # fmt: skip
        return sign_release(manifest, files, self.release)


def model_of(release: Release) -> int:
    """Bytes of the model that answers."""
    return len(release.files[INFER])


class ConstantModel:
    """A strong model that takes no time: what is measured is the way to it. Always the first label."""

    def predict(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """One row a query."""
        probabilities = np.zeros((len(queries), len(LABELS)), dtype=np.float32)
        probabilities[:, 0] = 1.0
        return probabilities


def central_service(clock: Any) -> CentralService:
    """Central with `ConstantModel`."""
    return CentralService(
        model=ConstantModel(),
        model_name="constant",
        labels=LABELS,
        pricing=Pricing.from_book(PriceBook.load_default()),
        limits=Limits(max_text_bytes=4096),
        clock=clock,
    )


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, *, issuer: str, issuer_key: ec.EllipticCurvePrivateKey, is_authority: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _infer(table: NDArray[np.int8], head: NDArray[np.float32]) -> bytes:
    constants = {
        "table": table,
        "scale": np.array(0.01, np.float32),
        "zero": np.array(0, np.int8),
        "axis": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        "head.weight": head,
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("DequantizeLinear", ["rows", "scale", "zero"], ["wide"]),
        helper.make_node("Unsqueeze", ["weights", "last"], ["shares"]),
        helper.make_node("Mul", ["wide", "shares"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "head.weight"], ["logits"]),
    ]
    inputs = [("ids", TensorProto.INT64, ["n", "t"]), ("weights", TensorProto.FLOAT, ["n", "t"])]
    outputs = [("logits", TensorProto.FLOAT, ["n", len(LABELS)]), ("embedding", TensorProto.FLOAT, ["n", WIDTH])]
    return _model(nodes, inputs, outputs, constants)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> bytes:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    taken, given = ([helper.make_tensor_value_info(*value) for value in side] for side in (inputs, outputs))
    graph = helper.make_graph(nodes, "bench", taken, given, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    serialized: bytes = model.SerializeToString()
    return serialized
