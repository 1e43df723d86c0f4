"""A device's folder with real keys and certificates, and real servers on loopback to be reached or not."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edge_client.settings import DeviceHome, DeviceSettings

NOW = 1_767_225_600.0
HOUR = 3600.0
FAR = (NOW - 20 * 365 * 24 * HOUR, NOW + 20 * 365 * 24 * HOUR)


class Authority:
    """Issues certificates that hold from and to given times (UNIX seconds)."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.key = folder, name, ec.generate_private_key(ec.SECP256R1())
        folder.mkdir()
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(self._sign(name, self.key, FAR, authority=True).public_bytes(Encoding.PEM))

    def issue(self, name: str, holds: tuple[float, float] = FAR) -> tuple[bytes, bytes]:
        """Certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self._sign(name, key, holds, authority=False).public_bytes(Encoding.PEM), pem

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, holds: tuple[float, float], *, authority: bool):
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        begins, ends = (datetime.fromtimestamp(each, UTC) for each in holds)
        builder = x509.CertificateBuilder(named(self.name), named(name), key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(begins).not_valid_after(ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if not authority:
            names = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, SHA256())


@dataclass
class Fleet:
    """An authority, a device's folder, and servers as a test wants them."""

    authority: Authority
    home: DeviceHome
    stack: ExitStack
    folder: Path

    def give(self, *, holds: tuple[float, float] = (NOW - HOUR, NOW + 23 * HOUR), by: Authority | None = None) -> None:
        """Everything that a device has after it joined, its certificates holding as given."""
        certificate, key = (by or self.authority).issue("device-1", holds)
        home = self.home
        home.folder.mkdir(exist_ok=True)
        home.tls_authority.write_bytes(self.authority.certificate.read_bytes())
        home.tls_certificate.write_bytes(certificate)
        home.identity_certificate.write_bytes(x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER))
        for path in (home.tls_key, home.identity_key, home.node_key):
            path.write_bytes(key)
            path.chmod(0o600)

    def settings(self, port: int = 1, *, host: str = "127.0.0.1", **more: object) -> DeviceSettings:
        """Settings whose door and central are on ``port``, written to the folder."""
        fields = {"device_id": "device-1", "fleet": f"{host}:{port}", "central": f"{host}:{port}", **more}
        text = "\n".join(f'{name} = "{value}"' for name, value in fields.items())
        self.home.settings_file.write_text(text)
        return self.home.settings()

    def grpc_server(self, *, name: str = "127.0.0.1", holds: tuple[float, float] = FAR, by: Authority | None = None) -> int:
        """A gRPC server that wants certificates of this fleet; returns its port."""
        certificate, key = (by or self.authority).issue(name, holds)
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)], self.authority.certificate.read_bytes(), require_client_auth=True
        )
        server = grpc.server(futures.ThreadPoolExecutor(1))
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        self.stack.callback(lambda: server.stop(None).wait())
        return port

    def tcp_server(self, serve: Callable[[socket.socket], None]) -> int:
        """A server that does ``serve`` with each connection; returns its port."""
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        serve(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def stop() -> None:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

        self.stack.callback(stop)
        return int(listener.getsockname()[1])

    def tls_context(self, *, name: str = "127.0.0.1") -> ssl.SSLContext:
        """A server's side of TLS, under this fleet's authority."""
        certificate, key = self.authority.issue(name)
        both = self.folder / f"server-{name}.pem"
        both.write_bytes(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        made = Fleet(Authority(tmp_path / "fleet", "fleet"), DeviceHome(tmp_path / "device"), stack, tmp_path)
        made.give(holds=FAR)
        yield made


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "stranger", "stranger")


@pytest.fixture(scope="session")
def now() -> float:
    return NOW


@pytest.fixture(scope="session")
def hour() -> float:
    return HOUR
