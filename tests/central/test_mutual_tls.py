"""Mutual TLS from end to end, with certificates made here: who is let in, who is not, and under which name.

The authority's key is Ed25519, as fedge.identity's; the ends' keys are ECDSA P-256, since gRPC takes no others of ours.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from aggregator.central import ServerTls, serve_in_thread
from edge_client.inference.escalation import ClientTls, EscalationFailed, GrpcCentralClient, Retries
from fedge.errors import InputError

TIMEOUT_S = 30.0
ONCE = Retries(try_timeout_s=TIMEOUT_S, first_wait_s=1e12, max_wait_s=1e12)  # a wait that never fits: no second try


def _name(value: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)])


@dataclass
class Authority:
    folder: Path
    name: str

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.key = Ed25519PrivateKey.generate()
        self.path = self.folder / "ca.pem"
        self.path.write_bytes(self._signed(self.name, self.key, is_authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate_path, key_path = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate_path.write_bytes(self._signed(name, key, is_authority=False))
        key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate_path, key_path

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, *, is_authority: bool) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2049, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(self.key, None).public_bytes(Encoding.PEM)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "fleet", "fleet authority")


@pytest.fixture
def stranger(tmp_path):
    return Authority(tmp_path / "stranger", "another authority")


@pytest.fixture
def port(service, authority):
    certificate, key = authority.issue("localhost")
    with serve_in_thread(service, grace_s=0.5, tls=ServerTls(certificate, key, authority.path)) as port:
        yield port


def _client(port: int, tls: ClientTls) -> GrpcCentralClient:
    return GrpcCentralClient(f"localhost:{port}", tls.credentials(), retries=ONCE)


def test_a_device_with_its_certificate_is_answered(port, authority, ask):
    with _client(port, ClientTls(authority.path, *authority.issue("dev"))) as client:
        assert client.answer(ask("17", device="dev"), TIMEOUT_S).label == "label-17"


def test_a_device_cannot_ask_in_the_name_of_another(port, authority, service, ask):
    with _client(port, ClientTls(authority.path, *authority.issue("dev"))) as client:
        with pytest.raises(EscalationFailed, match="does not name device 'victim'") as caught:
            client.answer(ask("17", device="victim"), TIMEOUT_S)
        assert caught.value.status == grpc.StatusCode.PERMISSION_DENIED
    assert service.served() == {}


def test_a_certificate_of_another_authority_is_refused_by_the_server(port, authority, stranger, service, ask):
    with _client(port, ClientTls(authority.path, *stranger.issue("dev"))) as client:
        with pytest.raises(EscalationFailed) as caught:
            client.answer(ask("17", device="dev"), TIMEOUT_S)
        assert caught.value.status == grpc.StatusCode.UNAVAILABLE
    assert service.served() == {}


def test_a_server_of_another_authority_is_refused_by_the_device(port, authority, stranger, service, ask):
    with _client(port, ClientTls(stranger.path, *authority.issue("dev"))) as client:
        with pytest.raises(EscalationFailed) as caught:
            client.answer(ask("17", device="dev"), TIMEOUT_S)
        assert caught.value.status == grpc.StatusCode.UNAVAILABLE
    assert service.served() == {}


@pytest.mark.parametrize("credentials", ["none", "no certificate"])
def test_a_caller_without_a_certificate_is_refused(port, authority, service, ask, credentials):
    own = None if credentials == "none" else grpc.ssl_channel_credentials(authority.path.read_bytes())
    with GrpcCentralClient(f"localhost:{port}", own, retries=ONCE) as client, pytest.raises(EscalationFailed) as caught:
        client.answer(ask("17"), TIMEOUT_S)
    assert caught.value.status == grpc.StatusCode.UNAVAILABLE
    assert service.served() == {}


def test_a_missing_file_is_named(authority, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pem"):
        ServerTls(tmp_path / "nowhere.pem", *authority.issue("localhost")).credentials()
    with pytest.raises(InputError, match=r"nowhere\.pem"):
        ClientTls(tmp_path / "nowhere.pem", *authority.issue("dev")).credentials()


def test_the_client_sends_nothing_beyond_loopback_without_tls():
    with pytest.raises(InputError, match="without TLS"):
        GrpcCentralClient("central.example.org:443")
