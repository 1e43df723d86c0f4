"""Kept connections to SuperLink on loopback, one a thread: a round is thousands of small requests."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Mapping

from fedge.errors import FedgeError

IDLE_S = 3.0
"""SuperLink hangs up on a connection that was idle for five seconds; before that, it is opened anew."""


class AnswerTooLargeError(FedgeError):
    """An answer has more bytes than the caller takes in one piece."""


def open_connection(address: str, authority: str, *, timeout_s: float) -> http.client.HTTPSConnection:
    """Return a connection to ``address`` (host:port) that opens at its first request: TLS 1.3, checked by ``authority``."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority)
    return http.client.HTTPSConnection(host, int(port), timeout=timeout_s, context=context)


class KeptConnections:
    """HTTPS to ``address`` (host:port). ``authority`` gives the PEM text that its certificate is checked against, and is
    asked for each new connection: SuperLink may have been given a new certificate.
    """

    def __init__(self, address: str, authority: Callable[[], str], *, timeout_s: float) -> None:
        self._address = address
        self._authority = authority
        self._timeout_s = timeout_s
        self._local = threading.local()

    def post(
        self, path: str, headers: Mapping[str, str], body: bytes, *, max_bytes: int | None = None
    ) -> tuple[int, bytes]:
        """Send one request and return the answer's status and body; nothing is tried twice.

        Raises OSError or HTTPException where no answer came, AnswerTooLargeError for a body of more than ``max_bytes``.
        """
        connection = self._open()
        try:
            connection.request("POST", path, body=body, headers=dict(headers))
            response = connection.getresponse()
            answer = response.status, _read(response, max_bytes)
        except BaseException:
            self.close()
            raise
        self._local.used = time.monotonic()
        return answer

    def close(self) -> None:
        """Close this thread's connection; its next request opens another."""
        found: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if found is not None:
            found.close()

    def _open(self) -> http.client.HTTPSConnection:
        found: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if found is not None and time.monotonic() - self._local.used < IDLE_S:
            return found
        self.close()
        made = open_connection(self._address, self._authority(), timeout_s=self._timeout_s)
        self._local.connection = made
        return made


def _read(response: http.client.HTTPResponse, max_bytes: int | None) -> bytes:
    if max_bytes is None:
        return response.read()
    if (response.length or 0) > max_bytes:
        raise AnswerTooLargeError(f"an answer of {response.length} bytes, more than {max_bytes}")
    body = response.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise AnswerTooLargeError(f"an answer of more than {max_bytes} bytes")
    return body
