"""The rounds process's connection to SuperLink: requests over kept connections, without the cost of a full HTTP client.

A round of 16 devices is thousands of small requests on loopback. Fails with SuperLinkLost for anything but an answer.
"""

import http.client
import ssl
import threading
from collections.abc import Mapping
from typing import TypeVar

from flwr.supercore.runtime import RuntimeHttpClient
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

from fedge.errors import FedgeError

TIMEOUT_S = 30.0
Answer = TypeVar("Answer", bound=Protobuf)


class SuperLinkLost(FedgeError):  # noqa: N818 - it comes back
    """SuperLink does not answer, or has forgotten this run: everything there has to be begun again."""


class QuickRuntimeClient(RuntimeHttpClient):
    """Flower's client of a run's API over `http.client`; safe to use from several threads, each with its own connection."""

    def __init__(self, address: str, certificate: bytes, headers: Mapping[str, str]) -> None:
        self._address = address
        self._headers = {"content-type": "application/protobuf", "accept": "application/protobuf", **headers}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_verify_locations(cadata=certificate.decode("ascii"))
        self._local = threading.local()
        self._opened: list[http.client.HTTPSConnection] = []

    def _unary_unary(
        self,
        *,
        path: str,
        rpc_method: str,
        request: Protobuf,
        response_type: type[Answer],
        timeout: float | None = None,
    ) -> Answer:
        connection = self._connection()
        try:
            connection.request("POST", path, body=request.SerializeToString(deterministic=True), headers=self._headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise SuperLinkLost(f"SuperLink does not answer: {error!r}") from error
        if status != http.HTTPStatus.OK:
            raise SuperLinkLost(f"SuperLink refused {path}: {status} {body[:200].decode(errors='replace')}")
        answer = response_type()
        try:
            answer.ParseFromString(body)
        except DecodeError as error:
            raise SuperLinkLost(f"SuperLink's answer to {path} cannot be read") from error
        return answer

    def _connection(self) -> http.client.HTTPSConnection:
        found: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if found is None:
            host, _, port = self._address.rpartition(":")
            found = http.client.HTTPSConnection(host, int(port), timeout=TIMEOUT_S, context=self._context)
            self._local.connection = found
            self._opened.append(found)
        return found

    def close(self) -> None:
        """Close every thread's connection."""
        for connection in self._opened:
            connection.close()
