"""The other way to take part in rounds: an official Flower SuperNode as a process beside the agent.

For whoever wants Flower's own client instead of the embedded node. The SuperNode is given a bridge on loopback, which
carries its requests as the embedded node's travel (through the fleet door), and hands it no bundle but the one without code:
what runs is the installed ``edge_client.flower.app``, never anything shipped. Its limits stand there.
"""

import io
import logging
import os
import ssl
import subprocess
import sys
import threading
import tomllib
import zipfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flwr.proto.fab_pb2 import GetFabResponse

from edge_client.flower.app import APP, HOME
from edge_client.flower.fleet_api import FleetUnreachable, Post
from edge_client.flower.participant_socket import Steps, serve_participant
from edge_client.settings import DeviceHome
from fedge.flower import FLEET_PREFIX, PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from fedge.identity.files import write_file
from fedge.identity.tls import loopback_certificate
from fedge.telemetry import TELEMETRY_SWITCHES

_log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
MAX_BODY_BYTES = 16 * 1024 * 1024
RESTART_S = 5.0
_PROOF = (PUBLIC_KEY_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
_QUIET = {**TELEMETRY_SWITCHES, "FLWR_LOG_LEVEL": "WARNING"}


def run_supernode(post: Post, home: DeviceHome, participant: Steps, *, api_port: int, stop: threading.Event) -> None:
    """Take part in rounds through an official SuperNode until ``stop`` is set; started again whenever it ends.

    ``api_port``: a free port on loopback for the API between the SuperNode and its app.
    """
    folder = home.folder / "supernode"
    folder.mkdir(mode=0o700, exist_ok=True)
    with Bridge(post, folder) as bridge:
        answering = threading.Thread(
            target=serve_participant, args=(participant, home.participant), kwargs={"stop": stop}, daemon=True
        )
        answering.start()
        try:
            while not stop.is_set():
                _run_once(home, folder, bridge, api_port, stop)
                stop.wait(RESTART_S)
        finally:
            stop.set()
            answering.join()


def _run_once(home: DeviceHome, folder: Path, bridge: "Bridge", api_port: int, stop: threading.Event) -> None:
    tools = Path(sys.executable).parent
    command = [
        *(str(tools / "flower-supernode"), "--superlink", f"{LOOPBACK}:{bridge.port}"),
        *("--root-certificates", str(bridge.certificate), "--host", LOOPBACK, "--port", str(api_port)),
        *("--auth-supernode-private-key", str(home.node_key)),
    ]
    path = os.pathsep.join([str(tools), os.environ.get("PATH", "")])
    environment = {
        **os.environ,
        **_QUIET,
        "PATH": path,
        "FLWR_HOME": str(folder / "flwr"),
        HOME: str(home.folder.absolute()),
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - Flower's own command, no shell
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while process.poll() is None and not stop.wait(0.5):
            pass
    finally:
        # It starts processes of its own, which it leaves behind when it is told to end: they are a group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            _log.warning("the SuperNode did not end when it was told to")
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


class Bridge:
    """HTTPS on loopback for one SuperNode; every request goes on by ``post``."""

    def __init__(self, post: Post, folder: Path) -> None:
        self.certificate = folder / "bridge.crt"
        key = folder / "bridge.key"
        _make_certificate(self.certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.certificate, key)
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler(post))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="supernode-bridge", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def __enter__(self) -> "Bridge":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def is_without_code(bundle: bytes) -> bool:
    """Whether a Flower app bundle holds nothing but the name of the app that is installed here."""
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            if (
                set(archive.namelist()) - {".info/CONTENT"} != {"pyproject.toml"}
                or archive.getinfo("pyproject.toml").file_size > 4096
            ):
                return False
            project = tomllib.loads(archive.read("pyproject.toml").decode("utf-8"))
        return bool(project["tool"]["flwr"]["app"]["components"]["clientapp"] == APP) and not project["project"].get(
            "dependencies"
        )
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError):
        return False


def _handler(post: Post) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60.0

        def do_POST(self) -> None:
            """Pass one request on."""
            size = int(self.headers.get("content-length") or 0)
            if size > MAX_BODY_BYTES:
                self._send(413, b"")
                return
            body = self.rfile.read(size)
            proof = {name: self.headers.get(name) or "" for name in _PROOF}
            try:
                with lock:
                    status, answer = post(self.path, proof, body)
            except FleetUnreachable:
                status, answer = 503, b""
            if status == 200 and self.path == FLEET_PREFIX + "get-fab" and not _carries_no_code(answer):
                _log.error("a run's bundle holds code: it is not handed to the SuperNode")
                status, answer = 403, b""
            self._send(status, answer)

        def _send(self, status: int, answer: bytes) -> None:
            self.send_response_only(status)
            self.send_header("content-type", "application/protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged."""

    return Handler


def _carries_no_code(answer: bytes) -> bool:
    return is_without_code(GetFabResponse.FromString(answer).fab.content)


def _make_certificate(path: Path, key_path: Path) -> None:
    now = datetime.now(UTC)
    certificate, key = loopback_certificate(
        "fedge bridge", not_before=now - timedelta(days=1), not_after=now + timedelta(days=3650)
    )
    write_file(key_path, key)
    write_file(path, certificate)
