"""The rounds process's connection to SuperLink: requests over kept connections, without the cost of a full HTTP client.

A round of 16 devices is thousands of small requests on loopback. Fails with SuperLinkLost for anything but an answer.
"""

import http.client
from collections.abc import Mapping
from typing import TypeVar

from flwr.supercore.runtime import RuntimeHttpClient
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

from aggregator.rounds.superlink.kept import KeptConnections
from fedge.errors import FedgeError

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
