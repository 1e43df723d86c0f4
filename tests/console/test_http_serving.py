"""Serving over TLS: a certificate that is renewed while the console serves is shown to new connections."""

import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_certificate import write_certificate
from cryptography.hazmat.primitives.asymmetric import rsa

PATIENCE_S = 30.0
SERVER = """
import sys
from pathlib import Path
from aggregator.http_serving import TlsFiles, listening, serve_http
from fedge import logs

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})

logs.configure("text", part="console")
with listening("127.0.0.1", 0) as listener:
    ready = lambda: print(listener.getsockname()[1], flush=True)
    tls = TlsFiles(Path(sys.argv[1]), Path(sys.argv[2]))
    serve_http(app, listener, ready=ready, tls=tls, look_s=0.02, request_timeout_s=0.5)
"""


class Served:
    """A console's server in a process of its own, which looks at its files all the time."""

    def __init__(self, folder: Path) -> None:
        self.files = write_certificate(folder)
        self.log = (folder / "log").open("w+")
        command = [sys.executable, "-c", SERVER, str(self.files["tls_certificate"]), str(self.files["tls_key"])]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def shown(self) -> str:
        return ssl.get_server_certificate(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def said(self, words: str) -> int:
        return Path(self.log.name).read_text().count(words)

    def until_said(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.said(words):
            assert time.monotonic() < deadline, f"never said: {words}"
            time.sleep(0.02)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(PATIENCE_S)
        server.log.close()
        assert server.process.returncode == 0


def test_new_connections_see_a_renewed_certificate_once_its_key_fits(served: Served, tmp_path: Path) -> None:
    first = served.shown()
    assert first.strip() == served.files["tls_certificate"].read_text().strip()
    (tmp_path / "renewed").mkdir()
    renewed = write_certificate(tmp_path / "renewed", key=rsa.generate_private_key(65537, 2048))  # another type of key, too
    shutil.copy(renewed["tls_certificate"], served.files["tls_certificate"])
    served.until_said("the one before is still shown")
    assert served.shown() == first
    shutil.copy(renewed["tls_key"], served.files["tls_key"])
    served.until_said("was renewed")
    assert served.shown().strip() == renewed["tls_certificate"].read_text().strip()


def test_a_certificate_that_is_damaged_stays_the_one_that_is_shown(served: Served, tmp_path: Path) -> None:
    first = served.shown()
    (tmp_path / "nothing").write_text("nothing")
    (tmp_path / "nothing").replace(served.files["tls_key"])
    served.until_said("the one before is still shown")
    assert served.shown() == first and served.said("the one before is still shown") == 1


def test_a_connection_on_which_half_a_request_comes_is_cut_off(served: Served) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain) as secure,
    ):
        secure.sendall(b"GET / HTTP/1.1\r\n")
        assert b"408" in secure.recv(4096)
        assert secure.recv(4096) == b""
