"""TLS for what serves devices, from files that are read again when they change: a renewed certificate or a new authority
counts from the next connection on, without a restart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from fedge.errors import InputError
from fedge.identity.files import read_file
from fedge.tls13 import is_assured


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files: the server's certificate and key, and the authorities that sign devices."""

    certificate: Path
    private_key: Path
    client_authority: Path

    def credentials(self, *, client_certificates: bool = True) -> grpc.ServerCredentials:
        """Credentials that follow the files. Raises InputError when one cannot be read now; later, the last good ones stay.

        ``client_certificates``: whether every client must show one (mutual TLS). Without it none is asked for.
        """
        if not is_assured():
            raise InputError("gRPC was imported before fedge, so TLS 1.2 cannot be refused: import aggregator first")
        fetch = self._fetcher()
        first = fetch()
        if first is None:
            first = self._load()
        follow: Any = fetch  # the stubs do not know that None stands for "as before"
        return grpc.dynamic_ssl_server_credentials(first, follow, require_client_authentication=client_certificates)

    def _load(self) -> grpc.ServerCertificateConfiguration:
        pair = read_file(self.private_key), read_file(self.certificate)
        return grpc.ssl_server_certificate_configuration([pair], read_file(self.client_authority))

    def _fetcher(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """Asked by gRPC at each new connection: the new files, or None where nothing changed or they are not readable."""
        seen: object = None

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal seen
            try:
                stamp = [
                    (found.st_mtime_ns, found.st_ino)
                    for found in (path.stat() for path in (self.certificate, self.private_key, self.client_authority))
                ]
                if stamp == seen:
                    return None
                configuration = self._load()
            except (OSError, InputError):
                return None
            seen = stamp
            return configuration

        return fetch
