"""Flower's SuperLink as a process: its files, its command, its environment.

It listens on loopback alone, with TLS 1.3, demands registered node keys, and keeps nothing on disk: what it knows (nodes, a
run) is told to it again by the rounds process after every start. Its own certificate is self-signed, because only two
processes on this machine talk to it: the rounds process, and the door, which relays what devices' nodes say.
"""

import os
import secrets
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from aggregator.settings import ServerHome
from fedge.identity.files import PUBLIC, write_file
from fedge.identity.tls import loopback_certificate
from fedge.telemetry import TELEMETRY_SWITCHES

HOST = "127.0.0.1"
SECRET_FILE = "FEDGE_SUPERLINK_SECRET_FILE"  # noqa: S105 - the name of an environment variable
LIFE = timedelta(days=365)
RENEW_BEFORE = timedelta(days=60)
_QUIET = {**TELEMETRY_SWITCHES, "FLWR_LOG_LEVEL": "WARNING"}


@dataclass(frozen=True, slots=True)
class SuperLinkFiles:
    """The folder of one SuperLink."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """PEM, self-signed: what its two clients trust."""
        return self.folder / "superlink.crt"

    @property
    def private_key(self) -> Path:
        """PEM."""
        return self.folder / "superlink.key"

    @property
    def secret(self) -> Path:
        """What the rounds process proves itself with: hexadecimal, one line."""
        return self.folder / "secret"


def prepare_superlink(home: ServerHome, *, now: datetime | None = None) -> SuperLinkFiles:
    """Make the certificate and the secret where they are missing, and the certificate anew when its life runs out."""
    files = SuperLinkFiles(home.superlink)
    files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    moment = now or datetime.now(UTC)
    if not files.secret.exists():
        write_file(files.secret, secrets.token_hex(32).encode())
    if not _usable(files, moment):
        _make_certificate(files, moment)
    return files


def superlink_address(home: ServerHome) -> str:
    """Where this server's SuperLink listens."""
    return f"{HOST}:{home.settings().superlink_port}"


def superlink_command(files: SuperLinkFiles, port: int) -> list[str]:
    """The command of the process: the SuperLink with its guard (`aggregator.rounds.superlink.direct`)."""
    tls = ["--ssl-ca-certfile", files.certificate, "--ssl-certfile", files.certificate, "--ssl-keyfile", files.private_key]
    return [
        sys.executable,
        "-m",
        "aggregator.rounds.superlink.direct",
        *map(str, tls),
        "--host",
        HOST,
        "--port",
        str(port),
        "--enable-supernode-auth",
        # Nothing is started for a run: the rounds process takes the task and runs its own installed code.
        "--isolation",
        "process",
        "--superexec-auth-secret-file",
        str(files.secret),
        "--disable-runtime-dependency-installation",
    ]


def superlink_environment(files: SuperLinkFiles) -> dict[str, str]:
    """This process's environment with what makes flwr quiet and keeps it off the network."""
    return {**os.environ, **_QUIET, "FLWR_HOME": str(files.folder / "flwr"), SECRET_FILE: str(files.secret)}


def run_superlink(home: ServerHome) -> None:
    """Become the SuperLink (`fedge server run superlink`): replaces this process and never returns."""
    files = prepare_superlink(home)
    command = superlink_command(files, home.settings().superlink_port)
    os.execve(command[0], command, superlink_environment(files))  # noqa: S606 - our own interpreter, no shell


def _usable(files: SuperLinkFiles, now: datetime) -> bool:
    if not (files.certificate.exists() and files.private_key.exists()):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except ValueError:
        return False
    return certificate.not_valid_after_utc - now > RENEW_BEFORE


def _make_certificate(files: SuperLinkFiles, now: datetime) -> None:
    certificate, key = loopback_certificate("fedge SuperLink", not_before=now - timedelta(minutes=5), not_after=now + LIFE)
    write_file(files.private_key, key)
    write_file(files.certificate, certificate, mode=PUBLIC)
