"""Kept connections to SuperLink on loopback, one a thread: a round is thousands of small requests."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Mapping

IDLE_S = 3.0
"""SuperLink hangs up on a connection that was idle for five seconds; before that, it is opened anew."""


class KeptConnections:
    """HTTPS to ``address`` (host:port). ``authority`` gives the PEM text that its certificate is checked against, and is
    asked for each new connection: SuperLink may have been given a new certificate.
    """

    def __init__(self, address: str, authority: Callable[[], str], *, timeout_s: float) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._authority = authority
        self._timeout_s = timeout_s
        self._local = threading.local()

    def post(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """One request: status and body. Raises OSError or HTTPException where no answer came; nothing is tried twice."""
        connection = self._open()
        try:
            connection.request("POST", path, body=body, headers=dict(headers))
            response = connection.getresponse()
            answer = response.status, response.read()
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
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self._authority())
        made = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=context)
        self._local.connection = made
        return made
