"""The rounds process's connection to SuperLink: requests over kept connections, without the cost of a full HTTP client.

A round of 16 devices is thousands of small requests on loopback. Fails with SuperLinkLost for anything but an answer.

Kept connections to SuperLink on loopback, one a thread: a round is thousands of small requests.
"""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from flwr.supercore.runtime import RuntimeHttpClient
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

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


TIMEOUT_S = 30.0
Answer = TypeVar("Answer", bound=Protobuf)


class SuperLinkLost(FedgeError):  # noqa: N818 - it comes back
    """SuperLink does not answer, or has forgotten this run: everything there has to be begun again."""


class QuickRuntimeClient(RuntimeHttpClient):
    """Flower's client of a run's API over `http.client`; safe to use from several threads, each with its own connection."""

    def __init__(self, address: str, certificate: bytes, headers: Mapping[str, str]) -> None:
        self._headers = {"content-type": "application/protobuf", "accept": "application/protobuf", **headers}
        self._connections = KeptConnections(address, lambda: certificate.decode("ascii"), timeout_s=TIMEOUT_S)

    def _unary_unary(
        self,
        *,
        path: str,
        rpc_method: str,
        request: Protobuf,
        response_type: type[Answer],
        timeout: float | None = None,
    ) -> Answer:
        try:
            status, body = self._connections.post(path, self._headers, request.SerializeToString(deterministic=True))
        except (OSError, http.client.HTTPException) as error:
            raise SuperLinkLost(f"SuperLink does not answer: {error!r}") from error
        if status != http.HTTPStatus.OK:
            raise SuperLinkLost(f"SuperLink refused {path}: {status} {body[:200].decode(errors='replace')}")
        answer = response_type()
        try:
            answer.ParseFromString(body)
        except DecodeError as error:
            raise SuperLinkLost(f"SuperLink's answer to {path} cannot be read") from error
        return answer

    def close(self) -> None:
        """Close this thread's connection."""
        self._connections.close()
